//! Indexes that were damaged, or written to deceive: an empty start and a note, never more.

use super::*;
use crate::crc::crc32c;
use proptest::prelude::*;

fn good() -> (Vec<u8>, u64) {
    let space = Space::counted(64 * GRANULE);
    let kept: Vec<Kept> = (0..3u64)
        .map(|group| Kept {
            key: [group as u8; 16],
            tokens: 64,
            records: (0..2)
                .map(|_| KeptRecord {
                    extent: space.alloc_low(3 * GRANULE).expect("room"),
                    parts: Box::from([
                        PartRange {
                            offset: 0,
                            len: 5000,
                        },
                        PartRange {
                            offset: 5000,
                            len: 100,
                        },
                    ]),
                    sums: Arc::from([1, 2]),
                })
                .collect(),
        })
        .collect();
    (index::encode(&space, &kept, index::BYTES_MAX), space.len())
}

/// Writes the checksum that fits.
fn seal(bytes: &mut [u8]) {
    if bytes.len() >= 16 {
        let crc = crc32c(&bytes[16..]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    }
}

#[test]
fn an_index_is_read_as_written() {
    let (bytes, len) = good();
    let space = Space::counted(len);
    let decoded = index::decode(&bytes, &space, len).expect("good");
    assert_eq!(decoded.kept.len(), 3);
    assert_eq!(space.used_bytes(), 18 * GRANULE);
    assert_eq!(
        index::encode(&space, &decoded.kept, index::BYTES_MAX),
        bytes
    );
}

#[test]
fn an_index_has_an_end() {
    let (bytes, len) = good();
    let read = |bytes: &[u8]| {
        let space = Space::counted(len);
        let decoded = index::decode(bytes, &space, len).expect("good");
        (decoded.kept, space)
    };
    let (kept, space) = read(&bytes);
    let group = (bytes.len() - 28) / 3;
    for (max, count) in [
        (bytes.len(), 3),
        (bytes.len() - 1, 2),
        (28 + group, 1),
        (28, 0),
    ] {
        let short = index::encode(&space, &kept, max as u64);
        assert!(short.len() <= max);
        assert_eq!(read(&short).0.len(), count);
    }
}

#[test]
fn each_kind_of_damage_has_its_word() {
    let (bytes, len) = good();
    let changed = |at: usize, value: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        seal(&mut bytes);
        bytes
    };
    let mut behind = bytes.clone();
    behind.push(0);
    seal(&mut behind);
    // Offsets of the first record, see the diagram of the index.
    let (record, part) = (28 + 24, 28 + 24 + 24);
    let cases: [(Vec<u8>, &str); 11] = [
        (Vec::new(), "ends at byte 0"),
        (bytes[..100].to_vec(), "checksum"),
        (changed(0, b"x"), "not an index"),
        (changed(8, &[9]), "version 9"),
        (changed(16, &[1]), "data file"),
        (changed(24, &[200]), "ends"),
        (changed(record, &[1]), "extent"),
        (changed(record + 8, &u64::MAX.to_le_bytes()), "extent"),
        (changed(record + 8, &(4 * GRANULE).to_le_bytes()), "extent"),
        (changed(part, &u64::MAX.to_le_bytes()), "part"),
        (behind, "behind"),
    ];
    for (bytes, word) in cases {
        let space = Space::counted(len);
        let error = index::decode(&bytes, &space, len).expect_err(word);
        assert!(error.to_string().contains(word), "{error} has no {word:?}");
        assert_eq!(space.used_bytes(), 0);
    }
}

#[test]
fn a_damaged_index_is_a_note_and_an_empty_start() {
    let folder = tempfile::tempdir().expect("temp folder");
    for damage in 0..3 {
        let bench = open(folder.path()).expect("opens");
        assert_eq!(bench.spill.notes().len(), usize::from(damage > 0));
        bench.make(0);
        bench.spill(0).expect("written");
        bench.close(1);
        let path = folder.path().join(INDEX);
        match damage {
            0 => {
                let mut bytes = std::fs::read(&path).expect("there");
                bytes[60] ^= 4;
                std::fs::write(&path, bytes).expect("write");
            }
            1 => std::fs::remove_file(folder.path().join(DATA)).expect("remove"),
            _ => std::fs::write(&path, "").expect("write"),
        }
    }
    let mut bench = open(folder.path()).expect("opens");
    assert_eq!(bench.take_over(), 0);
    assert!(bench.spill.notes()[0].contains("starts empty"));
    assert!(!folder.path().join(INDEX).exists(), "not found again");
}

proptest! {
    /// Whatever bytes an index has, with a checksum that fits: no panic, and what is taken over
    /// is inside the data file and nothing twice.
    #[test]
    fn mutated_indexes_never_overlap_or_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let (mut bytes, len) = good();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        seal(&mut bytes);
        let space = Space::counted(len);
        if let Ok(decoded) = index::decode(&bytes, &space, len) {
            let records = decoded.kept.iter().flat_map(|kept| &kept.records);
            let bytes: u64 = records.map(|record| record.extent.len()).sum();
            prop_assert_eq!(space.used_bytes(), bytes);
        } else {
            prop_assert_eq!(space.used_bytes(), 0);
        }
    }
}
