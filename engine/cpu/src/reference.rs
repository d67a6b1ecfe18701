//! The definitions in naive float32: the specification that the fast kernels are tested against.

pub(crate) mod attention;
pub(crate) mod matmul;
pub(crate) mod norm;
