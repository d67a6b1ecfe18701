//! What can be wrong with a model on disk.
//!
//! [`HeaderError`] is about the bytes of one header, [`ModelError`] about a model as a whole;
//! the second wraps the first with the path. Every message is one line.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A name out of a file, shortened and escaped so that it fits into a one-line message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quoted(String);

impl Quoted {
    const CHARS_MAX: usize = 100;

    pub(crate) fn new(name: &str) -> Self {
        let mut short: String = name.chars().take(Self::CHARS_MAX).collect();
        if short.len() < name.len() {
            short.push('…');
        }
        Self(short)
    }
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// Why the header of a file is refused. Offsets count from the start of the file.
#[derive(Debug, Error)]
pub enum HeaderError {
    #[error("read at byte {offset}")]
    Read {
        offset: u64,
        #[source]
        source: io::Error,
    },
    #[error(
        "file ends at byte {file_len}, but {what} at byte {offset} needs {need} more bytes; \
         the file is incomplete or damaged, fetch it again"
    )]
    Truncated {
        what: &'static str,
        offset: u64,
        need: u64,
        file_len: u64,
    },
    #[error("not a GGUF file: begins with {found:02x?}, expected \"GGUF\"")]
    Magic { found: [u8; 4] },
    #[error("GGUF file for big-endian machines; convert it to little-endian")]
    BigEndian,
    #[error("GGUF version {found}, expected 2 or 3; convert the model again with newer tools")]
    Version { found: u32 },
    #[error("{what} at byte {offset} is {found}, expected at most {max}")]
    TooMany {
        what: &'static str,
        offset: u64,
        found: u64,
        max: u64,
    },
    #[error("{what} at byte {offset} is not UTF-8")]
    Utf8 { what: &'static str, offset: u64 },
    #[error("{what} {name} appears a second time at byte {offset}")]
    Duplicate {
        what: &'static str,
        name: Quoted,
        offset: u64,
    },
    #[error("value type {found} at byte {offset}, expected 0 to 12")]
    ValueType { found: u32, offset: u64 },
    #[error("general.alignment is {found}, expected a power of two from 1 to {max}")]
    Alignment { found: String, max: u64 },
    #[error("tensor {name}: {problem}")]
    Tensor {
        name: Quoted,
        problem: TensorProblem,
    },
    #[error("safetensors header at byte 8: {detail}")]
    Json { detail: String },
}

/// Why one tensor of a header is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TensorProblem {
    #[error("has {found} dimensions, expected at most {max}")]
    Rank { found: u64, max: u64 },
    #[error("has a dimension of zero")]
    ZeroDimension,
    #[error("its dimensions multiply to more than 2^63 elements or bytes")]
    Overflow,
    #[error("has rows of {cols} elements, expected a multiple of {block} for type {ty}")]
    PartialBlock {
        cols: u64,
        block: u64,
        ty: &'static str,
    },
    #[error("offset {found} is not a multiple of the alignment {alignment}")]
    Misaligned { found: u64, alignment: u64 },
    #[error(
        "takes bytes {start} to {end}, but the file ends at byte {file_len}; \
         the file is incomplete or damaged, fetch it again"
    )]
    OutOfFile { start: u64, end: u64, file_len: u64 },
    #[error("begins at byte {start}, inside tensor {other}")]
    Overlap { start: u64, other: Quoted },
    #[error("takes {found} bytes, expected {expected} for its type and shape")]
    Length { found: u64, expected: u64 },
}

/// Why a path does not open as a model.
#[derive(Debug, Error)]
pub enum ModelError {
    #[error("open {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{}: {error}", path.display())]
    Header { path: PathBuf, error: HeaderError },
    #[error(
        "{} is {found}; expected a GGUF file or a folder with config.json and *.safetensors",
        path.display()
    )]
    NotAModel { path: PathBuf, found: &'static str },
    #[error("{}: {detail}", path.display())]
    Json { path: PathBuf, detail: String },
    #[error("{} has {found} bytes, expected at most {max}", path.display())]
    TooLarge { path: PathBuf, found: u64, max: u64 },
    #[error("{}: {detail}", path.display())]
    Packed { path: PathBuf, detail: String },
    #[error("{}: {detail}", path.display())]
    Shards { path: PathBuf, detail: String },
    #[error("{}: architecture {found} is not supported; supported: {supported}", path.display())]
    Architecture {
        path: PathBuf,
        found: Quoted,
        supported: String,
    },
    #[error("{}: {key} is missing, expected {expected}", path.display())]
    MissingKey {
        path: PathBuf,
        key: String,
        expected: &'static str,
    },
    #[error("{}: {key} is {found}, expected {expected}", path.display())]
    BadKey {
        path: PathBuf,
        key: String,
        found: String,
        expected: String,
    },
    #[error("{} has no tensors, only metadata; expected a model with weights", path.display())]
    NoTensors { path: PathBuf },
    #[error("{}: tensor {name} is missing, expected shape {expected:?}", path.display())]
    MissingTensor {
        path: PathBuf,
        name: String,
        expected: Vec<u64>,
    },
    #[error("{}: tensor {name} has shape {found:?}, expected {expected:?}", path.display())]
    Shape {
        path: PathBuf,
        name: String,
        found: Vec<u64>,
        expected: Vec<u64>,
    },
    #[error(
        "{}: tensor {name} has type {found}, which no kernel reads; supported: {supported}",
        path.display()
    )]
    TensorType {
        path: PathBuf,
        name: String,
        found: Quoted,
        supported: String,
    },
    #[error(
        "{}: tensor {name} is no part of a {arch} model; larder does not know what to compute \
         with it",
        path.display()
    )]
    UnknownTensor {
        path: PathBuf,
        name: Quoted,
        arch: &'static str,
    },
    #[error("{}: tensor {name} holds {found}, expected {expected}", path.display())]
    Contents {
        path: PathBuf,
        name: &'static str,
        found: f32,
        expected: &'static str,
    },
}

impl ModelError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_path_buf(),
            source,
        }
    }

    /// Adds the path; a failed read keeps its errno as the source.
    pub(crate) fn header(path: &Path, error: HeaderError) -> Self {
        match error {
            HeaderError::Read { source, .. } => Self::io(path, source),
            error => Self::Header {
                path: path.to_path_buf(),
                error,
            },
        }
    }
}
