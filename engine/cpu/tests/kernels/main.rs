//! Kernels of every instruction set against the naive reference, and their bits against every
//! cut.

mod data;

mod attention;
mod products;
