//! Options of a session, and the numbers that they and the model come to.

use crate::backend::StepShape;
use crate::backend::cpu::work_shape;
use crate::backend::work::WorkShape;
use crate::kv::KvLayout;
use crate::layout::{ExpertNeeds, Needs};
use crate::manifest::{Block, Manifest, Role};
use crate::meter::DiskOptions;
use crate::session::SessionError;
use larder_cpu::{Isa, KvShape, KvType, WeightType};
use larder_pool::sys::limits::available_bytes;
use larder_pool::units::{BytesPerSec, SLICE_TOKENS};
use std::path::PathBuf;

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
    /// Rate of the link from the model files.
    pub origin_limit: Option<BytesPerSec>,
    /// Rate of every link to and from the fast tier.
    pub fast_limit: Option<BytesPerSec>,
    /// NUMA node of the fast tier.
    pub node: Option<u32>,
    /// The fast tier is memory of a simulated device.
    pub is_device: bool,
    /// Tiers below the fast one.
    pub lower: Vec<LowerTier>,
    /// Rows of one prefill pass, at most; `None` leaves it to the layout.
    pub prefill_rows: Option<usize>,
    /// The budget may shrink while a run goes on, see [`crate::pressure`].
    pub may_shrink: bool,
    pub disks: DiskOptions,
}

impl SessionOptions {
    /// One tier of host memory with the default budget, and nothing else asked for.
    pub const fn plain(isa: Isa, threads: usize) -> Self {
        Self {
            fast_bytes: None,
            context: None,
            kv_type: None,
            isa,
            threads,
            origin_limit: None,
            fast_limit: None,
            node: None,
            is_device: false,
            lower: Vec::new(),
            prefill_rows: None,
            may_shrink: false,
            disks: DiskOptions::PLAIN,
        }
    }

    /// The fast tier is memory of the host that may go back to it; a device's is its own.
    pub const fn shrinks(&self) -> bool {
        self.may_shrink && !self.is_device
    }
}

/// A tier that may hold what the fast tier does not.
#[derive(Clone, Debug, PartialEq)]
pub enum LowerTier {
    /// A folder on a disk.
    Nvme {
        folder: PathBuf,
        bytes: u64,
        limit: Option<BytesPerSec>,
    },
    /// A memory node.
    Remote {
        /// HOST:PORT.
        address: String,
        token_file: Option<PathBuf>,
        is_forced: bool,
        /// It need not be there at the start: it is used from when it comes.
        may_join: bool,
        limit: Option<BytesPerSec>,
    },
}

impl LowerTier {
    /// The tier is there, or nothing starts.
    const fn is_certain(&self) -> bool {
        !matches!(self, Self::Remote { may_join: true, .. })
    }
}

/// What became of the options.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub budget: u64,
    pub context: usize,
    pub kv_type: KvType,
    pub origin_limit: Option<BytesPerSec>,
    pub prefill_rows: Option<usize>,
    /// The fast tier, as paths name it.
    pub fast_name: &'static str,
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
        experts: config.experts,
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
    let mut needs = needs(manifest, work_shape(&shape, quantises), kv, context);
    needs.kv_has_home = options.lower.iter().any(LowerTier::is_certain);
    needs.keeps_ring = options.shrinks();
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
            origin_limit: slower(origin_limit, options.fast_limit),
            prefill_rows,
            fast_name: if options.is_device { "hbm" } else { "dram" },
            shape,
        },
        needs,
    ))
}

fn needs(manifest: &Manifest, work: WorkShape, kv: KvLayout, context: usize) -> Needs {
    let (dense, experts) = manifest.blocks.split_at(manifest.program.dense_blocks());
    let bytes = |block: &Block| block.spec.extent_bytes();
    let picked = manifest.config.experts.map(|experts| experts.picked);
    Needs {
        blocks: dense.iter().map(bytes).collect(),
        experts: picked.map(|picked| ExpertNeeds {
            count: experts.len(),
            picked,
            frame_bytes: experts.iter().map(bytes).max().unwrap_or(0),
        }),
        work,
        kv,
        kv_has_home: false,
        keeps_ring: false,
        is_placed: false,
        context,
        embedding_row: manifest.embedding().row_bytes(),
    }
}

/// The lower of two limits.
pub(super) fn slower(one: Option<BytesPerSec>, other: Option<BytesPerSec>) -> Option<BytesPerSec> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
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
