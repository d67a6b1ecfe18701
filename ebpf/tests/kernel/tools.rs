//! `bpftool` prints what is pinned with names.

use std::process::Command;

use larder_ebpf::HeatArray;

use crate::bench::Bench;
use crate::workers;

/// Output of `bpftool`; `None`, said aloud, if it is not installed.
fn bpftool(arguments: &[&str]) -> Option<String> {
    match Command::new("bpftool").args(arguments).output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success(),
                "bpftool {arguments:?}: {text}{errors}"
            );
            Some(text)
        }
        Err(error) => {
            println!("skipped: bpftool: {error}");
            None
        }
    }
}

#[test]
fn maps_programs_and_links_have_names() {
    Bench::run(|bench| {
        if bench.start().is_none() {
            return;
        }
        let array = HeatArray::claim(&bench.pins, &workers::claim()).expect("an array");
        array.touch(2, 1_234_567);
        let path = |name: &str| bench.pins.root().join(name).to_string_lossy().into_owned();
        let number = array.array().expect("a pinned one");
        for (map, words) in [
            (
                format!("block_heat_{number}"),
                ["\"touches\": 1234567", "\"seen_ns\""],
            ),
            (
                "regions".to_owned(),
                ["\"owner_pid\"", "\"block_first\": 100"],
            ),
            ("tier_stats".to_owned(), ["\"pages_migrated\"", "\"drops\""]),
            (
                "settings".to_owned(),
                ["\"version\": 1", "\"stall_ns\": 10000000"],
            ),
        ] {
            let Some(text) = bpftool(&["map", "dump", "pinned", &path(&map)]) else {
                return;
            };
            for word in words {
                assert!(text.contains(word), "{map}: {text}");
            }
        }
        let Some(text) = bpftool(&["prog", "show", "pinned", &path("progs/larder_migrate")]) else {
            return;
        };
        assert!(text.contains("name larder_migrate"), "{text}");
        // Not `link show pinned`: it prints the link and fails all the same.
        let Some(text) = bpftool(&["link", "show"]) else {
            return;
        };
        assert!(text.contains("tp 'mm_migrate_pages'"), "{text}");
        let heat = path(&format!("block_heat_{number}"));
        let Some(text) = bpftool(&["btf", "dump", "map", "pinned", &heat, "value"]) else {
            return;
        };
        assert!(text.contains("STRUCT 'HeatEntry' size=64"), "{text}");
    });
}
