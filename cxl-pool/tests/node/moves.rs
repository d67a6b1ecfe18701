//! Blocks that come from a node through the mover, as the engine asks for them.

use crate::support::*;
use larder_pool::block::{BlockSpec, Run};
use larder_pool::clock::RealClock;
use larder_pool::mover::{Mover, PathParts, Request};
use larder_pool::sys::lease::SlotTable;
use larder_pool::sys::mapping::Mapping;
use larder_pool::sys::space::Space;
use larder_pool::transfer::{Class, MoveError};
use larder_pool::units::{BlockId, PathId};
use std::sync::Arc;

fn request(spec: &Arc<BlockSpec>, slot: usize) -> Request {
    Request {
        block: BlockId::new(slot as u32),
        slot,
        spec: Arc::clone(spec),
        class: Class::Prefetch,
        due: slot as u64,
        is_checked: true,
        pinned: None,
    }
}

#[test]
fn blocks_come_through_the_mover_and_a_lost_node_is_an_error() {
    let mut node = node(64 * MIB);
    let client = client(&node);
    let lens = [100_000, 3_333_333, 8 << 20];
    let objects: Vec<_> = (0..3).map(|i| content(i, lens[i as usize])).collect();
    let put = |bytes: &Vec<u8>| client.put_object(bytes).expect("put");
    let hashes: Vec<_> = objects.iter().map(put).collect();
    let (driver, source) = client.read_objects(&hashes).expect("opens");
    let table = SlotTable::new(4);
    let parts = PathParts {
        name: "remote>dram".to_owned(),
        driver,
        source: Box::new(source),
        limit: None,
        bounce: None,
        disk: None,
    };
    let mover =
        Mover::start(Arc::clone(&table), vec![parts], Arc::new(RealClock::new())).expect("threads");
    let space = Space::mapped(Mapping::new(64 * MIB).expect("memory"));
    let specs: Vec<_> = objects
        .iter()
        .enumerate()
        .map(|(file, bytes)| {
            // Two parts with a gap between them, the last one up to the object's end.
            let (file, len) = (file as u32, bytes.len() as u64);
            let runs = [
                Run {
                    file,
                    offset: 10,
                    len: 5000,
                },
                Run {
                    file,
                    offset: 20_000,
                    len: len - 20_000,
                },
            ];
            Arc::new(BlockSpec::from_ranges(&runs))
        })
        .collect();
    for (slot, spec) in specs.iter().enumerate() {
        let extent = space.alloc_low(spec.extent_bytes()).expect("room");
        mover
            .want(PathId::new(0), request(spec, slot), extent)
            .expect("absent");
    }
    for (slot, bytes) in objects.iter().enumerate() {
        let lease = mover.wait(slot).expect("it comes");
        assert!(lease.part(0) == &bytes[10..5010]);
        assert!(lease.part(1) == &bytes[20_000..]);
    }
    node.stop();
    let extent = space.alloc_low(specs[0].extent_bytes()).expect("room");
    mover
        .want(PathId::new(0), request(&specs[0], 3), extent)
        .expect("absent");
    let error = mover.wait(3).expect_err("the node is gone");
    assert!(matches!(error, MoveError::Read { .. }), "{error}");
    assert!(error.to_string().contains("tcp://"), "{error}");
}
