//! The tiers of a session, opened: their paths, and the homes that blocks may go to.

use crate::home::Home;
use crate::manifest::{Manifest, Origin};
use crate::session::fast::FastTier;
use crate::session::nodes::Nodes;
use crate::session::resolve::slower;
use crate::session::{LowerTier, SessionError, SessionOptions};
use larder_pool::mover::PathParts;
use larder_pool::source::Files;
use larder_pool::spill::Spill;
use larder_pool::sys::driver::open_driver;
use larder_pool::sys::file::SourceFile;
use larder_pool::sys::space::Space;
use larder_pool::units::{BytesPerSec, PathId};
use std::sync::Arc;

/// Bandwidth assumed of a tier that has no limit, in bytes per second.
const NVME_GUESS: f64 = 1e9;
const REMOTE_GUESS: f64 = 2e9;

/// See the module.
pub(super) struct Tiers {
    pub(super) paths: Vec<PathParts>,
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
    /// Opens what `options` name, for the fast tier `fast`. Path 0 is the origin's.
    pub(super) fn open(
        manifest: &Manifest,
        options: &SessionOptions,
        nodes: &Nodes,
        fast: &FastTier,
    ) -> Result<Self, SessionError> {
        let mut tiers = Self {
            paths: Vec::new(),
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
                let spill = Spill::open(folder, *bytes)?;
                let limit = slower(*limit, options.fast_limit);
                let path = |name: String| -> Result<PathParts, SessionError> {
                    let (memory, bounce) = fast.landing()?;
                    let parts = spill.path(name, &memory, limit);
                    Ok(PathParts { bounce, ..parts })
                };
                let read = path(format!("nvme>{}", fast.name))?;
                let write = path(format!("{}>nvme", fast.name))?;
                tiers.add_home("nvme", Arc::clone(spill.space()), (read, write));
                tiers.rates.push(limit.map_or(NVME_GUESS, BytesPerSec::get));
                tiers.spill = Some(spill);
            }
        }
        for (index, link) in nodes.links.iter().enumerate() {
            let name = match index {
                0 => "remote".to_owned(),
                _ => format!("remote{}", index + 1),
            };
            let limit = slower(link.limit, options.fast_limit);
            let lent = link.client.lend(link.client.info()?.free_bytes)?;
            let (reader, source) = lent.reader()?;
            let (_, sink) = lent.reader()?;
            let parts = |name, driver, source| -> Result<PathParts, SessionError> {
                Ok(PathParts {
                    name,
                    driver,
                    source: Box::new(source),
                    limit,
                    bounce: fast.landing()?.1,
                })
            };
            let read = parts(format!("{name}>{}", fast.name), reader, source)?;
            let write = parts(format!("{}>{name}", fast.name), lent.writer()?, sink)?;
            tiers.add_home(&name, Arc::clone(lent.space()), (read, write));
            tiers
                .rates
                .push(limit.map_or(REMOTE_GUESS, BytesPerSec::get));
            let home = tiers.homes.last_mut().expect("added just now");
            (home.lent, home.is_forced) = (Some(lent), link.is_forced);
            home.is_origin = nodes.origin == Some(index);
        }
        tiers.sort();
        tiers.limits = tiers.paths.iter().map(|path| path.limit).collect();
        Ok(tiers)
    }

    fn open_origin(
        &mut self,
        manifest: &Manifest,
        options: &SessionOptions,
        nodes: &Nodes,
        fast: &FastTier,
    ) -> Result<(), SessionError> {
        let name = format!("origin>{}", fast.name);
        let (memory, bounce) = fast.landing()?;
        let limit = slower(options.origin_limit, options.fast_limit);
        let parts = match &manifest.origin {
            Origin::Files(files) => {
                self.files = files
                    .iter()
                    .map(|file| SourceFile::open(&file.path).map(Arc::new))
                    .collect::<Result<Vec<_>, _>>()?;
                self.origin_rate = limit.map_or(NVME_GUESS, BytesPerSec::get);
                PathParts {
                    name,
                    driver: open_driver(self.files.clone(), &memory),
                    source: Box::new(Files(self.files.clone())),
                    limit,
                    bounce,
                }
            }
            Origin::Objects(hashes) => {
                let node = nodes.origin.expect("a packed model was opened from a node");
                let link = &nodes.links[node];
                let limit = slower(limit, link.limit);
                self.origin_rate = limit.map_or(REMOTE_GUESS, BytesPerSec::get);
                let (driver, source) = link.client.read_objects(hashes)?;
                PathParts {
                    name,
                    driver,
                    source: Box::new(source),
                    limit,
                    bounce,
                }
            }
        };
        self.paths.push(parts);
        Ok(())
    }

    fn add_home(&mut self, name: &str, space: Arc<Space>, (read, write): (PathParts, PathParts)) {
        let first = self.paths.len();
        self.homes.push(Home {
            name: name.to_owned(),
            space,
            write: PathId::new(first),
            read: PathId::new(first + 1),
            lent: None,
            is_origin: false,
            is_forced: false,
        });
        self.paths.extend([write, read]);
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
