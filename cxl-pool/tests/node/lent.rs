//! Memory lent to a client: written, sealed, read in ranges, freed, and gone with its owner.

use crate::support::*;
use larder_pool::node::{Node, NodeOptions};
use larder_pool::remote::{Client, RemoteOptions};
use larder_pool::sys::io::{Driver, Errno, Op, Seal, Verb};
use larder_pool::sys::lease::ReadLease;
use larder_pool::wire::sums;
use std::sync::Arc;

pub(crate) fn op(tag: u64, offset: u64, verb: Verb) -> Op {
    Op {
        tag,
        file: 0,
        offset,
        verb,
    }
}

/// Writes of 1 MiB that cover a block.
pub(crate) fn writes(block: &ReadLease, offset: u64, len: u64) -> Vec<Op> {
    (0..len)
        .step_by(MIB as usize)
        .map(|at| {
            let piece = block.piece(at, (len - at).min(MIB));
            op(at, offset + at, Verb::Write(piece))
        })
        .collect()
}

pub(crate) fn seal(bytes: &[u8]) -> Verb {
    Verb::Seal(Seal {
        len: bytes.len() as u64,
        crcs: Arc::from(sums::commit_crcs(bytes)),
    })
}

pub(crate) fn outcome(driver: &mut dyn Driver, op: Op) -> Result<usize, Errno> {
    run(driver, vec![op]).remove(0).outcome
}

#[test]
fn lent_memory_is_written_sealed_read_and_freed() {
    each_transport(|transport| {
        let node = Node::start(NodeOptions {
            transport,
            ..options(64 * MIB)
        });
        let node = node.expect("a node starts");
        let options = RemoteOptions {
            transport,
            ..remote(&node)
        };
        let client = Client::connect(&options).expect("connects");
        let lent = client.lend(32 * MIB).expect("there is room");
        let mut writer = lent.writer().expect("writer");
        let (mut reader, _) = lent.reader().expect("reader");
        let mut memory = Memory::new(64 * MIB);
        let lens = [4096, 3 * MIB + 8192, 5 * MIB];
        let mut held = Vec::new();
        for (seed, len) in lens.into_iter().enumerate() {
            let extent = lent.space().alloc_low(len).expect("room");
            let at = extent.start();
            lent.expect(at, len).expect("nothing is there");
            let bytes = content(seed as u64, len as usize);
            let block = memory.block(&bytes);
            for done in run(writer.as_mut(), writes(&block, at, len)) {
                assert_eq!(done.outcome, Ok(done.verb.len()));
            }
            assert_eq!(block_pins(&memory, &block), 1, "pieces came home");
            let early = memory.pieces(4096, 4096).remove(0);
            let early = outcome(reader.as_mut(), read(0, 0, at, early));
            assert_eq!(early, Err(Errno::ENOENT), "not sealed yet");
            assert_eq!(outcome(writer.as_mut(), op(0, at, seal(&bytes))), Ok(0));
            let late = op(0, at, Verb::Write(block.piece(0, 4096)));
            assert_eq!(outcome(writer.as_mut(), late), Err(Errno::EROFS));
            held.push((extent, bytes));
        }
        for (extent, bytes) in &held {
            let skip = (bytes.len() as u64 / 2) / 4096 * 4096;
            let left = bytes.len() as u64 - skip;
            let pieces = memory.pieces(left, 300 * 4096);
            let mut at = extent.start() + skip;
            let mut ops = Vec::new();
            for piece in pieces {
                let len = piece.len() as u64;
                ops.push(read(at, 0, at, piece));
                at += len;
            }
            for done in run(reader.as_mut(), ops) {
                let at = (done.tag - extent.start()) as usize;
                let Verb::Read(piece) = done.verb else {
                    unreachable!("only reads were submitted");
                };
                assert_eq!(done.outcome, Ok(piece.len()));
                assert!(piece.bytes() == &bytes[at..at + piece.len()]);
            }
        }
        assert_eq!(client.usage().expect("stat").lent, 3);
        for (extent, _) in &held {
            let free = op(0, extent.start(), Verb::Free);
            assert_eq!(outcome(writer.as_mut(), free), Ok(0));
        }
        // What was sent last is in the hands of another connection of the node for a moment.
        wait_until(|| node.stat().mem_used == 0);
        let piece = memory.pieces(4096, 4096).remove(0);
        let gone = outcome(reader.as_mut(), read(0, 0, held[0].0.start(), piece));
        assert_eq!(gone, Err(Errno::ENOENT));
    });
}

fn block_pins(memory: &Memory, block: &ReadLease) -> u32 {
    memory.table.pins(block.slot())
}

#[test]
fn wrong_checksums_and_places_are_refused() {
    let node = node(16 * MIB);
    let client = client(&node);
    let lent = client.lend(8 * MIB).expect("there is room");
    let mut writer = lent.writer().expect("writer");
    let mut memory = Memory::new(16 * MIB);
    let bytes = content(1, 8192);
    let block = memory.block(&bytes);
    let mut write = |offset, at, len| {
        let piece = block.piece(at, len);
        outcome(writer.as_mut(), op(0, offset, Verb::Write(piece)))
    };
    assert_eq!(write(0, 0, 8192), Err(Errno::ENOENT), "nothing is expected");
    lent.expect(4096, 8192).expect("nothing is there");
    assert!(lent.expect(8192, 4096).is_err(), "it would overlap");
    assert!(lent.expect(8 * MIB, 4096).is_err(), "it would be outside");
    assert_eq!(write(8192, 0, 8192), Err(Errno::EINVAL), "past the end");
    assert_eq!(write(4096, 0, 4096), Ok(4096));
    assert_eq!(write(8192, 4096, 4096), Ok(4096));
    let short = outcome(writer.as_mut(), op(0, 4096, seal(&bytes[..4096])));
    assert_eq!(short, Err(Errno::EINVAL));
    let wrong = outcome(writer.as_mut(), op(0, 4096, seal(&content(2, 8192))));
    assert_eq!(wrong, Err(Errno::EBADMSG));
    assert_eq!(node.stat().mem_used, 0, "what was refused takes no room");
    assert!(
        client
            .lend(64 * MIB)
            .is_err_and(|error| error.is_capacity())
    );
}

#[test]
fn a_full_node_says_so_and_goes_on() {
    let node = node(4 * MIB);
    let client = client(&node);
    let lent = client.lend(4 * MIB).expect("there is room");
    let mut writer = lent.writer().expect("writer");
    let mut memory = Memory::new(16 * MIB);
    let other = client.put_object(&content(7, 2 << 20)).expect("put");
    client.set_name("kept", other, &[]).expect("name");
    let bytes = content(1, 2 << 20);
    let block = memory.block(&bytes);
    let mut write = |offset| {
        lent.expect(offset, 2 * MIB).expect("nothing is there");
        let done = run(writer.as_mut(), writes(&block, offset, 2 * MIB));
        done.into_iter().map(|one| one.outcome).collect::<Vec<_>>()
    };
    assert_eq!(write(0), [Ok(1 << 20); 2]);
    assert_eq!(write(2 * MIB), [Err(Errno::ENOSPC); 2]);
    client.remove("kept").expect("remove");
    let done = run(writer.as_mut(), writes(&block, 2 * MIB, 2 * MIB));
    assert!(done.iter().all(|one| one.outcome == Ok(1 << 20)));
}

#[test]
fn what_was_lent_goes_with_its_writer() {
    let node = node(16 * MIB);
    let client = client(&node);
    let lent = client.lend(8 * MIB).expect("there is room");
    let mut writer = lent.writer().expect("writer");
    let (mut reader, _) = lent.reader().expect("reader");
    let mut memory = Memory::new(16 * MIB);
    let bytes = content(1, 1 << 20);
    let block = memory.block(&bytes);
    lent.expect(0, MIB).expect("nothing is there");
    lent.expect(MIB, MIB).expect("nothing is there");
    run(writer.as_mut(), writes(&block, 0, MIB));
    assert_eq!(outcome(writer.as_mut(), op(0, 0, seal(&bytes))), Ok(0));
    run(writer.as_mut(), writes(&block, MIB, MIB));
    assert_eq!(node.stat().mem_used, 2 * MIB);
    drop(writer);
    wait_until(|| node.stat().mem_used == 0);
    let piece = memory.pieces(4096, 4096).remove(0);
    let stale = outcome(reader.as_mut(), read(0, 0, 0, piece));
    assert_eq!(stale, Err(Errno::ESTALE));
}
