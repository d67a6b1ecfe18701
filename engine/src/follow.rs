//! A file that other processes map: which blocks they use, and those blocks kept in the page cache.
//!
//! The processes know nothing of it and link nothing of ours. What shows their uses are probes
//! that count faults and samples by address, or, where there are none, their page tables. What is
//! done about it is read-ahead: after the kernel has taken the file's pages, or before a reader
//! comes to the rest of a hot neighbourhood, the hot blocks are read again, hottest first, within a
//! budget. Nothing in the readers changes but the time that their faults take.
//!
//! Key types: [`Follow`] is asked to `tick` now and then and says when; [`Report`] is what came of
//! it. Neighbours: `heat` for what engines count of themselves.

mod error;
mod cut;
mod hot;
mod mapped;
mod room;

mod reader;

mod supply;

pub use error::FollowError;

use cut::Cut;
use hot::{HotBlocks, Uses, ranges};
use larder_ebpf::{Heat, Pins};
use mapped::{Identity, Mapper, mappers};
use reader::{Reader, used_before};
use serde::Serialize;
use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};
use std::time::Duration;
use supply::Supply;

/// How often it is looked who maps the file, and whether it is still the same file.
const LOOK: Duration = Duration::from_secs(1);
/// A window of time that a block is used in or not.
const WINDOW: Duration = Duration::from_secs(2);
/// Samples that stand for more events than this are of loads; of faults each stands for a few.
const LOADS_PER_SAMPLE: u32 = 1000;

/// What is followed, and how.
#[derive(Clone, Debug)]
pub struct Options {
    pub path: PathBuf,
    /// This process only.
    pub pid: Option<u32>,
    /// Bytes of the file to have in memory, at most.
    pub budget: u64,
    /// Lock what is hot into memory instead of reading it again when it was taken.
    pub keep: bool,
    pub pins: Pins,
}

/// What came of it so far.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub file: PathBuf,
    pub bytes: u64,
    pub block_bytes: u64,
    /// Processes that map the file now, and what shows their uses.
    pub readers: Vec<ReaderReport>,
    /// Bytes of hot blocks, also of those that the budget has no room for.
    pub hot_bytes: u64,
    /// Bytes that are to be in memory, and those that are.
    pub chosen_bytes: u64,
    pub resident_bytes: u64,
    pub kept_bytes: u64,
    /// Bytes that were read ahead.
    pub brought_bytes: u64,
    /// Bytes that the kernel took within seconds of their coming.
    pub lost_bytes: u64,
    /// What is chosen: offset and bytes.
    pub ranges: Vec<[u64; 2]>,
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ReaderReport {
    pub pid: u32,
    pub evidence: String,
}

/// See the module.
#[derive(Debug)]
pub struct Follow {
    options: Options,
    /// The process that alone is followed, with the time of its start.
    only: Option<(u32, u32)>,
    identity: Identity,
    cut: Cut,
    has_probes: bool,
    readers: Vec<Reader>,
    hot: HotBlocks,
    chosen: Vec<bool>,
    supply: Supply,
    looked: Option<Duration>,
    window: Duration,
    /// Said already, and how many of that were taken by [`Follow::news`].
    said: Vec<String>,
    taken: usize,
}

/// The file that process `pid` maps, where none is named: the largest.
pub fn largest_file(pid: u32) -> Result<PathBuf, FollowError> {
    mapped::largest_file(pid)
}

impl Follow {
    /// Opens the file; who maps it is looked for at the first tick.
    pub fn open(options: Options) -> Result<Self, FollowError> {
        let only = match options.pid {
            Some(pid) => Some((pid, mapped::check(pid)?)),
            None => None,
        };
        let (file, identity, bytes) = open_file(&options.path)?;
        let found = probes(&options);
        let (capacity, uses) = match &found {
            Ok(found) => *found,
            Err(_) => (larder_ebpf::HEAT_ENTRIES.into(), Uses::Faults),
        };
        let cut = Cut::new(bytes, capacity);
        let mut follow = Self {
            only,
            identity,
            cut,
            has_probes: found.is_ok(),
            readers: Vec::new(),
            hot: HotBlocks::new(cut.count(), uses),
            chosen: vec![false; cut.count()],
            supply: Supply::new(&options.path, file, cut, options.budget, options.keep)?,
            looked: None,
            window: Duration::ZERO,
            said: Vec::new(),
            taken: 0,
            options,
        };
        if let Err(reason) = found {
            let what = "pages that readers come to map stand in for the faults that probes count";
            follow.say_once(format!("{what}: {reason}"));
        }
        Ok(follow)
    }

    /// Looks at what was used and brings what is hot; `now` counts from any moment and only grows.
    pub fn tick(&mut self, now: Duration) -> Result<(), FollowError> {
        if self.looked.is_none_or(|looked| now >= looked + LOOK) {
            self.looked = Some(now);
            self.look_at_file()?;
            self.look_at_readers();
        }
        let hot = &mut self.hot;
        for reader in &mut self.readers {
            reader.collect(self.cut, |block| hot.touch(block));
        }
        let room = self.supply.room() / self.cut.block_bytes;
        hot.choose(room as usize, &mut self.chosen);
        let is_window = now >= self.window + WINDOW;
        let mut wanted = self.chosen.clone();
        if is_window {
            // Those that were used and not chosen are looked at less often: nobody waits for them.
            for (block, wanted) in wanted.iter_mut().enumerate() {
                *wanted |= hot.is_known(block);
            }
        }
        self.supply.look(&wanted, now, |block| hot.take(block))?;
        self.supply.bring(&self.chosen, now)?;
        if is_window {
            self.window = now;
            self.hot.close_window();
            self.supply.close_window();
        }
        for note in self.supply.notes() {
            self.say_once(note);
        }
        Ok(())
    }

    /// Whether the process that alone is followed has ended.
    pub fn is_over(&self) -> bool {
        let is_alive = |(pid, started)| larder_ebpf::started(pid) == Some(started);
        !self.only.is_none_or(is_alive)
    }

    /// What its user should know that was not taken yet, in lines.
    pub fn news(&mut self) -> &[String] {
        let news = &self.said[self.taken..];
        self.taken = self.said.len();
        news
    }

    pub fn report(&self) -> Report {
        let (resident_bytes, kept_bytes) = self.supply.resident_and_kept(&self.chosen);
        let bytes = |blocks: usize| blocks as u64 * self.cut.block_bytes;
        let chosen = ranges(&self.chosen).into_iter();
        let readers = self.readers.iter().map(|reader| ReaderReport {
            pid: reader.mapper.pid,
            evidence: reader.evidence(),
        });
        Report {
            file: self.options.path.clone(),
            bytes: self.cut.bytes(&(0..self.cut.count())).end,
            block_bytes: self.cut.block_bytes,
            readers: readers.collect(),
            hot_bytes: bytes(self.hot.hot_count()),
            chosen_bytes: bytes(self.chosen.iter().filter(|chosen| **chosen).count()),
            resident_bytes,
            kept_bytes,
            brought_bytes: self.supply.totals().brought,
            lost_bytes: self.supply.totals().lost,
            ranges: chosen
                .map(|blocks| self.cut.bytes(&blocks))
                .map(|bytes| [bytes.start, bytes.end - bytes.start])
                .collect(),
            notes: self.said.clone(),
        }
    }

    fn say_once(&mut self, line: String) {
        if !self.said.contains(&line) {
            self.said.push(line);
        }
    }

    /// Begins anew with a file of another length, and with the one that took its place once nobody
    /// maps the old one.
    fn look_at_file(&mut self) -> Result<(), FollowError> {
        let path = self.options.path.clone();
        let there = std::fs::metadata(&path);
        let is_same = |of: &Metadata| Identity::new(&path, of).is_same_file(&self.identity);
        let is_replaced = there.as_ref().is_ok_and(|of| !is_same(of));
        if is_replaced && self.readers.is_empty() {
            let (file, identity, bytes) = open_file(&path)?;
            self.identity = identity;
            self.say_once("the file was replaced, and nobody maps the old one".to_owned());
            return self.begin_anew(file, bytes);
        }
        let own = self.supply.file().metadata();
        let bytes = own.map_or(0, |of| of.len());
        if bytes == self.cut.bytes(&(0..self.cut.count())).end {
            return Ok(());
        }
        if bytes == 0 {
            // Nothing can be there, so nothing is wanted.
            self.hot = HotBlocks::new(self.cut.count(), self.hot.uses());
            self.say_once("the file is empty now".to_owned());
            return Ok(());
        }
        self.say_once(format!("the file has {bytes} bytes now"));
        let file = self.supply.file().try_clone();
        let file = file.map_err(|source| FollowError::File { path, source })?;
        self.begin_anew(file, bytes)
    }

    fn begin_anew(&mut self, file: File, bytes: u64) -> Result<(), FollowError> {
        let options = &self.options;
        let (capacity, uses) =
            probes(options).unwrap_or_else(|_| (larder_ebpf::HEAT_ENTRIES.into(), Uses::Faults));
        self.cut = Cut::new(bytes, capacity);
        self.readers.clear();
        self.hot = HotBlocks::new(self.cut.count(), uses);
        self.chosen = vec![false; self.cut.count()];
        self.supply = Supply::new(&options.path, file, self.cut, options.budget, options.keep)?;
        Ok(())
    }

    /// Who maps the file now: those that came, went, or have it elsewhere.
    fn look_at_readers(&mut self) {
        let mut mappers = mappers(&self.identity, self.options.pid);
        mappers.retain(|of| self.only.is_none_or(|only| only == (of.pid, of.started)));
        let same =
            |one: &Mapper, other: &Mapper| (one.pid, one.started) == (other.pid, other.started);
        let mut gone = Vec::new();
        self.readers.retain(|reader| {
            let stays = mappers.iter().any(|mapper| same(mapper, &reader.mapper));
            if !stays {
                gone.push(reader.mapper.pid);
            }
            // Whose array was given back by somebody else comes again as new.
            stays && reader.is_held()
        });
        for pid in gone {
            self.say_once(format!("process {pid} maps it no more"));
        }
        for mapper in mappers {
            let mut readers = self.readers.iter_mut();
            match readers.find(|reader| same(&reader.mapper, &mapper)) {
                Some(reader) if reader.mapper == mapper => {}
                Some(reader) => reader.moved(mapper, self.cut),
                None => self.came(mapper),
            }
        }
    }

    /// A new reader: what it has mapped already counts as used.
    fn came(&mut self, mapper: Mapper) {
        let hot = &mut self.hot;
        used_before(&mapper, self.cut, |block| hot.touch(block));
        let pid = mapper.pid;
        let mut mapper = mapper;
        if self.has_probes {
            let name = name(&self.options.path, self.cut);
            match Reader::by_probes(mapper, self.cut, &self.options.pins, name) {
                Ok(reader) => return self.follows(reader),
                Err((back, reason)) => {
                    self.say_once(format!("process {pid}: its page tables stand in: {reason}"));
                    mapper = back;
                }
            }
        }
        match Reader::by_tables(mapper, self.cut) {
            Ok(reader) => self.follows(reader),
            Err(error) => self.say_once(format!(
                "process {pid} maps it, but its page tables may not be read: {error}"
            )),
        }
    }

    fn follows(&mut self, reader: Reader) {
        let (_, lost) = self.cut.heat_ranges(&reader.mapper.stretches);
        let (pid, evidence) = (reader.mapper.pid, reader.evidence());
        self.say_once(format!("process {pid} maps it; seen by {evidence}"));
        if lost > 0 && reader.is_by_probes() {
            self.say_once(format!(
                "process {pid}: {lost} bytes of it are in more stretches than probes look at"
            ));
        }
        self.readers.push(reader);
    }
}

/// Opens a regular file that is not empty; its length.
fn open_file(path: &Path) -> Result<(File, Identity, u64), FollowError> {
    let error = |source| FollowError::File {
        path: path.to_path_buf(),
        source,
    };
    // A pipe would wait for a writer, so it is looked at before it is opened.
    if !std::fs::metadata(path).map_err(error)?.is_file() {
        let path = path.to_path_buf();
        return Err(FollowError::NotRegular { path });
    }
    let file = File::open(path).map_err(error)?;
    let of = file.metadata().map_err(error)?;
    if of.len() == 0 {
        let path = path.to_path_buf();
        return Err(FollowError::Empty { path });
    }
    Ok((file, Identity::new(path, &of), of.len()))
}

/// Entries of the heat arrays and what shows uses there; why there is none.
fn probes(options: &Options) -> Result<(u64, Uses), String> {
    let read = |error: larder_ebpf::ReadError| error.to_string();
    let heat = Heat::open(&options.pins).map_err(read)?;
    if !heat.is_counting() {
        return Err("probes are stopped; run `larder heat start`".to_owned());
    }
    let settings = heat.settings().map_err(read)?;
    if settings.only_tgid != 0 && Some(settings.only_tgid) != options.pid {
        return Err(format!("probes count process {} only", settings.only_tgid));
    }
    let uses = if settings.sample_period >= LOADS_PER_SAMPLE {
        Uses::Loads
    } else {
        Uses::Faults
    };
    Ok((heat.capacity().map_err(read)?, uses))
}

/// Name of the file among heat arrays, in the place of a model's.
fn name(path: &Path, cut: Cut) -> [u64; 4] {
    let text = format!("{} {cut:?}", path.display());
    let hash = blake3::derive_key("larder heat of a followed file 1", text.as_bytes());
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(hash.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().expect("chunks of eight"));
    }
    words
}
