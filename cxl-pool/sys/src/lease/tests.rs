//! Leases against the promises of the module.

use super::*;
use crate::mapping::Mapping;
use crate::slot::PartRange;
use crate::space::{GRANULE, Space};
use smallvec::SmallVec;

fn memory(granules: u64) -> Arc<Space> {
    Space::mapped(Mapping::new(granules * GRANULE).expect("a few pages"))
}

fn extent(space: &Arc<Space>) -> Extent {
    space.alloc_low(GRANULE).expect("room")
}

fn whole(len: u64) -> SmallVec<[PartRange; 8]> {
    SmallVec::from_slice(&[PartRange { offset: 0, len }])
}

#[test]
fn what_a_fill_wrote_is_what_readers_see() {
    let space = memory(2);
    let table = SlotTable::new(1);
    let mut fill = table.begin_fill(0, extent(&space)).expect("absent");
    let mut cutter = fill.cutter();
    let mut first = cutter.cut(1000);
    let mut second = cutter.cut(GRANULE - 1000);
    first.bytes_mut().fill(1);
    second.bytes_mut().fill(2);
    drop((first, second, cutter));
    fill.publish(whole(GRANULE));
    let lease = table.pin(0).expect("ready");
    assert_eq!(lease.part(0)[999..1001], [1, 2]);
    let other = lease.clone();
    drop(lease);
    assert!(table.evict(0).is_none(), "still pinned by the clone");
    drop(other);
    assert!(table.evict(0).is_some());
    assert_eq!(space.used_bytes(), 0);
}

#[test]
fn a_cancelled_fill_keeps_its_extent_until_the_last_piece_is_home() {
    let space = memory(1);
    let table = SlotTable::new(1);
    let mut fill = table.begin_fill(0, extent(&space)).expect("absent");
    let piece = fill.cutter().cut(GRANULE);
    drop(fill);
    assert_eq!(table.state(0), State::Absent);
    assert_eq!(space.used_bytes(), GRANULE, "quarantined");
    drop(piece);
    assert_eq!(space.used_bytes(), 0);
}

#[test]
fn a_busy_slot_gives_the_extents_back() {
    let space = memory(2);
    let table = SlotTable::new(1);
    let fill = table.begin_fill(0, extent(&space)).expect("absent");
    let refused = table.begin_fill(0, extent(&space));
    assert!(refused.is_err_and(|extent| extent.len() == GRANULE));
    fill.poison();
    assert_eq!(table.state(0), State::Poisoned);
    table.clear_poison(0);
    assert_eq!(table.state(0), State::Absent);
    assert_eq!(space.used_bytes(), 0);
}

#[test]
fn an_append_lease_becomes_a_readable_block() {
    let space = memory(1);
    let table = SlotTable::new(1);
    let extent = space.alloc_high(GRANULE).expect("room");
    let mut tail = table.begin_append(0, extent).expect("absent");
    tail.bytes_mut()[7] = 42;
    assert!(table.pin(0).is_none(), "not before it is published");
    tail.publish(64);
    assert_eq!(table.pin(0).expect("ready").part(0)[7], 42);
}

/// Readers pin and check while another thread evicts and refills with a new pattern each time: a
/// reader never sees two patterns in one block.
#[test]
fn readers_never_see_a_block_change() {
    const ROUNDS: u32 = if cfg!(miri) { 3 } else { 3000 };
    let space = memory(1);
    let table = SlotTable::new(1);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                let mut fill = table.begin_fill(0, extent(&space)).expect("absent");
                let mut piece = fill.cutter().cut(GRANULE);
                piece.bytes_mut().fill(round as u8);
                drop(piece);
                fill.publish(whole(GRANULE));
                while table.evict(0).is_none() {
                    std::thread::yield_now();
                }
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            if let Some(lease) = table.pin(0) {
                let bytes = lease.part(0);
                assert!(bytes.iter().all(|&byte| byte == bytes[0]));
            }
        }
    });
}

#[test]
fn waiters_sleep_until_the_fill_ends() {
    let space = memory(1);
    let table = SlotTable::new(1);
    let fill = table.begin_fill(0, extent(&space)).expect("absent");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let mut state = State::Filling;
            while state == State::Filling {
                state = table.wait_filled(0, Duration::from_secs(10));
            }
            state
        });
        fill.publish(whole(1));
        assert_eq!(waiter.join().expect("no panic"), State::Ready);
    });
}

/// What a device holds has no address for anybody but the device.
#[test]
fn device_bytes_need_the_key() {
    let mapping = || Mapping::new(4 * GRANULE).expect("a few pages");
    let (space, key) = Space::device(mapping());
    let (_, other) = Space::device(mapping());
    let table = SlotTable::new(2);
    let mut fill = table.begin_fill(0, extent(&space)).expect("absent");
    let mut piece = fill.cutter().cut(GRANULE);
    assert!(piece.is_on_device() && space.mapping().is_none());
    piece.device_bytes_mut(&key).fill(7);
    drop(piece);
    fill.publish(whole(GRANULE));
    let lease = table.pin(0).expect("ready");
    assert_eq!(lease.device_part(&key, 0)[9], 7);
    assert_eq!(lease.piece(8, 2).device_bytes(&key), [7, 7]);
    let refused = |access: &dyn Fn()| {
        let access = std::panic::AssertUnwindSafe(access);
        std::panic::catch_unwind(access).is_err()
    };
    assert!(refused(&|| _ = lease.part(0)), "no address for the cpu");
    assert!(refused(&|| _ = lease.piece(0, 1).bytes()));
    assert!(refused(&|| _ = lease.device_part(&other, 0)), "not its key");

    let mut tail = table.begin_append(1, extent(&space)).expect("absent");
    tail.device_bytes_mut(&key)[3] = 9;
    assert!(refused(&|| _ = tail.bytes()));
    tail.publish(64);
    let tail = table.pin(1).expect("ready");
    assert_eq!(tail.device_part(&key, 0)[3], 9);
    let mut scratch = Scratch::new(extent(&space));
    scratch.device_f32_mut(&key)[5] = 2.5;
    assert_eq!(scratch.device_f32(&key)[5].to_bits(), 2.5f32.to_bits());
    assert!(refused(&|| _ = scratch.f32()));
}

#[test]
fn bytes_of_a_foreign_device_have_an_offset_and_nothing_else() {
    let space = Space::foreign(4 * GRANULE);
    let first = extent(&space);
    let table = SlotTable::new(1);
    let mut fill = table.begin_fill(0, extent(&space)).expect("absent");
    let mut cutter = fill.cutter();
    drop(cutter.cut(100));
    let piece = cutter.cut(50);
    assert!(piece.is_on_device());
    assert_eq!(piece.offset(), GRANULE + 100);
    let access = std::panic::AssertUnwindSafe(|| _ = piece.bytes());
    assert!(std::panic::catch_unwind(access).is_err());
    drop((cutter, piece, first));
    fill.publish(whole(150));
    let lease = table.pin(0).expect("ready");
    assert_eq!(lease.piece(20, 30).offset(), GRANULE + 20);
}

#[test]
fn staging_is_filled_then_read_then_given_back() {
    let space = memory(2);
    let mut piece = FillPiece::of(extent(&space), 100);
    piece.bytes_mut().fill(3);
    let piece = ReadPiece::from(piece);
    assert_eq!((piece.len(), piece.bytes()[99]), (100, 3));
    drop(piece);
    assert_eq!(space.used_bytes(), 0);
}
