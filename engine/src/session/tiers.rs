//! The tiers of a session, opened: their paths, and the homes that blocks may go to.

use crate::home::Home;
use crate::manifest::{Manifest, Origin};
use crate::session::fast::FastTier;
use crate::session::nodes::{NodeLink, Nodes};
use crate::session::resolve::slower;
use crate::session::{LowerTier, SessionError, SessionOptions};
use crate::supply::Replica;
use larder_pool::mover::PathParts;
use larder_pool::path::DiskParts;
use larder_pool::remote::ObjectSource;
use larder_pool::source::Files;
use larder_pool::spill::Spill;
use larder_pool::sys::driver::open_driver;
use larder_pool::sys::file::SourceFile;
use larder_pool::sys::io::Driver;
use larder_pool::sys::space::Space;
use larder_pool::table::HOMES_PER_BLOCK;
use larder_pool::units::{BytesPerSec, PathId};
use std::sync::Arc;

/// Bandwidth assumed of a tier that has no limit, in bytes per second.
const NVME_GUESS: f64 = 1e9;
const REMOTE_GUESS: f64 = 2e9;

/// See the module.
pub(super) struct Tiers {
    pub(super) paths: Vec<PathParts>,
    /// Replicas of the model; their paths are the first ones.
    pub(super) origins: Vec<Replica>,
    pub(super) homes: Vec<Home>,
    /// Bandwidth of each home, and of the origin, as far as it is known before anything ran.
    pub(super) rates: Vec<f64>,
    pub(super) origin_rate: f64,
    /// What weights of a packed model may be homed at, beside their origin: its node would only
    /// hold them twice.
    pub(super) weight_rates: Vec<f64>,
    /// Limits of the paths, by path id.
    pub(super) limits: Vec<Option<BytesPerSec>>,
    pub(super) spill: Option<Spill>,
    pub(super) files: Vec<Arc<SourceFile>>,
}

impl Tiers {
    /// Opens what `options` name, for the fast tier `fast`. The origin's paths come first.
    pub(super) fn open(
        manifest: &Manifest,
        options: &SessionOptions,
        nodes: &Nodes,
        fast: &FastTier,
    ) -> Result<Self, SessionError> {
        let mut tiers = Self {
            paths: Vec::new(),
            origins: Vec::new(),
            homes: Vec::new(),
            rates: Vec::new(),
            origin_rate: 0.0,
            weight_rates: Vec::new(),
            limits: Vec::new(),
            spill: None,
            files: Vec::new(),
        };
        tiers.open_origin(manifest, options, nodes, fast)?;
        for tier in &options.lower {
            if let LowerTier::Nvme {
                folder,
                bytes,
                limit,
            } = tier
            {
                let limit = slower(*limit, options.fast_limit);
                let disk = || options.disks.parts(folder);
                tiers.open_nvme(Spill::open(folder, *bytes)?, (limit, &disk), fast)?;
            }
        }
        for (index, link) in nodes.links.iter().enumerate() {
            let limit = slower(link.limit, options.fast_limit);
            tiers.open_node(&numbered("remote", index), link, limit, fast)?;
            let home = tiers.homes.last_mut().expect("added just now");
            home.is_origin = nodes.origins.contains(&index);
        }
        if tiers.homes.len() > HOMES_PER_BLOCK {
            let count = tiers.homes.len();
            return Err(SessionError::TooManyTiers { count });
        }
        tiers.sort();
        tiers.limits = tiers.paths.iter().map(|path| path.limit).collect();
        Ok(tiers)
    }

    fn open_nvme(
        &mut self,
        spill: Spill,
        (limit, disk): (Option<BytesPerSec>, &dyn Fn() -> DiskParts),
        fast: &FastTier,
    ) -> Result<(), SessionError> {
        let path = |name: String| -> Result<PathParts, SessionError> {
            let (memory, bounce) = fast.landing()?;
            let parts = spill.path(name, &memory, limit);
            let disk = Some(disk());
            Ok(PathParts {
                bounce,
                disk,
                ..parts
            })
        };
        let read = path(format!("nvme>{}", fast.name))?;
        let write = path(format!("{}>nvme", fast.name))?;
        self.add_home("nvme", Arc::clone(spill.space()), (read, write));
        self.rates.push(limit.map_or(NVME_GUESS, BytesPerSec::get));
        self.spill = Some(spill);
        Ok(())
    }

    fn open_node(
        &mut self,
        name: &str,
        link: &NodeLink,
        limit: Option<BytesPerSec>,
        fast: &FastTier,
    ) -> Result<(), SessionError> {
        let lent = if link.client.health().life() > 0 {
            link.client.lend(link.client.info()?.free_bytes)?
        } else {
            link.client.lend_later()
        };
        let (reader, source) = lent.reader()?;
        let parts = |name, driver| -> Result<PathParts, SessionError> {
            Ok(PathParts {
                name,
                driver,
                source: Box::new(source.clone()),
                limit,
                bounce: fast.landing()?.1,
                disk: None,
            })
        };
        let read = parts(format!("{name}>{}", fast.name), reader)?;
        let write = parts(format!("{}>{name}", fast.name), lent.writer()?)?;
        self.add_home(name, Arc::clone(lent.space()), (read, write));
        self.rates
            .push(limit.map_or(REMOTE_GUESS, BytesPerSec::get));
        let home = self.homes.last_mut().expect("added just now");
        (home.lent, home.is_forced) = (Some(lent), link.is_forced);
        Ok(())
    }

    fn open_origin(
        &mut self,
        manifest: &Manifest,
        options: &SessionOptions,
        nodes: &Nodes,
        fast: &FastTier,
    ) -> Result<(), SessionError> {
        let limit = slower(options.origin_limit, options.fast_limit);
        match &manifest.origin {
            Origin::Files(files) => {
                self.files = files
                    .iter()
                    .map(|file| SourceFile::open(&file.path).map(Arc::new))
                    .collect::<Result<Vec<_>, _>>()?;
                self.origin_rate = limit.map_or(NVME_GUESS, BytesPerSec::get);
                let (memory, bounce) = fast.landing()?;
                let first = files.first();
                self.origins.push(Replica {
                    path: PathId::new(0),
                    node: None,
                });
                self.paths.push(PathParts {
                    name: format!("origin>{}", fast.name),
                    driver: open_driver(self.files.clone(), &memory),
                    source: Box::new(Files(self.files.clone())),
                    limit,
                    bounce,
                    disk: first.map(|file| options.disks.parts(&file.path)),
                });
            }
            Origin::Objects(hashes) => {
                let first = nodes.origins.iter().map(|&node| &nodes.links[node]);
                for link in first {
                    let (driver, source) = link.client.read_objects(hashes)?;
                    let limit = slower(limit, link.limit);
                    self.origin_rate += limit.map_or(REMOTE_GUESS, BytesPerSec::get);
                    self.add_replica(link, limit, (driver, source), fast)?;
                }
                let known = self.origins.first().and_then(|first| first.node.clone());
                let (_, known) = known.expect("a model that was opened has a node");
                for link in nodes
                    .links
                    .iter()
                    .filter(|link| link.client.health().life() == 0)
                {
                    let reader = link.client.read_later(&known);
                    self.add_replica(link, slower(limit, link.limit), reader, fast)?;
                }
            }
        }
        Ok(())
    }

    /// Another replica of a packed model, at a node.
    fn add_replica(
        &mut self,
        link: &NodeLink,
        limit: Option<BytesPerSec>,
        (driver, source): (Box<dyn Driver>, ObjectSource),
        fast: &FastTier,
    ) -> Result<(), SessionError> {
        let number = self.origins.len();
        self.origins.push(Replica {
            path: PathId::new(self.paths.len()),
            node: Some((Arc::clone(link.client.health()), source.clone())),
        });
        self.paths.push(PathParts {
            name: format!("{}>{}", numbered("origin", number), fast.name),
            driver,
            source: Box::new(source),
            limit,
            bounce: fast.landing()?.1,
            disk: None,
        });
        Ok(())
    }

    fn add_home(&mut self, name: &str, space: Arc<Space>, (read, write): (PathParts, PathParts)) {
        let first = self.paths.len();
        let ids = (PathId::new(first), PathId::new(first + 1));
        self.homes.push(Home::new(name, space, ids));
        self.paths.extend([write, read]);
    }

    /// Has homes read in place whose memory kernels reach: a limit stands for a link that would
    /// have to carry it.
    pub(super) fn place_homes(&mut self) -> Result<(), SessionError> {
        for home in &mut self.homes {
            let is_free = self.limits[home.read.index()].is_none() && !home.is_origin;
            if let Some(lent) = home.lent.as_ref().filter(|_| is_free) {
                home.is_placed = lent.place()?;
            }
        }
        Ok(())
    }

    /// The fastest home first.
    fn sort(&mut self) {
        let mut both: Vec<(f64, Home)> = self.rates.drain(..).zip(self.homes.drain(..)).collect();
        both.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        for (rate, home) in both {
            self.weight_rates
                .push(if home.is_origin { 0.0 } else { rate });
            self.rates.push(rate);
            self.homes.push(home);
        }
    }
}

/// The name of the first of its kind, and of those behind it.
fn numbered(name: &str, index: usize) -> String {
    match index {
        0 => name.to_owned(),
        _ => format!("{name}{}", index + 1),
    }
}
