//! Opening: options to numbers, numbers to an arena and the threads around it.

use crate::backend::StepShape;
use crate::backend::cpu::{CpuBackend, work_shape};
use crate::backend::work::WorkBuffers;
use crate::gather::Gatherer;
use crate::kv::KvLayout;
use crate::layout::{BASE_ROWS, Layout, Needs};
use crate::manifest::{Manifest, Role};
use crate::session::{Session, SessionError};
use crate::stager::Stager;
use larder_cpu::{Isa, Kernels, KvShape, KvType, Pool, WeightType};
use larder_pool::clock::RealClock;
use larder_pool::mover::{Mover, PathParts};
use larder_pool::source::Files;
use larder_pool::sys::driver::open_driver;
use larder_pool::sys::file::SourceFile;
use larder_pool::sys::limits::available_bytes;
use larder_pool::sys::mapping::Mapping;
use larder_pool::sys::space::Space;
use larder_pool::table::block_table;
use larder_pool::units::{BlockId, BytesPerSec, SLICE_TOKENS};
use std::sync::Arc;

/// Context when nothing else is said, at most, in tokens.
const CONTEXT_DEFAULT: usize = 4096;

/// What the caller asks for; `None` is the default of the command line.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    pub fast_bytes: Option<u64>,
    pub context: Option<usize>,
    pub kv_type: Option<KvType>,
    pub isa: Isa,
    pub threads: usize,
    pub origin_limit: Option<BytesPerSec>,
    /// NUMA node of the fast tier.
    pub node: Option<u32>,
    /// Rows of one prefill pass, at most; `None` leaves it to the layout.
    pub prefill_rows: Option<usize>,
}

/// What became of the options.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub budget: u64,
    pub context: usize,
    pub kv_type: KvType,
    pub origin_limit: Option<BytesPerSec>,
    pub prefill_rows: Option<usize>,
    pub shape: StepShape,
}

/// Resolves options against a model, and says what it needs.
pub fn resolve(
    manifest: &Manifest,
    options: &SessionOptions,
) -> Result<(Resolved, Needs), SessionError> {
    let config = &manifest.config;
    let kv_type = options.kv_type.unwrap_or_else(|| kv_type_auto(manifest));
    let kv_shape = KvShape::new(config.kv_heads, config.head_dim, kv_type)?;
    let kv = KvLayout {
        layers: config.layers,
        slice_bytes: kv_shape.slice_bytes() as u64,
        first_block: manifest.blocks.len() as u32,
    };
    let budget = options
        .fast_bytes
        .unwrap_or_else(|| available_bytes() / 5 * 4);
    let context = match options.context {
        Some(context) if context > config.context => {
            return Err(SessionError::Context {
                context,
                trained: config.context,
            });
        }
        Some(context) => context,
        None => context_default(config.context, budget, &kv),
    };
    let shape = StepShape {
        dim: config.dim,
        heads: config.heads,
        ffn: config.ffn,
        vocab: config.vocab,
        norm_eps: config.norm_eps,
        kv: kv_shape,
        window: None,
    };
    let quantises = options.isa != Isa::Reference
        && manifest
            .tensors
            .iter()
            .any(|tensor| tensor.ty.block_elems() > 1);
    let needs = Needs {
        blocks: manifest
            .blocks
            .iter()
            .map(|block| block.spec.extent_bytes())
            .collect(),
        work: work_shape(&shape, quantises),
        kv,
        context,
        embedding_row: manifest.embedding().row_bytes(),
    };
    let SessionOptions {
        origin_limit,
        prefill_rows,
        ..
    } = *options;
    Ok((
        Resolved {
            budget,
            context,
            kv_type,
            origin_limit,
            prefill_rows,
            shape,
        },
        needs,
    ))
}

/// float32 for models stored in float32, else float16.
fn kv_type_auto(manifest: &Manifest) -> KvType {
    let is_f32 = manifest
        .tensors
        .iter()
        .find(|tensor| tensor.role == Role::Q)
        .is_some_and(|tensor| tensor.ty == WeightType::F32);
    if is_f32 { KvType::F32 } else { KvType::F16 }
}

/// The smallest of what the model was trained for, 4096, and what leaves half the budget to
/// weights.
fn context_default(trained: usize, budget: u64, kv: &KvLayout) -> usize {
    let blocks = (budget / 2 / kv.block_bytes().max(1)) as usize;
    trained
        .min(CONTEXT_DEFAULT)
        .min(blocks.max(1) * SLICE_TOKENS)
}

impl Session {
    /// Opens `manifest` under `options`.
    pub fn open(manifest: Arc<Manifest>, options: &SessionOptions) -> Result<Self, SessionError> {
        let (resolved, needs) = resolve(&manifest, options)?;
        let layout = Layout::new(needs, resolved.budget)?;
        let needs = layout.needs().clone();
        let kernels = Kernels::new(options.isa, Arc::new(Pool::new(options.threads)))?;
        let files = manifest
            .files
            .iter()
            .map(|file| SourceFile::open(&file.path).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        let mapping = Mapping::new(layout.space_bytes)?;
        if let Some(node) = options.node {
            mapping.bind(node)?;
        }
        let space = Space::mapped(mapping);
        let weights = manifest.blocks.len();
        let slices = needs.kv.blocks_for(resolved.context) * needs.kv.layers;
        let table = block_table(weights + slices + 1);
        let parts = PathParts {
            name: "origin>dram".to_owned(),
            driver: open_driver(files.clone(), &space),
            source: Box::new(Files(files.clone())),
            limit: resolved.origin_limit,
            bounce: None,
        };
        let clock = Arc::new(RealClock::new());
        let mover = Arc::new(Mover::start(Arc::clone(&table), vec![parts], clock));

        let work = WorkBuffers::new(&needs.work, BASE_ROWS, BASE_ROWS, &space, Space::alloc_low)
            .expect("the layout keeps the work area free");
        let gather_start = needs.work.bytes(BASE_ROWS, BASE_ROWS);
        let gather = space
            .alloc_at(gather_start, needs.gather_bytes(BASE_ROWS))
            .expect("the layout keeps the work area free");
        let rope = manifest.config.rope.clone();
        let mut backend = Box::new(CpuBackend::new(kernels, resolved.shape.clone(), rope));
        crate::backend::Backend::set_work(backend.as_mut(), work);
        let gather_block = BlockId::new((weights + slices) as u32);
        let embedding = manifest.embedding().clone();
        let mut gatherer = Gatherer::new(Arc::clone(&mover), gather_block, embedding);
        gatherer.set_extent(gather);
        let stager = Stager::new(
            &manifest,
            layout.clone(),
            Arc::clone(&mover),
            Arc::clone(&space),
        );
        Ok(Self {
            backend,
            gatherer,
            stager,
            mover,
            table,
            space,
            layout,
            manifest,
            resolved,
            files,
            probed_bytes: 0,
        })
    }
}
