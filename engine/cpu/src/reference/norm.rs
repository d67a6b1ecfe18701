//! Root mean square normalisation from the definition.

/// Shapes: all (D).
pub(crate) fn row(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let squares = x.iter().fold(0.0, |sum, x| sum + x * x);
    let scale = 1.0 / (squares / x.len() as f32 + eps).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * weight;
    }
}
