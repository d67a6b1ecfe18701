//! Room: full nodes, the disk behind the memory, and the bytes that a node takes.

use crate::support::*;
use larder_pool::node::{Node, NodeOptions};
use larder_pool::remote::{ObjectHash, Refusal, RemoteError};
use larder_pool::sys::io::Verb;
use larder_pool::sys::limits::resident_bytes;

#[test]
fn a_full_node_refuses_with_a_type() {
    let node = node(4 * MIB);
    let client = client(&node);
    let hash = client.put_object(&content(1, 3 << 20)).expect("put");
    client.set_name("kept", hash, &[]).expect("name");
    let error = client.put_object(&content(2, 2 << 20)).expect_err("full");
    assert!(error.is_capacity(), "{error}");
    let RemoteError::Refused { refusal, .. } = error else {
        unreachable!("it is a refusal");
    };
    assert_eq!(
        refusal,
        Refusal::Full {
            needed: 2 * MIB,
            free: MIB
        }
    );
    assert!(client.has(hash).expect("has"));
    client.remove("kept").expect("remove");
    client
        .put_object(&content(2, 2 << 20))
        .expect("there is room now");
}

#[test]
fn content_without_a_name_makes_room_oldest_first() {
    let node = node(4 * MIB);
    let client = client(&node);
    let put = |seed| client.put_object(&content(seed, 1 << 20)).expect("put");
    let old: Vec<ObjectHash> = (0..4).map(put).collect();
    client.set_name("kept", old[0], &old[1..2]).expect("name");
    let new = put(9);
    let has = |hash| client.has(hash).expect("has");
    assert!(has(old[0]) && has(old[1]) && has(old[3]) && has(new));
    assert!(!has(old[2]), "nothing kept it, and it was the oldest");
}

#[test]
fn names_share_content_and_the_last_one_frees_it() {
    let node = node(16 * MIB);
    let client = client(&node);
    let put = |seed| client.put_object(&content(seed, 100_000)).expect("put");
    let [shared, one, two] = [1, 2, 3].map(put);
    client
        .set_name("one", one, &[shared, shared])
        .expect("name");
    client.set_name("two", two, &[shared]).expect("name");
    client.remove("one").expect("remove");
    let has = |hash| client.has(hash).expect("has");
    assert!(has(shared) && has(two) && !has(one));
    let one = put(2);
    client.set_name("two", one, &[]).expect("a name can change");
    assert!(has(one) && !has(shared) && !has(two));
    let error = client.set_name("three", two, &[]).expect_err("it is gone");
    assert!(matches!(
        error,
        RemoteError::Refused {
            refusal: Refusal::Missing,
            ..
        }
    ));
    let error = client.remove("three").expect_err("no such name");
    assert!(matches!(
        error,
        RemoteError::Refused {
            refusal: Refusal::Missing,
            ..
        }
    ));
}

#[test]
fn many_names_are_listed_in_order() {
    let node = node(MIB);
    let client = client(&node);
    let hash = client.put_object(b"one").expect("put");
    let name = |index: usize| format!("{index:0200}");
    for index in (0..600).rev() {
        client.set_name(&name(index), hash, &[]).expect("name");
    }
    let names = client.names().expect("list");
    let expected: Vec<String> = (0..600).map(name).collect();
    assert!(names.iter().map(|model| &model.name).eq(&expected));
    for bad in ["", "a\nb", &"x".repeat(256)] {
        assert!(client.set_name(bad, hash, &[]).is_err());
    }
}

#[test]
fn objects_go_to_disk_and_are_read_from_there() {
    each_transport(|transport| {
        let folder = tempfile::tempdir().expect("temp folder");
        let node = Node::start(NodeOptions {
            disk: Some((folder.path().join("node"), 64 * MIB)),
            transport,
            ..options(8 * MIB)
        })
        .expect("a node starts");
        let client = client(&node);
        let lens = [
            3_000_000,
            5_000_001,
            4096,
            700_000,
            6 << 20,
            2_500_000,
            1 << 20,
        ];
        let objects: Vec<_> = (0..lens.len())
            .map(|i| content(i as u64, lens[i]))
            .collect();
        let put = |bytes: &Vec<u8>| client.put_object(bytes).expect("put");
        let hashes: Vec<_> = objects.iter().map(put).collect();
        client.set_name("all", hashes[0], &hashes).expect("name");
        let stat = client.usage().expect("stat");
        assert!(stat.demoted > 0 && stat.disk_used > 8 * MIB, "{stat:?}");
        assert!(stat.mem_used <= 8 * MIB);
        for (hash, bytes) in hashes.iter().zip(&objects) {
            assert!(client.get_object(*hash).expect("get") == *bytes);
        }
        let (mut driver, _) = client.read_objects(&hashes).expect("opens");
        let mut memory = Memory::new(32 * MIB);
        for (file, bytes) in objects.iter().enumerate() {
            let pieces = memory.pieces(bytes.len() as u64, 123 * 4096);
            let at = (0..).map(|index| index * 123 * 4096);
            let ops = at.zip(pieces);
            let ops = ops.map(|(at, piece)| read(at, file as u32, at, piece));
            for done in run(driver.as_mut(), ops.collect()) {
                let Verb::Read(piece) = done.verb else {
                    unreachable!("only reads were submitted");
                };
                let len = done.outcome.expect("read");
                let at = done.tag as usize;
                assert!(piece.bytes()[..len] == bytes[at..at + len]);
            }
        }
        client.remove("all").expect("remove");
        // The last answer's pages go back when the node has heard that they were sent.
        wait_until(|| {
            let stat = node.stat();
            (stat.content, stat.mem_used, stat.disk_used) == (0, 0, 0)
        });
        let files = std::fs::read_dir(folder.path().join("node")).expect("folder");
        assert_eq!(files.count(), 0, "the file has no name");
    });
}

#[test]
fn a_node_keeps_to_its_memory() {
    let before = resident_bytes();
    let folder = tempfile::tempdir().expect("temp folder");
    let node = Node::start(NodeOptions {
        disk: Some((folder.path().to_owned(), 256 * MIB)),
        ..options(32 * MIB)
    })
    .expect("a node starts");
    let clients: Vec<_> = (0..4).map(|_| client(&node)).collect();
    std::thread::scope(|scope| {
        for (index, client) in clients.iter().enumerate() {
            scope.spawn(move || {
                for round in 0..12 {
                    let seed = (index * 100 + round) as u64;
                    client.put_object(&content(seed, 3 << 20)).expect("put");
                }
            });
        }
    });
    let stat = node.stat();
    assert_eq!(stat.content, 48);
    assert!(
        stat.mem_used <= 32 * MIB && stat.disk_used >= 100 * MIB,
        "{stat:?}"
    );
    // Other tests of this process run beside; the node's own promise is 100 MiB above its memory.
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 32 * MIB + 400 * MIB, "{grown}");
}
