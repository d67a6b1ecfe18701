//! Speeds of this machine are above zero, and what cannot be measured says why.

use super::*;
use larder_pool::node::{Node, NodeOptions};
use larder_pool::remote::RemoteOptions;
use larder_pool::sys::numa::allowed_cpus;
use std::net::SocketAddr;

#[test]
fn memory_is_read_by_every_thread() {
    let cpus = allowed_cpus().expect("this thread runs somewhere");
    let rate = memory_speed(None, &cpus[..1]).expect("memory");
    assert!(rate > 1e8, "{rate} bytes per second");
    let error = memory_speed(Some(1000), &cpus).expect_err("no such node");
    assert!(error.to_string().contains("1000"), "{error}");
}

#[test]
fn a_folder_is_measured_and_left_as_it_was() {
    let folder = tempfile::tempdir().expect("temp folder");
    match folder_speed(folder.path()) {
        Ok(rate) => assert!(rate > 1e6, "{rate} bytes per second"),
        Err(error @ SpeedError::Cached { .. }) => println!("skipped: {error}"),
        Err(error) => panic!("{error}"),
    }
    let left = std::fs::read_dir(folder.path()).expect("still there");
    assert_eq!(left.count(), 0);
    assert!(folder_speed(&folder.path().join("none")).is_err());
    let small = folder.path().join("small");
    std::fs::write(&small, [0; 100]).expect("written");
    assert!(file_speed(&small).is_err());
}

#[test]
fn a_node_is_measured_and_gets_its_memory_back() {
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let node = Node::start(NodeOptions::new(local, 64 << 20)).expect("starts");
    let options = RemoteOptions::new(node.address().to_string());
    let client = Client::connect(&options).expect("connects");
    let free = client.info().expect("answers").free_bytes;
    let speed = node_speed(&client).expect("measured");
    assert!(speed.get > 1e6, "{speed:?}");
    assert!(speed.round_trip > Duration::ZERO);
    let start = Instant::now();
    while client.info().expect("answers").free_bytes != free {
        assert!(start.elapsed() < Duration::from_secs(10), "freed in time");
        std::thread::yield_now();
    }
}
