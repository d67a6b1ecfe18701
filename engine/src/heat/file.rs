//! Heat in a file, for engines without a pinned array.
//!
//! ```text
//! 0         8        12       16            48                    48 + 8n   80 + 8n
//! | LARDHEAT | version | n u32 | model 32 B  | n counts, u64 each  | blake3  |
//! ```
//!
//! All numbers are little-endian; count `i` is the uses of block `i`. The last part is the hash of
//! all bytes before it. A file appears whole or not at all.

use larder_pool::sys::newfile::NewFile;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"LARDHEAT";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 48;
const SUM_BYTES: usize = 32;

/// The heat of earlier runs is of no use, or that of this one is not kept.
#[derive(Debug, thiserror::Error)]
pub enum HeatFileError {
    #[error("{} holds no heat and is left alone; give --warm another file", path.display())]
    Foreign { path: PathBuf },
    #[error("{} is of version {found}, not {VERSION}, and left alone; remove it", path.display())]
    OtherVersion { path: PathBuf, found: u32 },
    #[error("{} is heat of another model and left alone; give --warm another file", path.display())]
    OtherModel { path: PathBuf },
    #[error("{} is damaged: heat begins anew", path.display())]
    Damaged { path: PathBuf },
    #[error("read {}: {source}; heat is not kept", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("write {}: {source}; heat is not kept", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl HeatFileError {
    /// The file is ours, and nothing is lost with it.
    pub const fn may_be_replaced(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }
}

/// Counts of a model with this hash and so many blocks; `None` if nothing was kept yet.
pub(super) fn read(
    path: &Path,
    model: [u64; 4],
    blocks: usize,
) -> Result<Option<Vec<u64>>, HeatFileError> {
    let path_of = || path.to_path_buf();
    let fail = |source| HeatFileError::Read {
        path: path_of(),
        source,
    };
    // A pipe would be waited for, a device may never end.
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Err(HeatFileError::Foreign { path: path_of() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    }
    let whole = HEAD_BYTES + 8 * blocks + SUM_BYTES;
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(fail)?;
    // One byte more shows that there is more.
    let read = file.take(whole as u64 + 1).read_to_end(&mut bytes);
    read.map_err(fail)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    if !bytes.starts_with(MAGIC) {
        return Err(HeatFileError::Foreign { path: path_of() });
    }
    let damaged = || HeatFileError::Damaged { path: path_of() };
    let word = |at: usize| {
        let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
        word.map(u32::from_le_bytes).ok_or_else(damaged)
    };
    let found = word(8)?;
    if found != VERSION {
        let path = path_of();
        return Err(HeatFileError::OtherVersion { path, found });
    }
    let head = head(model, blocks);
    if bytes.get(..HEAD_BYTES).ok_or_else(damaged)? != head {
        return Err(HeatFileError::OtherModel { path: path_of() });
    }
    if bytes.len() != whole || bytes[whole - SUM_BYTES..] != sum(&bytes[..whole - SUM_BYTES]) {
        return Err(damaged());
    }
    let counts = bytes[HEAD_BYTES..whole - SUM_BYTES].chunks_exact(8);
    let count = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("chunks of eight"));
    Ok(Some(counts.map(count).collect()))
}

/// Puts a file with `counts` in place of what is there.
pub(super) fn write(path: &Path, model: [u64; 4], counts: &[u64]) -> Result<(), HeatFileError> {
    let mut bytes = head(model, counts.len());
    bytes.extend(counts.iter().flat_map(|count| count.to_le_bytes()));
    bytes.extend(sum(&bytes));
    let put = || {
        let mut file = NewFile::create(path)?;
        file.write_all(&bytes)?;
        file.finish()
    };
    put().map_err(|source| HeatFileError::Write {
        path: path.to_path_buf(),
        source,
    })
}

fn head(model: [u64; 4], blocks: usize) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((blocks as u32).to_le_bytes());
    bytes.extend(model.iter().flat_map(|word| word.to_le_bytes()));
    bytes
}

fn sum(bytes: &[u8]) -> [u8; SUM_BYTES] {
    blake3::derive_key("larder heat file 1", bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: [u64; 4] = [1, 2, 3, 4];

    #[test]
    fn what_is_kept_comes_back_and_everything_else_is_told_apart() {
        let folder = tempfile::tempdir().expect("temp folder");
        let path = folder.path().join("heat");
        let get = || read(&path, MODEL, 3);
        assert!(get().expect("no file").is_none());
        std::fs::write(&path, "").expect("written");
        assert!(get().expect("an empty file").is_none());
        write(&path, MODEL, &[7, 0, u64::MAX]).expect("written");
        assert_eq!(get().expect("read"), Some(vec![7, 0, u64::MAX]));

        let good = std::fs::read(&path).expect("read");
        let with = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("written");
            get().expect_err("of no use")
        };
        for cut in 8..good.len() {
            assert!(with(&good[..cut]).may_be_replaced(), "{cut} bytes");
        }
        assert!(with(&[&good[..], b"x"].concat()).may_be_replaced());
        for at in HEAD_BYTES..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            assert!(with(&bytes).may_be_replaced(), "bit of byte {at}");
        }
        for (at, part) in [(0, "no heat"), (8, "version"), (12, "model"), (16, "model")] {
            let mut bytes = good.clone();
            bytes[at] ^= 2;
            let error = with(&bytes);
            let said = error.to_string();
            assert!(said.contains(part) && !error.may_be_replaced(), "{said}");
        }
        let other = read(folder.path(), MODEL, 3).expect_err("a folder");
        assert!(!other.may_be_replaced());
        assert!(write(&folder.path().join("none/heat"), MODEL, &[]).is_err());
    }
}
