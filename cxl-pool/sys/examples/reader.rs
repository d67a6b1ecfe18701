//! An unmodified reader: maps a file and reads single pages of it, nothing of ours linked.
//!
//! `reader FILE [mib=512] [seconds=25] [evict=10] [shift=0] [rate=500] [random=0] [seed=1]
//! [signals=0]`
//!
//! The file is made if it is not there. A fifth of its ranges of 256 KiB is hot and read after a
//! Zipf law, with one read in twenty anywhere in the file. After `evict` seconds (0: never) every
//! page is taken from it, as reclaim would. Each `shift` seconds (0: never) other ranges are hot.
//! It logs its reads, and at the end says in JSON how long they took, which share of them waited
//! for no disk, and which share of its hot set was in memory when: the hot set is the pages that it
//! had read, by its log, of those ranges that made 95 of 100 reads before the eviction; mincore(2)
//! says what is in memory.
//!
//! With `signals=1` it reads nothing until a line comes on standard input, and a second line stands
//! for the eviction: tests wait for events, not for time.
//!
//! UNSAFETY: the file is mapped, read and asked about by hand, as a stranger's program would.
#![expect(unsafe_code, reason = "raw mapping, see UNSAFETY")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Error, Write};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

const PAGE: usize = 4096;
const RANGE: usize = 256 << 10;
const PAGES: usize = RANGE / PAGE;
/// Seconds after the eviction at which the share is told.
const MARKS: [u64; 6] = [0, 1, 2, 3, 5, 10];

/// A read: milliseconds from the start, page, nanoseconds that it took, and whether it was there.
struct Read {
    at_ms: u64,
    page: usize,
    took_ns: u64,
    is_hit: bool,
}

struct Mapped {
    base: *mut libc::c_void,
    bytes: usize,
    file: File,
}

impl Mapped {
    fn new(path: &str, mib: usize) -> std::io::Result<Self> {
        if !std::path::Path::new(path).exists() {
            make(path, mib)?;
        }
        let file = File::open(path)?;
        let bytes = file.metadata()?.len() as usize / RANGE * RANGE;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let base = unsafe {
            let share = libc::MAP_SHARED;
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ,
                share,
                file.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        Ok(Self { base, bytes, file })
    }

    /// Reads a byte of a page.
    fn read(&self, page: usize) -> u8 {
        assert!((page + 1) * PAGE <= self.bytes, "a page of the file");
        // SAFETY: the page lies in the mapping, and nobody cuts the file short meanwhile.
        unsafe { self.base.cast::<u8>().add(page * PAGE).read_volatile() }
    }

    fn timed(&self, page: usize, at_ms: u64) -> Read {
        let (before, begun) = (waits(), Instant::now());
        self.read(page);
        Read {
            at_ms,
            page,
            took_ns: begun.elapsed().as_nanos() as u64,
            is_hit: waits() == before,
        }
    }

    fn advise(&self, advice: libc::c_int) {
        // SAFETY: the whole of the mapping; the pages are the file's and come back from there.
        unsafe { libc::madvise(self.base, self.bytes, advice) };
    }

    /// Takes all pages out of the process and out of memory.
    fn evict(&self) {
        self.advise(libc::MADV_PAGEOUT);
        // SAFETY: the descriptor is open.
        unsafe { libc::posix_fadvise(self.file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    }

    /// Share of the pages `wanted` that are in memory.
    fn share(&self, wanted: &[usize]) -> f64 {
        let mut pages = vec![0u8; self.bytes / PAGE];
        // SAFETY: the kernel writes a byte per page of the mapping.
        unsafe { libc::mincore(self.base, self.bytes, pages.as_mut_ptr()) };
        let there = wanted.iter().filter(|page| pages[**page] & 1 == 1);
        there.count() as f64 / wanted.len().max(1) as f64
    }
}

/// Faults of this thread that have waited for a disk so far.
fn waits() -> i64 {
    // SAFETY: all zeros is a value of this plain struct.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one struct of this type.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    usage.ru_majflt
}

fn make(path: &str, mib: usize) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    let mut random = Random(7);
    for _ in 0..mib {
        let piece: Vec<u8> = (0..(1 << 20) / 8)
            .flat_map(|_| random.next().to_ne_bytes())
            .collect();
        file.write_all(&piece)?;
    }
    file.sync_all()
}

/// Xorshift, after Marsaglia.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// Draws ranges: a fifth of them after a Zipf law of exponent 1, one in twenty anywhere.
struct Draw {
    hot: Vec<usize>,
    /// Sums of 1, 1/2, 1/3, ...
    sums: Vec<f64>,
    ranges: usize,
    random: Random,
}

impl Draw {
    fn new(ranges: usize, seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut all: Vec<usize> = (0..ranges).collect();
        for index in (1..ranges).rev() {
            all.swap(index, random.below(index + 1));
        }
        all.truncate((ranges / 5).max(1));
        let mut sum = 0.0;
        let sums = (0..all.len()).map(|rank| {
            sum += 1.0 / (rank + 1) as f64;
            sum
        });
        Self {
            sums: sums.collect(),
            hot: all,
            ranges,
            random,
        }
    }

    /// A page.
    fn next(&mut self) -> usize {
        let page = self.random.below(PAGES);
        if self.random.below(20) == 0 {
            return self.random.below(self.ranges) * PAGES + page;
        }
        let all = self.sums.last().copied().unwrap_or(1.0);
        let wanted = (self.random.next() >> 11) as f64 / (1u64 << 53) as f64 * all;
        let rank = self.sums.partition_point(|sum| *sum < wanted);
        self.hot[rank.min(self.hot.len() - 1)] * PAGES + page
    }
}

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, default: u64| {
        let mut values = arguments
            .iter()
            .filter_map(|one| one.strip_prefix(name)?.strip_prefix('='));
        values
            .next()
            .and_then(|value| value.parse().ok())
            .unwrap_or(default)
    };
    let path = arguments
        .first()
        .ok_or_else(|| Error::other("name a file"))?;
    let mapped = Mapped::new(path, number("mib", 512) as usize)?;
    if number("random", 0) == 1 {
        mapped.advise(libc::MADV_RANDOM);
    }
    let rate = number("rate", 500).max(1);
    let mut draw = Draw::new(mapped.bytes / RANGE, number("seed", 1));
    if number("signals", 0) == 1 {
        return on_signals(&mapped, &draw);
    }
    let evict = number("evict", 10) * 1000;
    let shift = number("shift", 0) * 1000;
    let mut shifts = 0;
    let end = number("seconds", 25) * 1000;
    let mut log: Vec<Read> = Vec::new();
    let mut hot = Vec::new();
    let mut shares = Vec::new();
    mapped.evict();
    let start = Instant::now();
    for turn in 0.. {
        let due = Duration::from_micros(turn * 1_000_000 / rate);
        std::thread::sleep(due.saturating_sub(start.elapsed()));
        let at_ms = start.elapsed().as_millis() as u64;
        if at_ms >= end {
            break;
        }
        if evict > 0 && at_ms >= evict && hot.is_empty() {
            hot = hot_set(&log);
            mapped.evict();
        }
        let mark = MARKS
            .get(shares.len())
            .map(|seconds| evict + seconds * 1000);
        if !hot.is_empty() && mark.is_some_and(|mark| at_ms >= mark) {
            shares.push(mapped.share(&hot));
        }
        if let Some(turns) = at_ms.checked_div(shift).filter(|turns| *turns > shifts) {
            shifts = turns;
            draw = Draw::new(mapped.bytes / RANGE, number("seed", 1) + 1000 * shifts);
        }
        log.push(mapped.timed(draw.next(), at_ms));
    }
    if hot.is_empty() {
        hot = hot_set(&log);
        shares.push(mapped.share(&hot));
    }
    print(&log, evict, &hot, &shares);
    Ok(())
}

/// Pages of the log that are in those ranges, most read first, that made 95 of 100 reads.
fn hot_set(log: &[Read]) -> Vec<usize> {
    let mut counts = BTreeMap::new();
    for read in log {
        *counts.entry(read.page / PAGES).or_insert(0usize) += 1;
    }
    let mut ranges: Vec<(usize, usize)> = counts.into_iter().collect();
    ranges.sort_by_key(|(range, count)| (std::cmp::Reverse(*count), *range));
    let mut left = log.len() * 95 / 100;
    let hot = ranges.iter().take_while(|(_, count)| {
        let is_in = left > 0;
        left = left.saturating_sub(*count);
        is_in
    });
    let hot: BTreeSet<usize> = hot.map(|(range, _)| *range).collect();
    let pages = log.iter().map(|read| read.page);
    let pages: BTreeSet<usize> = pages.filter(|page| hot.contains(&(page / PAGES))).collect();
    pages.into_iter().collect()
}

fn print(log: &[Read], evict: u64, hot: &[usize], shares: &[f64]) {
    let times = |from: u64, to: u64| {
        let within = log.iter().filter(|read| (from..to).contains(&read.at_ms));
        let hits = within.clone().filter(|read| read.is_hit).count();
        let mut times: Vec<u64> = within.map(|read| read.took_ns).collect();
        let hits = hits as f64 / times.len().max(1) as f64;
        times.sort_unstable();
        let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or(0);
        let sum: u64 = times.iter().sum();
        let mean = sum / times.len().max(1) as u64;
        format!(
            "{{\"reads\":{},\"hits\":{hits:.4},\"mean_ns\":{mean},\"p50_ns\":{},\"p90_ns\":{},\"p99_ns\":{}}}",
            times.len(),
            at(50),
            at(90),
            at(99)
        )
    };
    let marks: Vec<String> = MARKS
        .iter()
        .zip(shares)
        .map(|(at, share)| format!("\"{at}\":{share:.4}"))
        .collect();
    println!(
        "{{\"hot_pages\":{},\"resident\":{{{}}},\"before\":{},\"after\":{}}}",
        hot.len(),
        marks.join(","),
        times(0, if evict > 0 { evict } else { u64::MAX }),
        times(evict, evict + 10_000),
    );
}

/// Reads the hot ranges whole at the first line, and gives them up at the second.
fn on_signals(mapped: &Mapped, draw: &Draw) -> std::io::Result<()> {
    mapped.evict();
    let pages = draw
        .hot
        .iter()
        .flat_map(|range| range * PAGES..(range + 1) * PAGES);
    let hot: Vec<usize> = pages.collect();
    let say = |share: f64| {
        println!("{share:.4}");
        std::io::stdout().flush()
    };
    say(mapped.share(&hot))?;
    for line in std::io::stdin().lines() {
        match line?.as_str() {
            "read" => {
                for page in &hot {
                    mapped.read(*page);
                }
            }
            "evict" => mapped.evict(),
            // Asks for the share only.
            _ => {}
        }
        say(mapped.share(&hot))?;
    }
    Ok(())
}
