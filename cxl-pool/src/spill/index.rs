//! The index of a spill on the disk.
//!
//! ```text
//! offset size  all numbers little-endian
//!      0    8  magic "lardSPIL"
//!      8    4  version
//!     12    4  crc32c of everything from byte 16
//!     16    8  bytes of the data file
//!     24    4  groups
//!            then each group:
//!           16  key
//!            4  tokens
//!            4  records
//!                 each record:
//!            8    first byte of the extent in the data file, on a granule
//!            8    bytes of the extent, whole granules
//!            4    parts
//!            4    checksums
//!           16    each part: offset in the extent, bytes
//!            4    each checksum: crc32c of at most 1 MiB of a part, in order
//! ```
//!
//! Nothing that is read is believed: counts are compared with the bytes that are left, extents lie
//! inside the data file and take their place in the space, which has each byte once.

use super::kept::{Kept, KeptRecord};
use crate::checksum::PIECE_MAX;
use crate::crc::crc32c;
use crate::units::GRANULE;
use larder_sys::slot::PartRange;
use larder_sys::space::Space;
use std::sync::Arc;

const MAGIC: [u8; 8] = *b"lardSPIL";
const VERSION: u32 = 1;
/// Bytes before those that the checksum covers.
const HEAD: usize = 16;
/// Bytes before the first group.
const FRONT: u64 = 28;
/// Largest index that is written and read: beyond it the index would take the memory of blocks.
pub(super) const BYTES_MAX: u64 = 128 << 20;

/// Why an index cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum IndexError {
    #[error("{error}")]
    Read { error: std::io::Error },
    #[error("not a file")]
    NotAFile,
    #[error("{bytes} bytes are more than {BYTES_MAX}")]
    TooLarge { bytes: u64 },
    #[error("not an index")]
    Magic,
    #[error("version {found}, this program writes {VERSION}")]
    Version { found: u32 },
    #[error("it ends at byte {at}")]
    Ends { at: usize },
    #[error("checksum is {found:08x}, it says {expected:08x}")]
    Checksum { expected: u32, found: u32 },
    #[error("the data file has {found} bytes, it says {expected}")]
    DataBytes { expected: u64, found: u64 },
    #[error("extent of {len} bytes at {start} is not one of the data file")]
    Extent { start: u64, len: u64 },
    #[error("part of {len} bytes at {offset} is not inside its extent")]
    Part { offset: u64, len: u64 },
    #[error("{found} checksums for parts that have {expected}")]
    Sums { expected: u64, found: u32 },
    #[error("{left} bytes behind the last group")]
    Behind { left: usize },
}

/// What an index says.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) kept: Vec<Kept>,
    /// Groups that do not fit the space any more.
    pub(super) dropped: usize,
}

/// Bytes of the index of `kept`, whose extents are of `space`: of as many groups, from the first,
/// as fit `bytes_max`.
pub(super) fn encode(space: &Arc<Space>, kept: &[Kept], bytes_max: u64) -> Vec<u8> {
    let mut size = FRONT;
    let fitting = kept.iter().take_while(|group| {
        size += encoded_len(group);
        size <= bytes_max
    });
    let kept = &kept[..fitting.count()];
    let mut out = Vec::new();
    out.extend(MAGIC);
    out.extend(VERSION.to_le_bytes());
    out.extend([0; 4]);
    out.extend(space.len().to_le_bytes());
    out.extend((kept.len() as u32).to_le_bytes());
    for group in kept {
        out.extend(group.key);
        out.extend(group.tokens.to_le_bytes());
        out.extend((group.records.len() as u32).to_le_bytes());
        for record in &group.records {
            assert!(
                Arc::ptr_eq(record.extent.space(), space),
                "a spill keeps what it holds"
            );
            out.extend(record.extent.start().to_le_bytes());
            out.extend(record.extent.len().to_le_bytes());
            out.extend((record.parts.len() as u32).to_le_bytes());
            out.extend((record.sums.len() as u32).to_le_bytes());
            for part in &record.parts {
                out.extend(part.offset.to_le_bytes());
                out.extend(part.len.to_le_bytes());
            }
            for sum in record.sums.iter() {
                out.extend(sum.to_le_bytes());
            }
        }
    }
    let crc = crc32c(&out[HEAD..]);
    out[HEAD - 4..HEAD].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Bytes that a group takes.
fn encoded_len(group: &Kept) -> u64 {
    let record = |record: &KeptRecord| 24 + 16 * record.parts.len() + 4 * record.sums.len();
    24 + group.records.iter().map(record).sum::<usize>() as u64
}

/// Reads an index; its extents are taken from `space`, whose file has `data_bytes` now.
pub(super) fn decode(
    bytes: &[u8],
    space: &Arc<Space>,
    data_bytes: u64,
) -> Result<Decoded, IndexError> {
    let mut reader = Reader { bytes, at: 0 };
    if reader.array::<8>()? != MAGIC {
        return Err(IndexError::Magic);
    }
    let version = reader.u32()?;
    if version != VERSION {
        return Err(IndexError::Version { found: version });
    }
    let expected = reader.u32()?;
    let found = crc32c(&bytes[HEAD..]);
    if expected != found {
        return Err(IndexError::Checksum { expected, found });
    }
    let expected = reader.u64()?;
    if expected != data_bytes {
        return Err(IndexError::DataBytes {
            expected,
            found: data_bytes,
        });
    }
    let mut decoded = Decoded {
        kept: Vec::new(),
        dropped: 0,
    };
    let groups = reader.u32()?;
    for _ in 0..groups {
        match group(&mut reader, space, data_bytes)? {
            Some(kept) => decoded.kept.push(kept),
            None => decoded.dropped += 1,
        }
    }
    match bytes.len() - reader.at {
        0 => Ok(decoded),
        left => Err(IndexError::Behind { left }),
    }
}

/// Reads a group; `None` if part of it does not fit the space.
fn group(
    reader: &mut Reader<'_>,
    space: &Arc<Space>,
    data_bytes: u64,
) -> Result<Option<Kept>, IndexError> {
    let key = reader.array()?;
    let tokens = reader.u32()?;
    let count = reader.u32()?;
    let mut records = Vec::new();
    let mut fits = true;
    for _ in 0..count {
        match record(reader, space, data_bytes)? {
            Some(record) => records.push(record),
            None => fits = false,
        }
    }
    Ok(fits.then_some(Kept {
        key,
        tokens,
        records,
    }))
}

fn record(
    reader: &mut Reader<'_>,
    space: &Arc<Space>,
    data_bytes: u64,
) -> Result<Option<KeptRecord>, IndexError> {
    let (start, len) = (reader.u64()?, reader.u64()?);
    let (part_count, sum_count) = (reader.u32()?, reader.u32()?);
    let end = start.checked_add(len).filter(|&end| end <= data_bytes);
    let is_whole = start.is_multiple_of(GRANULE) && len.is_multiple_of(GRANULE) && len > 0;
    let Some(end) = end.filter(|_| is_whole && part_count > 0) else {
        return Err(IndexError::Extent { start, len });
    };
    let mut parts = Vec::new();
    let mut expected = 0u64;
    for _ in 0..part_count {
        let part = PartRange {
            offset: reader.u64()?,
            len: reader.u64()?,
        };
        let (offset, bytes) = (part.offset, part.len);
        if bytes == 0 || offset.checked_add(bytes).is_none_or(|end| end > len) {
            return Err(IndexError::Part { offset, len: bytes });
        }
        expected = expected.saturating_add(bytes.div_ceil(PIECE_MAX));
        parts.push(part);
    }
    if expected != u64::from(sum_count) {
        return Err(IndexError::Sums {
            expected,
            found: sum_count,
        });
    }
    let mut sums = Vec::new();
    for _ in 0..sum_count {
        sums.push(reader.u32()?);
    }
    if end > space.len() {
        return Ok(None);
    }
    let extent = space
        .alloc_at(start, len)
        .ok_or(IndexError::Extent { start, len })?;
    Ok(Some(KeptRecord {
        extent,
        parts: parts.into(),
        sums: sums.into(),
    }))
}

/// Numbers from the front of bytes.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], IndexError> {
        let rest = &self.bytes[self.at..];
        let found = rest.first_chunk().ok_or(IndexError::Ends { at: self.at })?;
        self.at += N;
        Ok(*found)
    }

    fn u32(&mut self) -> Result<u32, IndexError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, IndexError> {
        self.array().map(u64::from_le_bytes)
    }
}
