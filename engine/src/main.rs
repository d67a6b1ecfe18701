//! The `larder` binary.
#![forbid(unsafe_code)]

fn main() {}
