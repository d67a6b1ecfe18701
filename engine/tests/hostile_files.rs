//! Files that claim much and hold little: refused fast, without memory for what they claim.
//!
//! One test in a process of its own, because it looks at the peak of the address space.
#![forbid(unsafe_code)]

use larder::manifest::{Container, Manifest};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// Largest address space so far, in bytes: counts allocations that were never touched too.
fn peak_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmPeak:"))
        .expect("Linux has it");
    let kib = line.split_whitespace().nth(1).expect("has a number");
    kib.parse::<u64>().expect("has a number") << 10
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A GGUF header with these counts and this tail.
fn header(tensors: u64, keys: u64, tail: &[u8]) -> Vec<u8> {
    [
        &b"GGUF\x03\0\0\0"[..],
        &tensors.to_le_bytes(),
        &keys.to_le_bytes(),
        tail,
    ]
    .concat()
}

/// Writes `bytes` and makes the file look `len` bytes long without taking the disk.
fn write(path: &Path, bytes: &[u8], len: u64) {
    let mut file = File::create(path).expect("create the test file");
    file.write_all(bytes).expect("write the test file");
    file.set_len(len.max(bytes.len() as u64))
        .expect("grow the test file");
}

#[test]
fn hostile_files_take_neither_time_nor_memory() {
    const HUGE: u64 = 1 << 40;
    const SPARSE: u64 = 40 << 30;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.gguf");
    let array = |code: u32| {
        let head = [9_u32.to_le_bytes(), code.to_le_bytes()].concat();
        [string("k"), head, HUGE.to_le_bytes().to_vec()].concat()
    };
    let long = [
        string("k"),
        8_u32.to_le_bytes().to_vec(),
        HUGE.to_le_bytes().to_vec(),
    ]
    .concat();
    let mut headers = vec![
        header(HUGE, 0, &[]),
        header(0, HUGE, &[]),
        header(u64::MAX, u64::MAX, &[]),
        header(0, 1, &long),
        header(1, 0, &u64::MAX.to_le_bytes()),
    ];
    headers.extend([0, 4, 7, 8, 9, 12].map(|code| header(0, 1, &array(code))));
    let before = peak_bytes();
    for bytes in &headers {
        for len in [0, SPARSE] {
            write(&path, bytes, len);
            let start = Instant::now();
            let error = Manifest::open(&path)
                .expect_err("claims too much")
                .to_string();
            assert!(start.elapsed() < Duration::from_secs(1), "{error}");
            assert!(error.contains("at byte"), "{error}");
        }
    }
    let json = folder.path().join("model.safetensors");
    write(&folder.path().join("config.json"), b"{}", 0);
    for claimed in [99_000_000, u64::MAX] {
        write(&json, &claimed.to_le_bytes(), 0);
        Container::open(folder.path()).expect_err("claims too much");
    }
    let grown = peak_bytes() - before;
    assert!(grown < 8 << 20, "{grown} bytes for files of less than 200");

    // A right file of the same length opens at once: one tensor of 40 GB, of which no byte is read.
    let rows = (SPARSE / 4096 - 1).to_le_bytes();
    let tensor = [
        &string("token_embd.weight")[..],
        &2_u32.to_le_bytes(),
        &1024_u64.to_le_bytes(),
        &rows,
        &[0; 12],
    ];
    write(&path, &header(1, 0, &tensor.concat()), SPARSE);
    let start = Instant::now();
    let container = Container::open(&path).expect("a right file");
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(container.tensors[0].len, SPARSE - 4096);
}
