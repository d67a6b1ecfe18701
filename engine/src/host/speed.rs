//! Speeds of this host's parts, each measured for at most 100 ms or 64 MiB.
//!
//! Files and memory nodes are read by the drivers of an engine, in pieces of 1 MiB with 4 MiB on
//! their way, into 32 MiB used over and over: a small hot buffer would overstate the link.

use larder_cpu::{Isa, IsaError, Kernels, Pool};
use larder_pool::remote::{Client, RemoteError};
use larder_pool::sys::driver::open_driver;
use larder_pool::sys::file::{FileError, SourceFile};
use larder_pool::sys::io::{Driver, Op, Seal, Verb};
use larder_pool::sys::lease::{Scratch, SlotTable};
use larder_pool::sys::limits::available_bytes;
use larder_pool::sys::mapping::{BindError, MapError, Mapping};
use larder_pool::sys::numa::stay_on;
use larder_pool::sys::space::Space;
use larder_pool::wire::sums::commit_crcs;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const PIECE: u64 = MIB;
const ON_THEIR_WAY: usize = 4;
const AREA: u64 = 32 * MIB;
const MOST_BYTES: u64 = 64 * MIB;
const MOST_TIME: Duration = Duration::from_millis(100);
/// A device or node that is silent for this long is not measured.
const SILENCE: Duration = Duration::from_secs(5);
/// Memory that all threads read, over and over: of as much as the last-level cache holds, and of
/// some more, it has a part each time.
const MEMORY_BYTES: u64 = 512 * MIB;
/// Share of the memory that is free which they take at most.
const MEMORY_SHARE: u64 = 8;
/// Bytes that are lent at a node to be read back.
const LENT_BYTES: u64 = 16 * MIB;
const ROUND_TRIPS: usize = 9;

/// A speed could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum SpeedError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error(transparent)]
    Map(#[from] MapError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Isa(#[from] IsaError),
    #[error("{what}: {error}")]
    Io {
        what: &'static str,
        error: std::io::Error,
    },
    #[error("{bytes} bytes are too few to measure; name a file of 16 MiB or more")]
    TooSmall { bytes: u64 },
    #[error("{path} is read through the page cache, which says nothing about its disk")]
    Cached { path: String },
    #[error("no answer for {} s", SILENCE.as_secs())]
    Silent,
}

/// What a memory node does for this host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NodeSpeed {
    /// Median time of a call without data.
    pub round_trip: Duration,
    /// Bytes per second of gets, checksums included.
    pub get: f64,
}

/// Bytes per second at which threads on `cpus`, one each, read memory of `node` together; of any
/// node if `None`.
pub fn memory_speed(node: Option<u32>, cpus: &[usize]) -> Result<f64, SpeedError> {
    let barrier = Barrier::new(cpus.len());
    let all = MEMORY_BYTES.min(available_bytes() / MEMORY_SHARE);
    let bytes = (all / cpus.len().max(1) as u64).max(PIECE);
    std::thread::scope(|scope| {
        let threads: Vec<_> = cpus
            .iter()
            .map(|&cpu| {
                let barrier = &barrier;
                scope.spawn(move || read_memory(node, cpu, bytes, barrier))
            })
            .collect();
        let rates = threads
            .into_iter()
            .map(|thread| thread.join().expect("a probe does not panic"));
        rates.sum()
    })
}

fn read_memory(
    node: Option<u32>,
    cpu: usize,
    bytes: u64,
    barrier: &Barrier,
) -> Result<f64, SpeedError> {
    let ready = prepare_memory(node, cpu, bytes);
    // Whatever came of it: the others wait for this thread too.
    barrier.wait();
    let (kernels, scratch) = ready?;
    let (start, mut bytes) = (Instant::now(), 0);
    while start.elapsed() < MOST_TIME {
        std::hint::black_box(kernels.read_probe(&[scratch.bytes()]));
        bytes += scratch.bytes().len();
    }
    Ok(bytes as f64 / start.elapsed().as_secs_f64())
}

fn prepare_memory(
    node: Option<u32>,
    cpu: usize,
    bytes: u64,
) -> Result<(Kernels, Scratch), SpeedError> {
    stay_on(&[cpu]).map_err(|error| SpeedError::Io {
        what: "run on a CPU of the node",
        error,
    })?;
    let mapping = Mapping::new(bytes)?;
    if let Some(node) = node {
        mapping.bind(node)?;
    }
    let space = Space::mapped(mapping);
    let extent = space.alloc_low(bytes).expect("a space of that size");
    let mut scratch = Scratch::new(extent);
    scratch.bytes_mut().fill(1);
    let kernels = Kernels::new(Isa::detect(), Arc::new(Pool::new(1)))?;
    Ok((kernels, scratch))
}

/// Memory that is read into, every page of it there.
fn area() -> Result<Arc<Space>, SpeedError> {
    let space = Space::mapped(Mapping::new(AREA)?);
    let extent = space.alloc_low(AREA).expect("a space of that size");
    Scratch::new(extent).bytes_mut().fill(1);
    Ok(space)
}

/// Bytes per second of a sequential read of the file at `path` past the page cache.
pub fn file_speed(path: &Path) -> Result<f64, SpeedError> {
    let file = Arc::new(SourceFile::open(path)?);
    if !file.is_direct() {
        let path = path.display().to_string();
        return Err(SpeedError::Cached { path });
    }
    let bytes = file.len() / PIECE * PIECE;
    let memory = area()?;
    let mut driver = open_driver(vec![file], &memory);
    read_rate(driver.as_mut(), &memory, 0, bytes)
}

/// As [`file_speed`], of a file that is made in `folder` for it and removed again.
pub fn folder_speed(folder: &Path) -> Result<f64, SpeedError> {
    let path = folder.join(format!(".larder-topo-{}", std::process::id()));
    let made = write_file(&path);
    let speed = made.and_then(|()| file_speed(&path));
    // It may not have come into being.
    let _ = std::fs::remove_file(&path);
    speed
}

fn write_file(path: &Path) -> Result<(), SpeedError> {
    let fail = |error| SpeedError::Io {
        what: "write a file to read back",
        error,
    };
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(fail)?;
    let bytes: Vec<u8> = (0..PIECE).map(|at| (at * 7 + at / 255) as u8).collect();
    for _ in 0..MOST_BYTES / PIECE {
        std::io::Write::write_all(&mut file, &bytes).map_err(fail)?;
    }
    file.sync_all().map_err(fail)
}

/// Round trip and gets of the node behind `client`: bytes are lent there, read back, and freed
/// with the connection.
pub fn node_speed(client: &Client) -> Result<NodeSpeed, SpeedError> {
    let mut trips = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let start = Instant::now();
        client.usage()?;
        trips.push(start.elapsed());
    }
    trips.sort();
    let memory = area()?;
    let lent = client.lend(LENT_BYTES)?;
    lent.expect(0, LENT_BYTES)?;
    // Its connection holds what was written.
    let mut writer = lent.writer()?;
    fill_lent(writer.as_mut(), &memory)?;
    let (mut reader, _) = lent.reader()?;
    Ok(NodeSpeed {
        round_trip: trips[ROUND_TRIPS / 2],
        get: read_rate(reader.as_mut(), &memory, 0, LENT_BYTES)?,
    })
}

fn fill_lent(driver: &mut dyn Driver, memory: &Arc<Space>) -> Result<(), SpeedError> {
    let table = SlotTable::new(1);
    let extent = memory.alloc_low(LENT_BYTES).expect("a larger space");
    let mut fill = table.begin_fill(0, extent).expect("a new slot");
    let mut piece = fill.cutter().cut(LENT_BYTES);
    for (at, byte) in piece.bytes_mut().iter_mut().enumerate() {
        *byte = (at * 7 + at / 255) as u8;
    }
    let crcs = commit_crcs(piece.bytes()).into();
    drop(piece);
    let whole = larder_pool::sys::slot::PartRange {
        offset: 0,
        len: LENT_BYTES,
    };
    fill.publish(std::iter::once(whole).collect());
    let lease = table.pin(0).expect("published just now");
    let mut verbs: VecDeque<(u64, Verb)> = (0..LENT_BYTES)
        .step_by(PIECE as usize)
        .map(|at| (at, Verb::Write(lease.piece(at, PIECE))))
        .collect();
    run(driver, &mut verbs)?;
    let len = LENT_BYTES;
    verbs.push_back((0, Verb::Seal(Seal { len, crcs })));
    run(driver, &mut verbs)?;
    drop(lease);
    drop(table.evict(0));
    Ok(())
}

/// Runs `verbs` to their end.
fn run(driver: &mut dyn Driver, verbs: &mut VecDeque<(u64, Verb)>) -> Result<(), SpeedError> {
    let mut flight = Flight::new(driver);
    while let Some((offset, verb)) = verbs.pop_front() {
        flight.send(offset, verb)?;
    }
    while flight.count > 0 {
        flight.land()?;
    }
    Ok(())
}

/// Bytes per second at which `bytes` bytes of file `file` are read, over and over.
fn read_rate(
    driver: &mut dyn Driver,
    memory: &Arc<Space>,
    file: u32,
    bytes: u64,
) -> Result<f64, SpeedError> {
    if bytes < LENT_BYTES {
        return Err(SpeedError::TooSmall { bytes });
    }
    let table = SlotTable::new(1);
    let mut flight = Flight::new(driver);
    flight.file = file;
    let (start, mut asked) = (Instant::now(), 0);
    while asked < MOST_BYTES && start.elapsed() < MOST_TIME {
        let extent = memory.alloc_low(AREA).expect("free between rounds");
        let mut fill = table.begin_fill(0, extent).expect("absent");
        let mut cutter = fill.cutter();
        while cutter.left() > 0 && asked < MOST_BYTES && start.elapsed() < MOST_TIME {
            flight.send(asked % bytes, Verb::Read(cutter.cut(PIECE)))?;
            asked += PIECE;
        }
        while flight.count > 0 {
            flight.land()?;
        }
    }
    Ok(asked as f64 / start.elapsed().as_secs_f64())
}

/// Operations on their way.
struct Flight<'a> {
    driver: &'a mut dyn Driver,
    file: u32,
    count: usize,
}

impl<'a> Flight<'a> {
    fn new(driver: &'a mut dyn Driver) -> Self {
        Self {
            driver,
            file: 0,
            count: 0,
        }
    }

    fn send(&mut self, offset: u64, verb: Verb) -> Result<(), SpeedError> {
        while self.count >= ON_THEIR_WAY.min(self.driver.depth()) {
            self.land()?;
        }
        let sent = self.driver.submit(Op {
            tag: offset,
            file: self.file,
            offset,
            verb,
        });
        assert!(sent.is_ok(), "fewer than its depth are on their way");
        self.count += 1;
        self.driver.flush().map_err(|error| SpeedError::Io {
            what: "start an operation",
            error,
        })
    }

    /// Waits until at least one has ended.
    fn land(&mut self) -> Result<(), SpeedError> {
        let (mut done, start) = (Vec::new(), Instant::now());
        while done.is_empty() {
            if start.elapsed() > SILENCE {
                return Err(SpeedError::Silent);
            }
            let waited = self.driver.reap(&mut done, SILENCE);
            waited.map_err(|error| SpeedError::Io {
                what: "wait for an operation",
                error,
            })?;
        }
        for one in done {
            self.count -= 1;
            let wanted = one.verb.len();
            let moved = one.outcome.map_err(|errno| SpeedError::Io {
                what: "move a piece",
                error: errno.into(),
            })?;
            if moved != wanted {
                return Err(SpeedError::Io {
                    what: "move a piece",
                    error: std::io::ErrorKind::UnexpectedEof.into(),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
