//! The source of a model: where the bytes of its blocks stand first (tier `origin`).

use crate::units::GRANULE;
use larder_sys::file::{FileError, SourceFile};
use std::sync::Arc;

/// What a path must know of the files it reads.
pub trait Source: Send {
    /// Name of a file for messages.
    fn name(&self, file: u32) -> String;

    /// Bytes of a file.
    fn file_len(&self, file: u32) -> u64;

    /// Fails if the file is not the one that was opened, unchanged.
    fn check(&self, file: u32) -> Result<(), FileError>;
}

/// Files of this host.
#[derive(Debug, Clone)]
pub struct Files(pub Vec<Arc<SourceFile>>);

impl Source for Files {
    fn name(&self, file: u32) -> String {
        self.0[file as usize].path().display().to_string()
    }

    fn file_len(&self, file: u32) -> u64 {
        self.0[file as usize].len()
    }

    fn check(&self, file: u32) -> Result<(), FileError> {
        self.0[file as usize].check()
    }
}

/// Bytes that a read of `len` at `offset` must bring: fewer at the end of the file, where the
/// last page is not whole.
pub(crate) fn bytes_due(source: &dyn Source, file: u32, offset: u64, len: u64) -> u64 {
    debug_assert!(offset.is_multiple_of(GRANULE), "reads start on a page");
    source.file_len(file).saturating_sub(offset).min(len)
}
