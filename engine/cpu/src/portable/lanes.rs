//! Sums in sixteen lanes, which compilers turn into whatever vectors the target has.

/// Sixteen partial sums.
pub(crate) type Lanes = [f32; 16];

/// Adds the lanes pairwise: halves, quarters, eighths, neighbours.
pub(crate) fn sum(mut lanes: Lanes) -> f32 {
    for width in [8, 4, 2, 1] {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
    }
    lanes[0]
}

/// Dot product with element i in lane i mod 16 of chain i / 16 mod 2.
///
/// Shapes: `a` and `b` of equal length.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut chains = [[0.0; 16]; 2];
    for (i, (a, b)) in a.chunks(16).zip(b.chunks(16)).enumerate() {
        let chain = &mut chains[i % 2];
        for ((lane, a), b) in chain.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    let [even, odd] = chains;
    sum(std::array::from_fn(|lane| even[lane] + odd[lane]))
}
