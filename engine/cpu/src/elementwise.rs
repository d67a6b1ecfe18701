//! Sums of activations.

use crate::kernels::Kernels;

impl Kernels {
    /// Adds `y` to `x`: the residual stream.
    ///
    /// Shapes: equal.
    pub fn add(&self, x: &mut [f32], y: &[f32]) {
        self.add_scaled(x, y, 1.0);
    }

    /// Adds `scale * y` to `x`: an expert's output by its router weight. A call per rank, in
    /// rank order, keeps the order of the sum.
    ///
    /// Shapes: equal.
    pub fn add_scaled(&self, x: &mut [f32], y: &[f32], scale: f32) {
        assert_eq!(x.len(), y.len(), "elements of both operands");
        for (x, y) in x.iter_mut().zip(y) {
            *x += scale * y;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Isa, Kernels, Pool};
    use std::sync::Arc;

    #[test]
    fn adds() {
        let kernels = Kernels::new(Isa::Portable, Arc::new(Pool::new(1))).expect("portable runs");
        let mut x = [1.0, 2.0];
        kernels.add(&mut x, &[0.5, -2.0]);
        kernels.add_scaled(&mut x, &[2.0, 4.0], 0.25);
        assert_eq!(x, [2.0, 1.0]);
    }
}
