//! Writer of float32 matrices in NumPy's format, version 1.
//!
//! Source: NumPy enhancement proposal 1. The file has no name until it is whole: nothing is left
//! behind by a run that ends early, however it ends.

use super::error::CliError;
use larder_pool::sys::newfile::NewFile;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// The header is padded to a multiple of this.
const ALIGN: usize = 64;

/// A (rows, cols) matrix, written row by row.
pub(super) struct NpyWriter {
    path: PathBuf,
    file: BufWriter<NewFile>,
    rows: usize,
    cols: usize,
}

fn header(rows: usize, cols: usize) -> Vec<u8> {
    let mut text =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {cols}), }}");
    let fixed = 10;
    let padded = (fixed + text.len() + 1).next_multiple_of(ALIGN) - fixed;
    text.extend(std::iter::repeat_n(' ', padded - text.len() - 1));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

impl NpyWriter {
    /// Starts the file. Devices, pipes and folders are refused: naming the file would replace
    /// them.
    pub(super) fn create(path: &Path, rows: usize, cols: usize) -> Result<Self, CliError> {
        let fail = |source| CliError::File {
            path: path.to_owned(),
            source,
        };
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return Err(fail(io::Error::other("exists and is no plain file")));
        }
        let mut file = BufWriter::with_capacity(1 << 20, NewFile::create(path).map_err(fail)?);
        file.write_all(&header(rows, cols)).map_err(fail)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            rows,
            cols,
        })
    }

    fn fail(&self, source: io::Error) -> CliError {
        CliError::File {
            path: self.path.clone(),
            source,
        }
    }

    /// Appends a row.
    pub(super) fn row(&mut self, row: &[f32]) -> Result<(), CliError> {
        assert!(row.len() == self.cols && self.rows > 0, "rows as announced");
        self.rows -= 1;
        for value in row {
            if let Err(error) = self.file.write_all(&value.to_le_bytes()) {
                return Err(self.fail(error));
            }
        }
        Ok(())
    }

    /// Gives the file its name.
    pub(super) fn finish(self) -> Result<(), CliError> {
        assert_eq!(self.rows, 0, "as many rows as announced");
        let Self { path, file, .. } = self;
        file.into_inner()
            .map_err(io::IntoInnerError::into_error)
            .and_then(NewFile::finish)
            .map_err(|source| CliError::File { path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_numpys_and_an_unfinished_file_has_no_name() {
        let folder = tempfile::tempdir().expect("temp folder");
        let path = folder.path().join("l.npy");
        let mut writer = NpyWriter::create(&path, 2, 3).expect("create");
        writer.row(&[1.0, 2.0, 3.0]).expect("row");
        assert_eq!(std::fs::read_dir(folder.path()).expect("list").count(), 0);
        writer.row(&[4.0, 5.0, 6.0]).expect("row");
        writer.finish().expect("finish");
        let bytes = std::fs::read(&path).expect("read");
        assert_eq!(bytes.len() % 4, 0);
        let start = bytes.len() - 24;
        assert_eq!(start % ALIGN, 0);
        assert!(String::from_utf8_lossy(&bytes[10..start]).contains("'shape': (2, 3)"));
        assert_eq!(bytes[start + 20..], 6.0f32.to_le_bytes());
        let writer = NpyWriter::create(&path, 1, 1).expect("create again");
        drop(writer);
        assert_eq!(std::fs::read(&path).expect("the old one stays"), bytes);
    }

    #[test]
    fn devices_and_folders_are_left_alone() {
        let folder = tempfile::tempdir().expect("temp folder");
        for path in [folder.path(), Path::new("/dev/null")] {
            let error = NpyWriter::create(path, 1, 1).err().expect("refused");
            assert_eq!(error.exit_code(), 1);
            assert!(error.to_string().contains(&path.display().to_string()));
        }
    }
}
