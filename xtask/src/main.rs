//! Tasks of the workspace; `main` only dispatches.
#![forbid(unsafe_code)]

fn main() {}
