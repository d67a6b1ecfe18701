//! The file through pread and pwrite, where io_uring is refused.

use super::TierFile;
use crate::lease::Scratch;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub struct PlainFile(File);

impl PlainFile {
    pub const fn new(file: File) -> Self {
        Self(file)
    }
}

impl TierFile for PlainFile {
    fn name(&self) -> &'static str {
        "pread"
    }

    fn write(&self, offset: u64, bytes: Arc<Scratch>) -> io::Result<()> {
        self.0.write_all_at(bytes.bytes(), offset)
    }

    fn read(&self, offset: u64, mut target: Scratch) -> (Scratch, io::Result<()>) {
        let outcome = self.0.read_exact_at(target.bytes_mut(), offset);
        (target, outcome)
    }
}
