//! The engine on the models that the repository carries.
#![forbid(unsafe_code)]

mod grammar;
mod support;

mod golden;
mod packed;
mod pressure;
mod probes;
mod routing;
mod spill;
mod same_bits;
mod stories;
