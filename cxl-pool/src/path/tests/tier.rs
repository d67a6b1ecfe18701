//! A copy tier in simulation: one path writes to it, one reads from it, both share checksums. On
//! the other side stands mapped memory, or a device behind staging.

use super::*;
use crate::block::stored_spec;
use crate::crc::crc32c;
use crate::sim::SteppedCopier;
use crate::table::{HOMES_PER_BLOCK, SLOTS_PER_BLOCK, block_of, home_slot, slot_of};
use larder_sys::lease::ReadLease;
use larder_sys::slot::PartRange;
use larder_sys::space::DeviceKey;
use smallvec::SmallVec;

mod random;
mod relay;

const TIER_BYTES: u64 = 4 << 20;
const BLOCKS: usize = 8;

struct Tier {
    write: Path,
    read: Path,
    table: Arc<SlotTable>,
    sums: Arc<SumStore>,
    fast: Arc<Space>,
    /// Of the fast tier, where that is a device.
    key: Option<Arc<DeviceKey>>,
    staging: Vec<Arc<Space>>,
    space: Arc<Space>,
    files: MemoryFiles,
    log: Log,
}

/// Where kernels would read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fast {
    Mapped,
    Device,
}

const FASTS: [Fast; 2] = [Fast::Mapped, Fast::Device];

fn tier(seed: u64, link: Link, fast: Fast) -> Tier {
    let files = MemoryFiles::new(vec![vec![0; TIER_BYTES as usize]]);
    let (clock, log, sums) = (VirtualClock::default(), Log::default(), Arc::default());
    let mapping = Mapping::new(8 << 20).expect("memory");
    let (fast, key) = match fast {
        Fast::Mapped => (Space::mapped(mapping), None),
        Fast::Device => {
            let (space, key) = Space::device(mapping);
            (space, Some(Arc::new(key)))
        }
    };
    let mut staging = Vec::new();
    let mut path = |name: &str, seed| {
        let bounce = key.as_ref().map(|key| {
            let buffers = Space::mapped(Mapping::new(1 << 20).expect("memory"));
            staging.push(Arc::clone(&buffers));
            let copier = SteppedCopier::new(Arc::clone(key), link.error / 4.0, seed);
            Bounce::new(buffers, Box::new(copier))
        });
        let parts = PathParts {
            name: name.to_owned(),
            driver: Box::new(SimDriver::new(files.clone(), clock.clone(), link, seed)),
            source: Box::new(files.clone()),
            limit: None,
            bounce,
            disk: None,
        };
        let around = Around {
            clock: Arc::new(clock.clone()),
            outcome: Box::new(log.clone()),
            counters: Arc::default(),
            sums: Arc::clone(&sums),
        };
        Path::new(parts, around)
    };
    Tier {
        write: path("fast>nvme", seed),
        read: path("nvme>fast", !seed),
        table: SlotTable::new(BLOCKS * SLOTS_PER_BLOCK),
        fast,
        key,
        staging,
        space: Space::counted(TIER_BYTES),
        sums,
        files,
        log,
    }
}

/// Bytes of a part that no other part of any version of any block has.
fn pattern(block: usize, version: u64, part: usize, len: u64) -> Vec<u8> {
    let mut random = SplitMix((block as u64) << 40 | version << 8 | part as u64);
    (0..len).map(|_| random.next_u64() as u8).collect()
}

impl Tier {
    /// Puts a block with parts of these lengths into the fast tier, each behind a gap.
    fn make(&self, block: usize, version: u64, lens: &[u64]) {
        let mut parts: SmallVec<[PartRange; 8]> = SmallVec::new();
        let mut end = 0;
        for &len in lens {
            let offset = if lens.len() == 1 { 0 } else { end + 100 };
            parts.push(PartRange { offset, len });
            end = offset + len;
        }
        let extent = self.fast.alloc_low(end).expect("room");
        let slot = slot_of(BlockId::new(block as u32));
        let mut fill = self.table.begin_fill(slot, extent).expect("absent");
        let mut cutter = fill.cutter();
        let mut piece = cutter.cut(cutter.left());
        for (index, range) in parts.iter().enumerate() {
            let bytes = match &self.key {
                Some(key) => piece.device_bytes_mut(key),
                None => piece.bytes_mut(),
            };
            let bytes = &mut bytes[range.offset as usize..][..range.len as usize];
            bytes.copy_from_slice(&pattern(block, version, index, range.len));
        }
        drop((cutter, piece));
        fill.publish(parts);
    }

    fn store(&mut self, block: usize, home: usize) {
        let id = BlockId::new(block as u32);
        let from = self.table.pin(slot_of(id)).expect("ready");
        let extent = self.space.alloc_low(from.extent().1).expect("room");
        let slot = home_slot(id, home);
        let fill = self.table.begin_fill(slot, extent).expect("absent");
        self.write.store(StoreWant {
            block: id,
            from,
            class: Class::Demote,
            due: 0,
            fill,
        });
    }

    fn fetch(&mut self, block: usize, home: usize) {
        let id = BlockId::new(block as u32);
        let pinned = self.table.pin(home_slot(id, home)).expect("ready");
        let spec = Arc::new(stored_spec(&pinned));
        let extent = self.fast.alloc_low(spec.extent_bytes()).expect("room");
        let fill = self.table.begin_fill(slot_of(id), extent).expect("absent");
        self.read.want(Want {
            block: id,
            spec,
            class: Class::Demand,
            due: 0,
            fill,
            is_checked: true,
            pinned: Some(pinned),
        });
    }

    /// Tells the tier that a home is gone; `false` if somebody reads it.
    fn free(&mut self, block: usize, home: usize) -> bool {
        let id = BlockId::new(block as u32);
        let Some(extent) = self.table.evict(home_slot(id, home)) else {
            return false;
        };
        self.write.free(id, Free::evicted(extent));
        true
    }

    fn step(&mut self) {
        for path in [&mut self.write, &mut self.read] {
            path.step(Duration::from_micros(200)).expect("step");
        }
    }

    fn run_until_idle(&mut self) {
        let mut turns = 0;
        while self.write.open_moves() + self.read.open_moves() > 0 {
            self.step();
            turns += 1;
            assert!(turns < 100_000, "every move ends");
        }
    }

    fn lease(&self, block: usize) -> Option<ReadLease> {
        self.table.pin(slot_of(BlockId::new(block as u32)))
    }

    /// A ready block has its own bytes; says whether it was ready.
    fn is_whole(&self, block: usize, version: u64) -> bool {
        let Some(lease) = self.lease(block) else {
            return false;
        };
        for part in 0..lease.parts() {
            let len = lease.part_range(part).len;
            let bytes = match &self.key {
                Some(key) => lease.device_part(key, part),
                None => lease.part(part),
            };
            assert!(
                bytes == pattern(block, version, part, len),
                "part {part} of block {block}"
            );
        }
        true
    }

    fn evict_fast(&self, block: usize) -> bool {
        let slot = slot_of(BlockId::new(block as u32));
        self.table.evict(slot).is_some()
    }

    fn error_of(&self, slot: usize) -> Option<MoveError> {
        let log = self.log.0.lock();
        let mut errors = log.iter().rev();
        errors.find(|(at, _)| *at == slot).map(|(_, e)| e.clone())
    }

    /// Drops everything: then nothing is leased, written or kept back.
    fn drain(&mut self) {
        for block in 0..BLOCKS {
            self.evict_fast(block);
            for home in 0..HOMES_PER_BLOCK {
                self.free(block, home);
            }
        }
        self.run_until_idle();
        assert_eq!((self.fast.used_bytes(), self.space.used_bytes()), (0, 0));
        assert!(self.staging.iter().all(|space| space.used_bytes() == 0));
    }

    fn assert_empty(&mut self) {
        self.drain();
        assert_eq!(self.files.sealed_count(), 0, "the tier forgot everything");
    }
}

#[test]
fn what_was_stored_is_fetched_again() {
    for fast in FASTS {
        let mut tier = tier(1, link(0.0, 0.0, 0.0), fast);
        let lens: [&[u64]; 3] = [&[300_000, 1_200_001, 7], &[1 << 20], &[2_000_000]];
        for round in 0..3 {
            for (block, lens) in lens.iter().enumerate() {
                tier.make(block, round, lens);
                tier.store(block, 0);
                tier.run_until_idle();
                let home = home_slot(BlockId::new(block as u32), 0);
                let (offset, _) = tier.table.pin(home).expect("published").extent();
                let seal = tier.files.sealed(0, offset).expect("sealed");
                let image = tier.files.bytes(0, offset, seal.len);
                let crcs: Vec<u32> = image.chunks(1 << 20).map(crc32c).collect();
                assert_eq!(seal.crcs.as_ref(), crcs, "sums of the object, gaps and all");
                assert!(tier.evict_fast(block), "the store has let its source go");
                tier.fetch(block, 0);
                assert!(!tier.free(block, 0), "pinned while it is read");
                tier.run_until_idle();
                assert!(tier.is_whole(block, round));
                assert!(tier.evict_fast(block) && tier.free(block, 0));
                tier.run_until_idle();
            }
        }
        tier.assert_empty();
    }
}

#[test]
fn a_full_tier_closes_for_stores_and_goes_on_reading() {
    for fast in FASTS {
        let mut tier = tier(2, link(0.0, 0.0, 0.0), fast);
        tier.files.set_room(500_000);
        for block in 0..3 {
            tier.make(block, 0, &[400_000]);
            tier.store(block, 0);
        }
        tier.run_until_idle();
        let homes: Vec<usize> = (0..3).map(|b| home_slot(BlockId::new(b), 0)).collect();
        assert_eq!(tier.table.state(homes[0]), State::Ready);
        for &slot in &homes[1..] {
            assert_eq!(tier.table.state(slot), State::Poisoned);
            let error = tier.error_of(slot).expect("says why");
            assert!(error.is_capacity(), "{error}");
            tier.table.clear_poison(slot);
        }
        assert_eq!(tier.log.1.load(Ordering::Relaxed), 1, "closed once");
        tier.store(2, 1);
        let late = home_slot(BlockId::new(2), 1);
        assert!(tier.error_of(late).expect("refused").is_capacity());
        tier.table.clear_poison(late);
        assert!(tier.evict_fast(0) && tier.evict_fast(1), "sources are free");
        tier.fetch(0, 0);
        tier.run_until_idle();
        assert!(tier.is_whole(0, 0));
        tier.assert_empty();
    }
}

#[test]
fn a_byte_that_changed_on_the_tier_is_found() {
    for fast in FASTS {
        let mut tier = tier(3, link(0.0, 0.0, 0.0), fast);
        tier.make(0, 0, &[100_000, 50_000]);
        tier.store(0, 0);
        tier.run_until_idle();
        let home = home_slot(BlockId::new(0), 0);
        let (offset, _) = tier.table.pin(home).expect("published").extent();
        assert!(tier.evict_fast(0));
        tier.files.flip(0, offset + 120_000);
        tier.fetch(0, 0);
        tier.run_until_idle();
        let error = tier.error_of(slot_of(BlockId::new(0))).expect("found");
        assert!(matches!(error, MoveError::Checksum { mismatch, .. } if mismatch.part == 1));
        tier.table.clear_poison(slot_of(BlockId::new(0)));
        tier.files.flip(0, offset + 120_000);
        tier.fetch(0, 0);
        tier.run_until_idle();
        assert!(tier.is_whole(0, 0));
        tier.assert_empty();
    }
}

#[test]
fn a_cancelled_store_keeps_its_target_until_the_tier_forgot_it() {
    for fast in FASTS {
        let mut tier = tier(4, link(0.0, 0.0, 0.0), fast);
        tier.make(0, 0, &[3_000_000]);
        tier.store(0, 0);
        tier.write.step(Duration::ZERO).expect("step");
        let home = home_slot(BlockId::new(0), 0);
        tier.write.cancel(home);
        assert_eq!(tier.table.state(home), State::Absent);
        assert!(tier.space.used_bytes() > 0, "writes are in flight");
        assert!(!tier.evict_fast(0), "and pin their source");
        tier.run_until_idle();
        assert_eq!(tier.space.used_bytes(), 0);
        assert_eq!(tier.files.freed_count(), 1, "the tier was told");
        assert_eq!(tier.sums.get(BlockId::new(0)), None);
        assert!(tier.is_whole(0, 0));
        tier.store(0, 0);
        tier.write.cancel(home);
        assert_eq!(tier.space.used_bytes(), 0, "it had not begun");
        tier.assert_empty();
    }
}

#[test]
fn a_copy_that_fails_fails_its_move() {
    let mut tier = tier(5, link(0.0, 0.0, 0.0), Fast::Device);
    let key = tier.key.clone().expect("a device");
    let bounce = |error| {
        let buffers = Space::mapped(Mapping::new(1 << 20).expect("memory"));
        let copier = SteppedCopier::new(Arc::clone(&key), error, 5);
        Some(Bounce::new(buffers, Box::new(copier)))
    };
    let (fast, home) = (slot_of(BlockId::new(0)), home_slot(BlockId::new(0), 0));
    tier.make(0, 0, &[2_000_000]);
    tier.write.bounce = bounce(1.0);
    tier.store(0, 0);
    tier.run_until_idle();
    let error = tier.error_of(home).expect("says why").to_string();
    assert!(error.contains("status 700"), "{error}");
    tier.table.clear_poison(home);
    tier.write.bounce = bounce(0.0);
    tier.store(0, 0);
    tier.run_until_idle();
    assert!(tier.evict_fast(0));
    tier.read.bounce = bounce(1.0);
    tier.fetch(0, 0);
    tier.run_until_idle();
    let error = tier.error_of(fast).expect("says why").to_string();
    assert!(error.contains("status 700"), "{error}");
    tier.table.clear_poison(fast);
    tier.read.bounce = bounce(0.0);
    tier.fetch(0, 0);
    tier.run_until_idle();
    assert!(tier.is_whole(0, 0));
    tier.assert_empty();
}
