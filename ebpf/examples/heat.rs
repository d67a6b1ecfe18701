//! Starts, shows and stops the probes: `heat start|status|stop [FOLDER]`, the folder being one of a
//! bpf file system. `heat run [FOLDER]` claims an array and touches memory until its input ends.
#![forbid(unsafe_code)]

use std::error::Error;
use std::process::ExitCode;

use larder_abi::{RANGE_VIRTUAL, TIER_DRAM};
use larder_ebpf::{Claim, DEFAULT_ROOT, HeatArray, Keep, Options, Pins, Range};

fn main() -> ExitCode {
    match command() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let pins = Pins::new(arguments.next().unwrap_or_else(|| DEFAULT_ROOT.to_owned()));
    match command.as_str() {
        "start" => start(pins),
        "status" => {
            let status = larder_ebpf::status(&pins)?;
            println!("{status:#?}");
            Ok(())
        }
        "stop" => {
            println!("{:?}", larder_ebpf::stop(&pins, Keep::Nothing)?);
            Ok(())
        }
        "run" => run(&pins),
        _ => Err("usage: heat start|status|stop|run [FOLDER]".into()),
    }
}

fn start(pins: Pins) -> Result<(), Box<dyn Error>> {
    let options = Options {
        pins,
        group: larder_ebpf::group_id("larder"),
        marked: std::env::current_exe().ok(),
        ..Options::at(larder_ebpf::monotonic_ns())
    };
    let report = larder_ebpf::start(&options)?;
    for attached in report.attached {
        println!("{:15} {}", attached.probe, attached.hooks.join(", "));
    }
    for skipped in report.skipped {
        println!(
            "{:15} skipped: {}",
            skipped.probe,
            skipped.reasons.join("; ")
        );
    }
    Ok(())
}

/// Sixteen blocks of 2 MiB, the first of which is touched most.
fn run(pins: &Pins) -> Result<(), Box<dyn Error>> {
    const BLOCK: usize = 2 << 20;
    const BLOCKS: usize = 16;
    let mut memory: Vec<u8> = Vec::with_capacity(BLOCK * BLOCKS);
    let start = memory.as_ptr().addr() as u64;
    let claim = Claim {
        manifest: [0x1234, 0, 0, 0],
        block_first: 0,
        block_count: BLOCKS as u64,
        ranges: vec![Range {
            start,
            end: start + (BLOCK * BLOCKS) as u64,
            block_bytes: BLOCK as u64,
            entry: 0,
            tier: TIER_DRAM,
            kind: RANGE_VIRTUAL,
            reserved: 0,
        }],
    };
    let array = HeatArray::claim(pins, &claim)?;
    memory.resize(BLOCK * BLOCKS, 1);
    for block in 0..BLOCKS {
        array.touch(block, (BLOCKS - block) as u64);
    }
    println!(
        "block_heat_{}: {:?}",
        array.array().unwrap_or_default(),
        array.get(0)
    );
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}
