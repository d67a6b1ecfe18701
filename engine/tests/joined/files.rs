//! The program and the models: where they were built or, for a user who may not read there, in the
//! folder that the test is run in.

use std::path::{Path, PathBuf};

pub(crate) fn larder() -> PathBuf {
    reachable(env!("CARGO_BIN_EXE_larder"), "larder")
}

/// A file of `engine/assets`.
pub(crate) fn asset(name: &str) -> PathBuf {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/assets");
    reachable(built, "assets").join(name)
}

fn reachable(built: &str, here: &str) -> PathBuf {
    if Path::new(built).exists() {
        return PathBuf::from(built);
    }
    std::path::absolute(here).expect("the test runs somewhere")
}
