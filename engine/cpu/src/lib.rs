//! CPU kernels over the file's own blocks, their naive references, and the worker pool.
//!
//! [`Kernels`] is the facade: one method per operation, one file per operation. Weights are read
//! as they lie in the model file, at any alignment, and never repacked as a whole. Four
//! instruction sets stand behind it ([`Isa`]): `reference` is the definition in naive float32,
//! `portable` runs anywhere, the others use SIMD.
//!
//! **Same bits.** Within a [`Class`] an output element depends only on its weight row, its input
//! row and its KV prefix. The order of every sum is fixed; batch mates, chunk borders, threads,
//! alignment and the cutting of weights into row blocks never change it.
//!
//! UNSAFETY: SIMD intrinsics, and disjoint writes of one output by many threads.
#![expect(
    unsafe_code,
    reason = "SIMD intrinsics and disjoint writes by many threads"
)]

pub mod isa;
pub mod kernels;
pub mod matrix;
pub mod pool;
pub mod weight;

pub mod attention;
pub mod decode;
mod elementwise;
mod gate_up;
pub mod kv;
mod matmul;
mod norm;
mod panel;
mod probe;
mod q8;
pub mod rope;
mod scratch;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
mod reference;

pub use attention::{AttnRow, AttnShape};
pub use isa::{Isa, IsaError};
pub use kernels::{Class, Kernels};
pub use kv::{KV_TOKENS, KvError, KvShape, KvType};
pub use matrix::{Matrix, MatrixError, Mode, Out, Rows};
pub use pool::Pool;
pub use rope::{RopeStyle, RopeTable};
pub use weight::WeightType;
