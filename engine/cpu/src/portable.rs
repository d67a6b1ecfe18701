//! Plain Rust with the structure of the fast kernels: quantised activations, sums in lanes.

pub(crate) mod lanes;

pub(crate) mod attention;
pub(crate) mod matmul;
pub(crate) mod norm;
pub(crate) mod quantise;
