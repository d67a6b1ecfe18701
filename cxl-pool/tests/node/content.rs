//! Content: put, named, listed, opened, read and removed.

use crate::support::*;
use larder_pool::node::{Node, NodeOptions};
use larder_pool::remote::{Client, ObjectHash, PutContent, RemoteError, RemoteOptions};
use larder_pool::source::Source;
use larder_pool::sys::io::Verb;

#[test]
fn content_is_put_once_named_and_read_back() {
    each_transport(|transport| {
        let node = Node::start(NodeOptions {
            transport,
            ..options(64 * MIB)
        })
        .expect("a node starts");
        let client = Client::connect(&RemoteOptions {
            transport,
            ..remote(&node)
        })
        .expect("connects");
        let objects: Vec<Vec<u8>> = [5, 4096, 65_536, 700_001, 5_000_000]
            .iter()
            .map(|&len| content(len as u64, len))
            .collect();
        let hashes: Vec<ObjectHash> = objects
            .iter()
            .map(|bytes| client.put_object(bytes).expect("put"))
            .collect();
        for (hash, bytes) in hashes.iter().zip(&objects) {
            assert_eq!(*hash, ObjectHash::of(bytes));
            assert!(client.get_object(*hash).expect("get") == *bytes);
            let again = client.put_named(*hash, bytes).expect("put");
            assert_eq!(again, PutContent::Had);
        }
        client
            .set_name("demo", hashes[0], &hashes[1..])
            .expect("name");
        let names = client.names().expect("list");
        let all: usize = objects.iter().map(Vec::len).sum();
        assert_eq!(names.len(), 1);
        assert_eq!(
            (names[0].name.as_str(), names[0].hash, names[0].bytes),
            ("demo", hashes[0], all as u64)
        );
        assert_eq!(client.resolve("demo").expect("resolve"), Some(hashes[0]));
        assert_eq!(client.resolve("other").expect("resolve"), None);

        let (mut driver, source) = client.read_objects(&hashes).expect("opens");
        let mut memory = Memory::new(16 * MIB);
        for (file, bytes) in objects.iter().enumerate() {
            let len = bytes.len() as u64;
            assert_eq!(source.file_len(file as u32), len);
            let pieces = memory.pieces(len.next_multiple_of(4096), MIB);
            let ops = pieces.into_iter().enumerate().map(|(index, piece)| {
                let at = index as u64 * MIB;
                read(at, file as u32, at, piece)
            });
            for done in run(driver.as_mut(), ops.collect()) {
                let at = done.tag as usize;
                let Verb::Read(piece) = done.verb else {
                    unreachable!("only reads were submitted");
                };
                let due = piece.len().min(bytes.len() - at);
                assert_eq!(done.outcome, Ok(due));
                assert!(piece.bytes()[..due] == bytes[at..at + due]);
            }
        }
        source.check(0).expect("the node is there");

        client.remove("demo").expect("remove");
        assert!(client.names().expect("list").is_empty());
        let missing = client.open(hashes[4]).expect_err("nothing keeps it");
        assert!(matches!(missing, RemoteError::Missing { .. }), "{missing}");
        // The node gives the pages back when it sees that its socket has nothing unread of them.
        wait_until(|| client.usage().expect("stat").mem_used == 0);
    });
}
