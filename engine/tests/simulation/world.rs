//! One world per seed: a model, a fast tier, a disk, two nodes, and the real store between them.

use crate::model::Model;
use larder::home::{Home, Homes};
use larder::layout::Layout;
use larder::stager::Stager;
use larder::supply::{Replica, Supply};
use larder_pool::block::BlockSpec;
use larder_pool::clock::Clock;
use larder_pool::mover::{Mover, PathParts};
use larder_pool::node::sim::SimNode;
use larder_pool::path::{DiskParts, Sizing};
use larder_pool::remote::sim::{NoAnswer, Reach, SimClient};
use larder_pool::remote::{Capability, ObjectHash};
use larder_pool::sim::{
    Fault, Faults, Link, MemoryFiles, Network, OpLog, SimDriver, SplitMix, Timeline, Wiring,
};
use larder_pool::sys::mapping::Mapping;
use larder_pool::sys::net::Channel;
use larder_pool::sys::space::{Extent, Space};
use larder_pool::table::block_table;
use larder_pool::transfer::MoveError;
use larder_pool::turns::Turns;
use larder_pool::units::{BlockId, BytesPerSec, GRANULE, PathId};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// Blocks of the table that no model has, for drills.
pub(crate) const DRILL_BLOCKS: usize = 12;
/// Bytes of the file that drills read, and of the part that each block of them has.
const DRILL_FILE: usize = DRILL_BLOCKS * DRILL_BYTES;
pub(crate) const DRILL_BYTES: usize = 256 << 10;
/// Bytes of the disk behind the home `nvme`.
const DISK: u64 = 4 << 20;

/// Numbers in reach of a seed.
pub(crate) struct Dice(pub(crate) SplitMix);

impl Dice {
    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0.next_u64() % end
    }

    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low)
    }

    pub(crate) fn chance(&mut self, p: f64) -> bool {
        self.0.chance(p)
    }
}

/// A node, while it lives.
pub(crate) struct Host {
    pub(crate) node: Option<SimNode>,
    pub(crate) mem: u64,
    /// Number of this start.
    pub(crate) starts: u64,
    /// What a start of it holds from the beginning, and its bytes there.
    pub(crate) objects: Vec<Arc<Vec<u8>>>,
    pub(crate) content: u64,
}

impl Host {
    /// Begins another life, which holds nothing but the content of every start.
    pub(crate) fn start(&mut self, timeline: &Timeline) {
        self.starts += 1;
        let clock = Arc::new(timeline.clone());
        let node = SimNode::start(self.mem, self.starts, clock).expect("memory");
        for object in &self.objects {
            let stored = node.put(object);
            assert!(stored.is_some(), "there is room for the content");
        }
        self.content = node.stat().mem_used;
        self.node = Some(node);
    }
}

/// The way from the client to a node.
struct Route {
    number: usize,
    host: Arc<Mutex<Host>>,
    network: Network,
    timeline: Timeline,
}

impl Reach for Route {
    fn connect(&self) -> Result<(Box<dyn Channel>, u64), NoAnswer> {
        if !self.network.passes(self.number) {
            return Err(NoAnswer::Silent);
        }
        let host = self.host.lock();
        let node = host.node.as_ref().ok_or(NoAnswer::Refused)?;
        let (ours, theirs) = self.network.connect(self.number);
        self.timeline.join(node.session(Box::new(theirs)));
        Ok((Box::new(ours), node.incarnation()))
    }

    fn open(&self, hashes: &[ObjectHash]) -> Option<(u64, Vec<Option<Capability>>)> {
        let host = self.host.lock();
        let node = host
            .node
            .as_ref()
            .filter(|_| self.network.passes(self.number));
        node.map(|node| node.open(hashes))
    }

    fn lease(&self) -> Duration {
        Duration::from_secs(30)
    }

    fn seed(&self) -> u64 {
        self.number as u64
    }
}

/// See the module.
pub(crate) struct World<'a> {
    pub(crate) model: &'a Model,
    pub(crate) dice: Dice,
    pub(crate) timeline: Timeline,
    /// Of disks and hosts, and of the network.
    pub(crate) faults: Faults,
    pub(crate) net_faults: Faults,
    pub(crate) network: Network,
    pub(crate) hosts: Vec<Arc<Mutex<Host>>>,
    pub(crate) clients: Vec<Arc<SimClient>>,
    pub(crate) space: Arc<Space>,
    pub(crate) layout: Layout,
    pub(crate) homes: Homes,
    pub(crate) mover: Arc<Mover>,
    pub(crate) stager: Stager,
    /// Blocks of the model as its origin has them.
    pub(crate) specs: Vec<Arc<BlockSpec>>,
    /// First block of the drills.
    pub(crate) first_drill: usize,
    /// Submissions of the first path.
    pub(crate) log: OpLog,
    /// A file of the first path that only drills read, behind those of the model.
    pub(crate) drill_bytes: Arc<Vec<u8>>,
    /// The first path reads files of this host.
    pub(crate) has_files: bool,
    /// Where KV ends now, coming from the top.
    pub(crate) border: u64,
    /// Bytes that were compared.
    pub(crate) compared: u64,
    /// The work area of the arena.
    work: Extent,
}

/// Parts of a world whose mover has not started.
struct Parts {
    dice: Dice,
    timeline: Timeline,
    faults: Faults,
    net_faults: Faults,
    network: Network,
    hosts: Vec<Arc<Mutex<Host>>>,
    clients: Vec<Arc<SimClient>>,
    paths: Vec<PathParts>,
    homes: Vec<Home>,
    log: OpLog,
    drill_bytes: Arc<Vec<u8>>,
}

/// Memory outside of the fast tier.
pub(crate) fn mapping(bytes: u64) -> Mapping {
    Mapping::new(bytes.max(GRANULE)).expect("memory")
}

/// Bytes of the file that drills read.
fn drill_bytes(seed: u64) -> Arc<Vec<u8>> {
    let mut random = SplitMix(!seed);
    let words = (0..DRILL_FILE / 8).flat_map(|_| random.next_u64().to_le_bytes());
    Arc::new(words.collect())
}

fn rate(bytes_per_s: u64) -> BytesPerSec {
    BytesPerSec::new(bytes_per_s as f64).expect("a rate above zero")
}

impl<'a> World<'a> {
    /// Everything of a seed.
    pub(crate) fn new(seed: u64, models: &'a [Model]) -> Self {
        let mut dice = Dice(SplitMix(seed));
        let model = &models[dice.below(models.len() as u64) as usize];
        let timeline = Timeline::new(seed ^ 0xa5a5);
        let faults = Faults::default();
        let wiring = Wiring {
            latency_ns: dice.between(20_000, 500_000),
            bandwidth: rate(dice.between(50_000_000, 2_000_000_000)),
        };
        let net_faults = Faults::default();
        let network = Network::new(timeline.clone(), net_faults.clone(), wiring, seed ^ 0x77);
        let mut parts = Parts {
            dice,
            timeline,
            faults,
            net_faults,
            network,
            hosts: Vec::new(),
            clients: Vec::new(),
            paths: Vec::new(),
            homes: Vec::new(),
            log: OpLog::default(),
            drill_bytes: drill_bytes(seed),
        };
        let has_files = parts.dice.chance(0.5);
        parts.start_hosts(model, has_files);
        let origins = if has_files {
            parts.add_files(model);
            let path = PathId::new(0);
            vec![Replica { path, node: None }]
        } else {
            parts.add_objects(model)
        };
        parts.add_disk();
        for node in 0..parts.hosts.len() {
            parts.add_lent(node);
        }
        Self::start(parts, model, origins, has_files)
    }

    fn start(mut parts: Parts, model: &'a Model, origins: Vec<Replica>, has_files: bool) -> Self {
        let specs: Vec<Arc<BlockSpec>> = if has_files {
            let blocks = model.manifest.blocks.iter();
            blocks.map(|block| Arc::new(block.spec.clone())).collect()
        } else {
            model.packed.clone()
        };
        let mut needs = model.needs.clone();
        let dense = model.manifest.program.dense_blocks();
        needs.blocks = specs[..dense]
            .iter()
            .map(|spec| spec.extent_bytes())
            .collect();
        if let Some(experts) = needs.experts.as_mut() {
            let experts_bytes = specs[dense..].iter().map(|spec| spec.extent_bytes());
            experts.frame_bytes = experts_bytes.max().unwrap_or(0);
        }
        needs.kv_has_home = true;
        let least = needs.min_fast_bytes();
        let more = match parts.dice.below(4) {
            0 => 0,
            1 => parts.dice.below(16) * GRANULE,
            2 => parts.dice.below(needs.max_useful_bytes() / 2),
            _ => needs.max_useful_bytes(),
        };
        let slices = needs.kv.blocks_for(needs.context) * needs.kv.layers;
        let layout = Layout::new(needs, least + more).expect("the budget suffices");
        let mapping = Mapping::new(layout.space_bytes).expect("memory");
        let space = Space::mapped(mapping);
        let work = space
            .alloc_at(0, layout.ring_start)
            .expect("an empty arena");
        let table = block_table(specs.len() + slices + DRILL_BLOCKS);
        let clock = Arc::new(parts.timeline.clone());
        let mover = Arc::new(Mover::stepped(table, parts.paths, clock.clone(), clock));
        for (block, sums) in model.sums.iter().enumerate() {
            mover.set_sums(BlockId::new(block as u32), Arc::clone(sums));
        }
        let homes = Homes::new(parts.homes, Arc::clone(&mover));
        let rates: Vec<f64> = homes.list.iter().map(|_| 1e9).collect();
        let reserve = layout.needs().kv.bytes_for(layout.needs().context) / 4;
        let supply = Supply::new(origins, homes.clone(), specs.clone());
        let supply = supply.with_homes(&layout, 1e9, &rates, reserve);
        let layout_end = layout.space_bytes;
        let stager = Stager::new(&model.manifest, layout.clone(), supply, Arc::clone(&space));
        Self {
            model,
            dice: parts.dice,
            timeline: parts.timeline,
            faults: parts.faults,
            net_faults: parts.net_faults,
            network: parts.network,
            hosts: parts.hosts,
            clients: parts.clients,
            space,
            layout,
            homes,
            mover,
            stager,
            first_drill: specs.len() + slices,
            specs,
            log: parts.log,
            drill_bytes: parts.drill_bytes,
            border: layout_end,
            compared: 0,
            has_files,
            work,
        }
    }

    pub(crate) fn now(&self) -> u64 {
        self.timeline.now().get()
    }

    /// The weights give way to the KV of so many tokens.
    pub(crate) fn set_border(&mut self, tokens: usize) -> Result<(), MoveError> {
        self.border = self.layout.kv_border(tokens, 0);
        self.stager.set_border(self.border)
    }

    /// How often a fault has happened.
    pub(crate) fn count(&self, fault: Fault) -> u64 {
        self.faults.counts()[fault as usize] + self.net_faults.counts()[fault as usize]
    }

    /// All faults so far.
    pub(crate) fn all_faults(&self) -> u64 {
        Fault::ALL.iter().map(|&fault| self.count(fault)).sum()
    }

    /// Something happened that may have ended the connections of a home.
    pub(crate) fn is_hurt(&self, home: usize) -> bool {
        let ends = [
            Fault::Flip,
            Fault::Duplicate,
            Fault::Loss,
            Fault::Partition,
            Fault::Reset,
            Fault::Pause,
            Fault::Death,
            Fault::ClockJump,
        ];
        let counts = self.net_faults.counts();
        let on_net = ends.iter().any(|&fault| counts[fault as usize] > 0);
        let hurt = on_net || self.count(Fault::Death) + self.count(Fault::ClockJump) > 0;
        hurt && self.homes.list[home].lent.is_some()
    }

    /// Bytes of the work area.
    pub(crate) fn work_bytes(&self) -> u64 {
        self.work.len()
    }
}

impl Parts {
    fn path(&mut self, name: String, files: &MemoryFiles) -> PathParts {
        let link = Link {
            latency_ns: self.dice.between(5_000, 200_000),
            bandwidth: rate(self.dice.between(100_000_000, 4_000_000_000)),
            error: 0.0,
            short: 0.0,
            flip: 0.0,
        };
        let seed = self.dice.0.next_u64();
        let limit = rate(self.dice.between(20_000_000, 400_000_000));
        let driver = SimDriver::new(files.clone(), self.timeline.seat(), link, seed);
        let driver = driver.with_faults(self.faults.clone());
        if self.paths.is_empty() {
            self.log = driver.log();
        }
        PathParts {
            name,
            driver: Box::new(driver),
            source: Box::new(files.clone()),
            limit: self.dice.chance(0.5).then_some(limit),
            bounce: None,
            disk: Some(DiskParts {
                // Not drawn, so that what else is drawn stays what it was.
                sizing: if seed.is_multiple_of(2) {
                    Sizing::Latency
                } else {
                    Sizing::Fixed
                },
                meter: None,
                note: None,
            }),
        }
    }

    /// Two nodes, which hold the model if it is read from there.
    fn start_hosts(&mut self, model: &Model, has_files: bool) {
        let sizes = model
            .objects
            .iter()
            .map(|object| object.len() as u64 + GRANULE);
        let content: u64 = sizes.sum();
        for number in 0..2 {
            let more = self.dice.between(1 << 20, 6 << 20) / GRANULE * GRANULE;
            let mut host = Host {
                node: None,
                mem: content + more,
                starts: 10 + 1000 * number as u64,
                objects: if has_files {
                    Vec::new()
                } else {
                    model.objects.clone()
                },
                content: 0,
            };
            host.start(&self.timeline);
            let start = (host.starts, host.mem - host.content);
            let host = Arc::new(Mutex::new(host));
            self.hosts.push(Arc::clone(&host));
            let reach = Arc::new(Route {
                number,
                host,
                network: self.network.clone(),
                timeline: self.timeline.clone(),
            });
            let clock = Arc::new(self.timeline.clone());
            let client = SimClient::new(&format!("node{number}"), reach, clock, start);
            self.timeline.join(client.watch(self.timeline.seat()));
            self.clients.push(client);
        }
    }

    fn add_files(&mut self, model: &Model) {
        let mut all = model.files.clone();
        all.push(Arc::clone(&self.drill_bytes));
        let files = MemoryFiles::shared(all);
        let path = self.path("origin>dram".to_owned(), &files);
        self.paths.push(path);
    }

    /// Both nodes are origins.
    fn add_objects(&mut self, model: &Model) -> Vec<Replica> {
        let mut replicas = Vec::new();
        for (number, client) in self.clients.iter().enumerate() {
            let host = self.hosts[number].lock();
            let node = host.node.as_ref().expect("started");
            let put = |object: &Arc<Vec<u8>>| node.put(object).expect("it is there");
            let objects: Vec<_> = model.objects.iter().map(put).collect();
            drop(host);
            let (driver, source) = client.read_objects(&objects);
            replicas.push(Replica {
                path: PathId::new(self.paths.len()),
                node: Some((Arc::clone(client.health()), source.clone())),
            });
            self.paths.push(PathParts {
                name: format!("origin{number}>dram"),
                driver,
                source: Box::new(source),
                limit: None,
                bounce: None,
                disk: None,
            });
        }
        replicas
    }

    fn add_home(&mut self, name: &str, space: Arc<Space>, write: PathParts, read: PathParts) {
        let first = self.paths.len();
        let ids = (PathId::new(first), PathId::new(first + 1));
        self.homes.push(Home::new(name, space, ids));
        self.paths.extend([write, read]);
    }

    fn add_disk(&mut self) {
        let files = MemoryFiles::new(vec![vec![0; DISK as usize]]);
        let write = self.path("dram>nvme".to_owned(), &files);
        let read = self.path("nvme>dram".to_owned(), &files);
        self.add_home("nvme", Space::counted(DISK), write, read);
    }

    /// A home in memory of a node, which may say that it has more than it has.
    fn add_lent(&mut self, number: usize) {
        let mut bytes = 2 << 20;
        if self.dice.chance(0.2) {
            self.faults.count(Fault::Lie);
            bytes = 4 * self.hosts[number].lock().mem;
        }
        let name = format!("node{number}");
        let lent = self.clients[number].lend(bytes);
        let (reader, source) = lent.reader().expect("nothing is cut");
        let writer = lent.writer().expect("nothing is cut");
        let parts = |way: &str, driver| PathParts {
            name: format!("{name} {way}"),
            driver,
            source: Box::new(source.clone()),
            limit: None,
            bounce: None,
            disk: None,
        };
        let (write, read) = (parts("write", writer), parts("read", reader));
        self.add_home(&name, Arc::clone(lent.space()), write, read);
        self.homes.last_mut().expect("added just now").lent = Some(lent);
    }
}
