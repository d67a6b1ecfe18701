//! Opening: numbers to an arena, the tiers and the threads around it.

use crate::backend::Backend;
use crate::backend::cpu::CpuBackend;
use crate::backend::sim::SimBackend;
use crate::backend::work::WorkBuffers;
use crate::gather::Gatherer;
use crate::heat::Heat;
use crate::home::Homes;
use crate::kv::kept::KvIndex;
use crate::layout::{BASE_ROWS, Layout};
use crate::manifest::Manifest;
use crate::session::fast::FastTier;
use crate::session::in_place::place;
use crate::session::nodes::Nodes;
use crate::session::resolve::{SessionOptions, resolve};
use crate::session::tiers::Tiers;
use crate::session::warm::WarmUp;
use crate::session::{Carried, Session, SessionError, SpillHome};
use crate::stager::Stager;
use crate::supply::{Replica, Supply};
use larder_cpu::{Kernels, Pool};
use larder_pool::clock::RealClock;
use larder_pool::mover::Mover;
use larder_pool::remote::Placed;
use larder_pool::spill::Spill;
use larder_pool::sys::mapping::Mapping;
use larder_pool::sys::space::Space;
use larder_pool::table::block_table;
use larder_pool::units::BlockId;
use std::sync::Arc;

impl Session {
    /// Opens `manifest` under `options`, whose nodes are connected to.
    pub fn open(manifest: Arc<Manifest>, options: &SessionOptions) -> Result<Self, SessionError> {
        let nodes = Nodes::connect(options)?;
        Self::open_with(manifest, options, &nodes)
    }

    /// Opens `manifest` under `options` with nodes that are connected already.
    pub fn open_with(
        manifest: Arc<Manifest>,
        options: &SessionOptions,
        nodes: &Nodes,
    ) -> Result<Self, SessionError> {
        let (resolved, mut needs) = resolve(&manifest, options)?;
        let placed = place(&manifest, options, nodes)?;
        needs.is_placed = placed.is_some();
        let layout = Layout::new(needs, resolved.budget)?;
        let needs = layout.needs().clone();
        let kernels = Kernels::new(options.isa, Arc::new(Pool::new(options.threads)))?;
        let mapping = arena(layout.space_bytes, options)?;
        let fast = FastTier::new(mapping, options.is_device).map_err(SessionError::Threads)?;
        let space = Arc::clone(&fast.space);
        let weights = manifest.blocks.len();
        let slices = needs.kv.blocks_for(resolved.context) * needs.kv.layers;
        let table = block_table(weights + slices + 1);
        let tiers = open_tiers(&manifest, (options, nodes), &fast, placed.is_some())?;
        let paths = tiers.paths.len();
        let clock = Arc::new(RealClock::new());
        let mover = Mover::start(Arc::clone(&table), tiers.paths, clock);
        let mover = Arc::new(mover.map_err(SessionError::Threads)?);
        let homes = Homes::new(tiers.homes, Arc::clone(&mover));
        let spill = tiers.spill.map(|folder| SpillHome::new(folder, &homes));
        let rates = (tiers.origin_rate, tiers.weight_rates.as_slice());
        let origins = tiers.origins.len();
        let model = (&*manifest, tiers.origins, placed);
        let supply = open_supply(model, &layout, &homes, rates);

        let work = WorkBuffers::new(&needs.work, BASE_ROWS, BASE_ROWS, &space, Space::alloc_low)
            .expect("the layout keeps the work area free");
        let gather_start = needs.work.bytes(BASE_ROWS, BASE_ROWS);
        let gather = space
            .alloc_at(gather_start, needs.gather_bytes(BASE_ROWS))
            .expect("the layout keeps the work area free");
        let rope = manifest.config.rope.clone();
        let cpu = CpuBackend::new(kernels, resolved.shape.clone(), rope, fast.key.clone());
        let mut backend = on_tier(cpu, &fast).map_err(SessionError::Threads)?;
        backend.set_work(work);
        let rows = BlockId::new((weights + slices) as u32);
        let mut gatherer = Gatherer::new(supply.clone(), Arc::clone(&space), rows, &manifest);
        gatherer.set_extent(gather);
        let stager = Stager::new(&manifest, layout.clone(), supply, Arc::clone(&space));
        let mut session = Self {
            backend,
            gatherer,
            stager,
            homes,
            mover,
            device: fast.device,
            table,
            space,
            layout,
            manifest,
            resolved,
            files: tiers.files,
            spill,
            home_rates: tiers.rates,
            origins,
            nodes: nodes.links.clone(),
            limits: tiers.limits,
            probed: vec![0; paths],
            shake: None,
            pressure: None,
            heat: Heat::default(),
            warm_up: WarmUp::default(),
        };
        session.check_tiers(&Carried::default())?;
        Ok(session)
    }
}

/// Memory of the fast tier, where it is wanted.
fn arena(bytes: u64, options: &SessionOptions) -> Result<Mapping, SessionError> {
    let mapping = if options.shrinks() {
        Mapping::that_shrinks(bytes)?
    } else {
        Mapping::new(bytes)?
    };
    if let Some(node) = options.node {
        mapping.bind(node)?;
    }
    Ok(mapping)
}

/// The lower tiers. Weights go home only if the model is not read in place as it is.
fn open_tiers(
    manifest: &Manifest,
    (options, nodes): (&SessionOptions, &Nodes),
    fast: &FastTier,
    is_placed: bool,
) -> Result<Tiers, SessionError> {
    let mut tiers = Tiers::open(manifest, options, nodes, fast)?;
    if manifest.is_packed && !is_placed && !options.is_device {
        tiers.place_homes()?;
    }
    Ok(tiers)
}

/// The backend that computes where the fast tier is.
fn on_tier(cpu: CpuBackend, fast: &FastTier) -> std::io::Result<Box<dyn Backend>> {
    Ok(if fast.key.is_some() {
        Box::new(SimBackend::new(cpu)?)
    } else {
        Box::new(cpu)
    })
}

/// Where the weights come from; of a packed model that streams, with `rates` of the origin and the
/// homes.
fn open_supply(
    (manifest, origins, placed): (&Manifest, Vec<Replica>, Option<Arc<Placed>>),
    layout: &Layout,
    homes: &Homes,
    (rate, rates): (f64, &[f64]),
) -> Supply {
    let specs = manifest.blocks.iter();
    let specs = specs.map(|block| Arc::new(block.spec.clone())).collect();
    for (index, sums) in manifest.sums.iter().enumerate() {
        let block = BlockId::new(index as u32);
        homes.mover.set_sums(block, Arc::clone(sums));
    }
    let supply = Supply::new(origins, homes.clone(), specs).with_placed(placed);
    if !manifest.is_packed || supply.is_placed() {
        return supply;
    }
    let needs = layout.needs();
    let reserve = needs.kv.bytes_for(needs.context);
    supply.with_homes(layout, rate, rates, reserve)
}

impl SpillHome {
    /// The folder behind the home `nvme`, with what an earlier session kept there.
    fn new(mut folder: Spill, homes: &Homes) -> Self {
        let home = homes.list.iter().position(|home| home.name == "nvme");
        Self {
            home: home.expect("a spill folder is behind a home"),
            index: KvIndex::new(folder.take_index()),
            folder,
        }
    }
}
