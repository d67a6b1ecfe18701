//! CPU kernels over the file's own blocks, their naive references, and the worker pool.
//!
//! UNSAFETY: SIMD intrinsics, and disjoint writes of one output by many threads.

pub mod weight;
