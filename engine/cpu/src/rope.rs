//! Rotary position embedding.

use crate::kernels::Kernels;
use crate::scratch::SharedSlice;

/// Which elements of a head form a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeStyle {
    /// (2i, 2i + 1): GGUF's llama family.
    Adjacent,
    /// (i, i + d/2): Hugging Face, NeoX.
    Halves,
}

/// Cosines and sines of some positions.
///
/// Shapes: `cos`, `sin` (rows, half); half is at most head_dim / 2, elements beyond the
/// rotated ones pass unchanged.
#[derive(Clone, Debug)]
pub struct RopeTable {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeTable {
    /// Computes the angles of `positions` for `dims` rotated elements of a head.
    ///
    /// Angle i of position p is `p / (theta^(2i / dims) * factors[i])`, in float32 like Hugging
    /// Face: first the inverse frequency, then its product with the position. `scale` multiplies
    /// cosine and sine (YaRN's attention factor; 1 otherwise).
    ///
    /// Shapes: `factors` (dims / 2). Source: Su et al., RoFormer, 2021.
    pub fn new(
        positions: &[usize],
        dims: usize,
        theta: f32,
        factors: Option<&[f32]>,
        scale: f32,
    ) -> Self {
        assert!(
            dims.is_multiple_of(2),
            "{dims} rotated elements are no pairs"
        );
        let half = dims / 2;
        if let Some(factors) = factors {
            assert_eq!(factors.len(), half, "frequency factors");
        }
        let inverse = |i: usize| {
            let inverse = 1.0 / theta.powf((2 * i) as f32 / dims as f32);
            factors.map_or(inverse, |factors| inverse / factors[i])
        };
        let inverses: Vec<f32> = (0..half).map(inverse).collect();
        Self::from_inverse_frequencies(positions, &inverses, scale)
    }

    /// As [`RopeTable::new`], with inverse frequencies of the caller's own making.
    ///
    /// Shapes: `inverses` (half).
    pub fn from_inverse_frequencies(positions: &[usize], inverses: &[f32], scale: f32) -> Self {
        let angles = positions.iter().flat_map(|position| {
            inverses
                .iter()
                .map(move |inverse| *position as f32 * inverse)
        });
        let (sin, cos) = angles
            .map(f32::sin_cos)
            .map(|(s, c)| (s * scale, c * scale))
            .unzip();
        Self {
            half: inverses.len(),
            cos,
            sin,
        }
    }

    fn row(&self, row: usize) -> (&[f32], &[f32]) {
        let range = row * self.half..(row + 1) * self.half;
        (&self.cos[range.clone()], &self.sin[range])
    }
}

impl Kernels {
    /// Rotates the heads of each row in place by the angles of the same row of `table`.
    ///
    /// Shapes: `x` (rows, heads, head_dim).
    pub fn rope(
        &self,
        x: &mut [f32],
        rows: usize,
        heads: usize,
        head_dim: usize,
        style: RopeStyle,
        table: &RopeTable,
    ) {
        assert_eq!(x.len(), rows * heads * head_dim, "elements of {rows} rows");
        assert_eq!(table.cos.len(), rows * table.half, "rows of the rope table");
        assert!(
            2 * table.half <= head_dim,
            "rotated elements exceed the head"
        );
        let cols = heads * head_dim;
        let shared = SharedSlice::new(x);
        let grain = ((16 << 10) / cols.max(1)).max(1);
        self.for_ranges(rows, grain, |row0, count, _| {
            for row in row0..row0 + count {
                // SAFETY: each row belongs to one task.
                let x = unsafe { shared.part(row * cols, cols) };
                let (cos, sin) = table.row(row);
                for head in x.chunks_exact_mut(head_dim) {
                    rotate(head, style, cos, sin);
                }
            }
        });
    }
}

/// Rotates one head.
///
/// Shapes: `head` (head_dim); `cos`, `sin` (half).
fn rotate(head: &mut [f32], style: RopeStyle, cos: &[f32], sin: &[f32]) {
    let half = cos.len();
    let angles = cos.iter().zip(sin);
    match style {
        RopeStyle::Adjacent => {
            for (pair, (cos, sin)) in head.as_chunks_mut::<2>().0.iter_mut().zip(angles) {
                let [a, b] = *pair;
                *pair = [a * cos - b * sin, b * cos + a * sin];
            }
        }
        RopeStyle::Halves => {
            let (low, high) = head.split_at_mut(half);
            for ((a, b), (cos, sin)) in low.iter_mut().zip(high).zip(angles) {
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Isa, Pool};
    use std::sync::Arc;

    #[test]
    fn both_styles_rotate_the_same_pairs() {
        let kernels = Kernels::new(Isa::Portable, Arc::new(Pool::new(2))).expect("portable runs");
        let positions = [0, 3, 1000];
        let table = RopeTable::new(&positions, 6, 10_000.0, Some(&[1.0, 2.0, 4.0]), 1.0);
        let adjacent: Vec<f32> = (0..3 * 2 * 8).map(|i| (i as f32 * 0.7).sin()).collect();
        let to_halves = [0, 2, 4, 1, 3, 5, 6, 7];
        let halves: Vec<f32> = adjacent
            .chunks(8)
            .flat_map(|head| to_halves.map(|i| head[i]))
            .collect();
        let (mut a, mut b) = (adjacent.clone(), halves);
        kernels.rope(&mut a, 3, 2, 8, RopeStyle::Adjacent, &table);
        kernels.rope(&mut b, 3, 2, 8, RopeStyle::Halves, &table);
        let moved: Vec<f32> = a
            .chunks(8)
            .flat_map(|head| to_halves.map(|i| head[i]))
            .collect();
        assert_eq!(moved, b);
        assert_eq!(a[..16], adjacent[..16], "position 0 stays");
        assert_eq!(
            a[6..8],
            adjacent[6..8],
            "elements beyond the rotated ones stay"
        );
        let (angle, head) = (
            3.0_f64 / 10_000_f64.powf(2.0 / 6.0) / 2.0,
            &adjacent[16..24],
        );
        let expected = f64::from(head[2]) * angle.cos() - f64::from(head[3]) * angle.sin();
        assert!((f64::from(a[18]) - expected).abs() < 1e-6);
    }
}
