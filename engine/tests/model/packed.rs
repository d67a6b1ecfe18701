//! Packed models: what a node serves is what was loaded, or an error.

use crate::support::{assets, generate, open, options};
use larder::kv::KvError;
use larder::manifest::packed::PackedRoot;
use larder::manifest::{Container, Manifest};
use larder::pack::pack;
use larder::publish::{publish, publish_packed};
use larder::session::{GenerateOptions, LowerTier, Nodes, Session, SessionError, SessionOptions};
use larder_pool::node::{Node, NodeOptions};
use larder_pool::remote::{Client, ObjectHash, RemoteOptions};
use larder_pool::transfer::MoveError;
use std::net::SocketAddr;
use std::sync::Arc;

/// The ids after a prompt, from the model that the node calls `name`.
fn run(node: &Node, name: &str) -> Result<Vec<u32>, SessionError> {
    let remote = LowerTier::Remote {
        address: node.address().to_string(),
        token_file: None,
        is_forced: false,
        may_join: false,
        limit: None,
    };
    let options = SessionOptions {
        fast_bytes: Some(700 << 10),
        lower: vec![remote],
        ..options()
    };
    let mut nodes = Nodes::connect(&options)?;
    let (_, manifest) = nodes.open_model(name)?;
    let mut session = Session::open_with(Arc::new(manifest), &options, &nodes)?;
    let prompt: Vec<u32> = (300..340).collect();
    let ask = GenerateOptions {
        prompt: &prompt,
        count: 20,
        stop: &[],
    };
    let pick = |row: &mut [f32]| Ok(larder::sample::argmax(row));
    Ok(session.generate(&ask, pick, |_| true)?.tokens)
}

/// A node whose bytes are not those that the root of the model vouches for: with a checksum of its
/// own for every byte it sends, only the root can tell.
#[test]
fn bytes_that_the_root_does_not_vouch_for_are_an_error() {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let node = Node::start(NodeOptions::new(listen, 48 << 20)).expect("a node starts");
    let remote = RemoteOptions::new(node.address().to_string());
    let client = Client::connect(&remote).expect("connects");
    let container = Container::open(&assets().join("larder-story.gguf")).expect("opens");
    let published = publish(&container, &client, "true", |_| ()).expect("loads");
    assert_eq!(run(&node, "true").expect("runs").len(), 20);

    let root = client.get_object(published.hash).expect("the root");
    let mut root = PackedRoot::decode(&root).expect("is a root");
    let block = &mut root.objects[5];
    let mut sums = block.sums.to_vec();
    sums[0] ^= 1;
    block.sums = sums.into();
    let hash = client.put_object(&root.encode()).expect("put");
    let members: Vec<ObjectHash> = root.objects.iter().map(|object| object.hash).collect();
    client.set_name("false", hash, &members).expect("named");
    let error = run(&node, "false").expect_err("block 5 is another one");
    let is_found = matches!(
        &error,
        SessionError::Move(MoveError::Checksum { .. })
            | SessionError::Kv(KvError::Move(MoveError::Checksum { .. }))
    );
    assert!(is_found && error.to_string().contains("block 5"), "{error}");
}

#[test]
fn a_packed_folder_is_the_same_model_and_may_spill_its_weights() {
    let folder = tempfile::tempdir().expect("temp folder");
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let node = Node::start(NodeOptions::new(listen, 48 << 20)).expect("a node starts");
    let remote = RemoteOptions::new(node.address().to_string());
    let client = Client::connect(&remote).expect("connects");
    for name in ["larder-story.gguf", "tiny/tiny-folder"] {
        let file = assets().join(name);
        let container = Container::open(&file).expect("opens");
        let into = folder.path().join(name.replace('/', "-"));
        pack(&container, &into, |_| ()).expect("packs");
        let again = pack(&container, &into, |_| ()).expect_err("there is something");
        assert!(again.to_string().contains("empty or new"), "{again}");
        let loaded = publish(&container, &client, "file", |_| ()).expect("loads");
        let packed = publish_packed(&into, &client, "packed", |_| ()).expect("loads");
        assert_eq!((packed.hash, packed.sent_bytes), (loaded.hash, 0));

        let prompt: Vec<u32> = (100..140).collect();
        let free = generate(&mut open(&file, &options()), &prompt, 30);
        let spilling = |fast_bytes| SessionOptions {
            fast_bytes: Some(fast_bytes),
            lower: vec![LowerTier::Nvme {
                folder: folder.path().join("spill"),
                bytes: 64 << 20,
                limit: None,
            }],
            ..options()
        };
        let least = {
            let session = open(&into, &spilling(1 << 30));
            session.layout().needs().min_fast_bytes()
        };
        let mut session = open(&into, &spilling(least));
        assert!(generate(&mut session, &prompt, 30) == free, "{name}");
        let read = session.homes()[0].read;
        assert!(
            session.path_use()[read.index()].bytes > 0,
            "weights have a home"
        );
        drop(session);

        // Another byte of a weight is found by the root's checksums, at the first read.
        let blocks = into.join("blocks.larder");
        let mut bytes = std::fs::read(&blocks).expect("the blocks");
        bytes[40_000] ^= 1;
        std::fs::write(&blocks, &bytes).expect("write");
        let mut session = open(&into, &options());
        let ask = GenerateOptions {
            prompt: &prompt,
            count: 2,
            stop: &[],
        };
        let pick = |row: &mut [f32]| Ok(larder::sample::argmax(row));
        let error = session.generate(&ask, pick, |_| true).expect_err("damaged");
        assert!(error.to_string().contains("checksum"), "{error}");
        let error = publish_packed(&into, &client, "packed", |_| ()).expect_err("damaged");
        assert!(
            error.to_string().contains("pack the model again"),
            "{error}"
        );
        std::fs::write(&blocks, &bytes[1..]).expect("write");
        let error = Manifest::open(&into).expect_err("too short");
        assert!(
            error.to_string().contains("pack the model again"),
            "{error}"
        );
    }
}
