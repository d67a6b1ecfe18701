//! The spill over real files: a mover with the two paths, clean stops and kills, damaged indexes.

mod damage;
mod device;
mod processes;

use super::*;
use crate::block::stored_spec;
use crate::clock::RealClock;
use crate::mover::{Mover, Request, Store};
use crate::table::{block_table, home_slot, slot_of};
use crate::transfer::{Class, MoveError};
use crate::units::{BlockId, PathId};
use larder_sys::mapping::Mapping;
use larder_sys::slot::{PartRange, State};
use smallvec::SmallVec;

const READ: PathId = PathId::new(0);
const WRITE: PathId = PathId::new(1);
const SPILL_BYTES: u64 = 16 << 20;
const BLOCKS: u32 = 4;

struct Bench {
    spill: Spill,
    mover: Mover,
    dram: Arc<Space>,
}

fn open(folder: &Path) -> Result<Bench, SpillError> {
    let spill = Spill::open(folder, SPILL_BYTES)?;
    let dram = Space::mapped(Mapping::new(8 << 20).expect("memory"));
    let (read, write) = spill.parts("nvme", &dram, None);
    let table = block_table(BLOCKS as usize);
    let mover =
        Mover::start(table, vec![read, write], Arc::new(RealClock::new())).expect("threads");
    Ok(Bench { spill, mover, dram })
}

fn content(block: u32) -> Vec<u8> {
    (0..1_500_000u32)
        .map(|i| (i ^ (i >> 8) ^ (block * 77)) as u8)
        .collect()
}

impl Bench {
    /// Makes a block in memory, as if it had been computed.
    fn make(&self, block: u32) {
        let data = content(block);
        let extent = self.dram.alloc_low(data.len() as u64).expect("room");
        let slot = slot_of(BlockId::new(block));
        let table = self.mover.table();
        let mut fill = table.begin_fill(slot, extent).expect("absent");
        let mut piece = fill.cutter().cut(data.len() as u64);
        piece.bytes_mut().copy_from_slice(&data);
        drop(piece);
        let half = data.len() as u64 / 2;
        let part = |offset| PartRange { offset, len: half };
        fill.publish(SmallVec::from_slice(&[part(half), part(0)]));
    }

    /// Stores a block and drops it from memory.
    fn spill(&self, block: u32) -> Result<(), MoveError> {
        let id = BlockId::new(block);
        let from = self.mover.table().pin(slot_of(id)).expect("ready");
        let target = self.spill.space().alloc_low(from.extent().1);
        let store = Store {
            block: id,
            from,
            slot: home_slot(id, 0),
            class: Class::Demote,
            due: 0,
        };
        let target = target.expect("room");
        assert!(self.mover.store(WRITE, store, target).is_ok());
        drop(self.mover.wait(home_slot(id, 0))?);
        assert!(self.mover.table().evict(slot_of(id)).is_some());
        Ok(())
    }

    /// Fetches a block and compares it.
    fn fetch(&self, block: u32) -> Result<(), MoveError> {
        let id = BlockId::new(block);
        let home = self.mover.table().pin(home_slot(id, 0)).expect("ready");
        let spec = Arc::new(stored_spec(&home));
        let extent = self.dram.alloc_low(spec.extent_bytes()).expect("room");
        let request = Request {
            block: id,
            slot: slot_of(id),
            spec,
            class: Class::Demand,
            due: 0,
            is_checked: true,
            pinned: Some(home),
        };
        assert!(self.mover.want(READ, request, extent).is_ok());
        let lease = self.mover.wait(slot_of(id))?;
        let data = content(block);
        assert!(lease.part(1) == &data[..data.len() / 2]);
        assert!(lease.part(0) == &data[data.len() / 2..]);
        Ok(())
    }

    /// Ends the run, keeping blocks `0..count`.
    fn close(self, count: u32) {
        let record = |block| {
            let home = home_slot(BlockId::new(block), 0);
            KeptRecord::take(&self.mover, home).expect("stored")
        };
        let kept: Vec<Kept> = (0..count)
            .map(|block| Kept {
                key: [block as u8; 16],
                tokens: 64 + block,
                records: vec![record(block)],
            })
            .collect();
        drop(self.mover);
        self.spill.close(&kept).expect("index");
    }

    /// Takes what was kept into the home slots; how many blocks that were.
    fn take_over(&mut self) -> usize {
        let kept = self.spill.take_index();
        for group in &kept {
            assert_eq!(group.tokens, 64 + u32::from(group.key[0]));
        }
        let count = kept.len();
        for group in kept {
            for record in group.records {
                let home = home_slot(BlockId::new(u32::from(group.key[0])), 0);
                assert!(record.give(&self.mover, home).is_ok());
            }
        }
        count
    }
}

#[test]
fn what_is_spilled_comes_back_and_its_room_too() {
    let folder = tempfile::tempdir().expect("temp folder");
    let bench = open(&folder.path().join("a/b")).expect("makes the folder");
    for block in 0..BLOCKS {
        bench.make(block);
        bench.spill(block).expect("written");
    }
    for block in (0..BLOCKS).rev() {
        bench.fetch(block).expect("read");
        assert!(bench.mover.free(WRITE, home_slot(BlockId::new(block), 0)));
    }
    let moved = |path| {
        let counters = bench.mover.counters(path);
        counters.bytes.load(std::sync::atomic::Ordering::Relaxed)
    };
    assert!(moved(READ) == moved(WRITE) && moved(READ) >= 4 * 1_500_000);
    let Bench { mover, spill, .. } = bench;
    assert_eq!(mover.paths()[1].name, "dram>nvme");
    drop(mover);
    assert_eq!(spill.space().used_bytes(), 0);
}

#[test]
fn a_clean_stop_is_taken_over_and_still_checked() {
    let folder = tempfile::tempdir().expect("temp folder");
    let bench = open(folder.path()).expect("opens");
    for block in 0..3 {
        bench.make(block);
        bench.spill(block).expect("written");
    }
    let lease = bench.mover.table().pin(home_slot(BlockId::new(2), 0));
    let (offset, _) = lease.expect("stored").extent();
    bench.close(3);

    let data = std::fs::OpenOptions::new()
        .write(true)
        .open(folder.path().join(DATA));
    std::os::unix::fs::FileExt::write_all_at(&data.expect("there"), b"no", offset + 700_000)
        .expect("write");
    let mut bench = open(folder.path()).expect("opens");
    assert_eq!((bench.take_over(), bench.take_over()), (3, 0), "once");
    bench.fetch(0).expect("as it was");
    bench.fetch(1).expect("as it was");
    let error = bench.fetch(2).expect_err("changed on the disk");
    assert!(matches!(error, MoveError::Checksum { .. }), "{error}");
    bench.make(3);
    bench.spill(3).expect("beside what was kept");
    bench.fetch(3).expect("read");
    drop(bench);

    let mut bench = open(folder.path()).expect("opens");
    assert_eq!(bench.take_over(), 0, "the last run did not end cleanly");
    assert_eq!(bench.spill.space().used_bytes(), 0);
}

#[test]
fn a_smaller_spill_keeps_what_still_fits() {
    let folder = tempfile::tempdir().expect("temp folder");
    let bench = open(folder.path()).expect("opens");
    for block in 0..2 {
        bench.make(block);
        bench.spill(block).expect("written");
    }
    bench.close(2);
    let mut spill = Spill::open(folder.path(), 2 << 20).expect("opens");
    let kept = spill.take_index();
    assert_eq!((kept.len(), kept[0].key[0]), (1, 0));
    assert!(spill.notes().iter().any(|note| note.starts_with("1 of")));
}

#[test]
fn what_cannot_be_a_spill_is_refused_in_one_line() {
    let folder = tempfile::tempdir().expect("temp folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "x").expect("write");
    for (path, bytes, word) in [
        (file.as_path(), 1 << 20, "file"),
        (folder.path(), 100, "100 bytes"),
        (folder.path(), u64::MAX, "size"),
    ] {
        let error = Spill::open(path, bytes).expect_err("refused").to_string();
        assert!(error.contains(word) && !error.contains('\n'), "{error}");
    }
}
