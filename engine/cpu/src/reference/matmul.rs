//! Dot products from the definition.

use crate::decode::decode;
use crate::panel::Panel;

/// Decodes each weight row and sums its products in order.
///
/// Shapes: `tile` (xn, wn); `work` at least (K).
pub(crate) fn panel(panel: &Panel<'_>, tile: &mut [f32], work: &mut [f32]) {
    let cols = panel.w.cols();
    let row = &mut work[..cols];
    for j in 0..panel.wn {
        decode(panel.w.ty(), panel.w.row(panel.w0 + j), row);
        for r in 0..panel.xn {
            let x = &panel.x.f32[(panel.x0 + r) * cols..][..cols];
            let dot = row.iter().zip(x).fold(0.0, |sum, (w, x)| sum + w * x);
            tile[r * panel.wn + j] = dot;
        }
    }
}
