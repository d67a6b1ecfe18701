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
mod pace;
pub mod pool;
mod scratch;

pub mod kernels;

pub mod weight;

pub mod decode;
pub mod matrix;

pub mod kv;

// what the instruction sets agree on
pub mod attention;
mod panel;
mod q8;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
mod reference;

// the operations
mod attend;
mod elementwise;
mod norm;
mod probe;
mod quantise;
pub mod rope;

mod shares;
mod tiles;

mod gate_up;
mod matmul;

pub use attention::{AttnRow, AttnShape, Segment};
pub use isa::{Isa, IsaError};
pub use kernels::{Class, Kernels};
pub use kv::{KV_TOKENS, KvError, KvShape, KvType};
pub use matmul::Product;
pub use matrix::{Matrix, MatrixError, Mode, Out, Rows};
pub use pool::Pool;
pub use rope::{RopeStyle, RopeTable};
pub use weight::WeightType;
