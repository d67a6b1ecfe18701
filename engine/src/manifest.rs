//! A model on disk, checked and cut into blocks.
//!
//! [`Container`] opens files and lists what they hold; [`Manifest`] is a container whose
//! architecture, tensors, shapes and types are what the graph needs. Opening reads headers only.

mod error;
pub mod files;
mod stored;
pub mod gguf;
mod safetensors;
mod hf;
mod container;
mod arch;
mod shape;
mod assign;
mod cut;
pub mod packed;
#[doc(hidden)]
pub mod fuzz;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use arch::Role;
pub use container::{Container, Form, Outline, SourceFile, SpecialTokens};
pub use error::{HeaderError, ModelError, Quoted, TensorProblem};
pub use hf::{HfConfig, HfGeneration, HfQuantization, HfRope, TokenIds};
pub use stored::{Shape, StoredTensor};

use crate::config::ModelConfig;
use larder_cpu::weight::WeightType;
use larder_pool::block::BlockSpec;
use larder_pool::units::BlockId;
use larder_pool::wire::ObjectHash;
use shape::ReadAt;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A tensor of the model: a matrix of whole rows, or a vector as one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    pub role: Role,
    /// `None` for the tensors around the layers.
    pub layer: Option<u32>,
    /// Expert of the layer.
    pub expert: Option<u32>,
    pub name: String,
    pub ty: WeightType,
    pub rows: usize,
    pub cols: usize,
    /// Index into [`Manifest::files`].
    pub file: u32,
    /// First byte in the file.
    pub offset: u64,
    pub len: u64,
}

impl Tensor {
    pub fn row_bytes(&self) -> u64 {
        self.ty.row_bytes(self.cols) as u64
    }
}

/// Rows of one tensor inside a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Index into [`Manifest::tensors`].
    pub tensor: usize,
    pub row0: usize,
    pub rows: usize,
}

/// Which step of the program a block serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// Norms, biases, q, k, v and o of a layer, and the router of its experts.
    Attention,
    /// Equal rows of gate and up.
    GateUp,
    Down,
    /// The last norm and the output matrix.
    Head,
    /// Gate, up and down of one expert.
    Expert,
}

/// Unit of placement. Its id is its index in [`Manifest::blocks`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    pub kind: BlockKind,
    pub layer: Option<u32>,
    pub spec: BlockSpec,
    /// In the order of `spec.parts`.
    pub parts: SmallVec<[Part; 8]>,
}

/// Block ids of one layer; the ranges follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerBlocks {
    pub attention: Range<u32>,
    pub gate_up: Range<u32>,
    pub down: Range<u32>,
}

/// All block ids: first those that every step reads, in the order in which it does, then the
/// experts, layer by layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    pub layers: Vec<LayerBlocks>,
    pub head: Range<u32>,
    /// Experts of a layer; none in a dense model.
    pub experts: u32,
}

impl Program {
    /// Blocks that every step reads.
    pub const fn dense_blocks(&self) -> usize {
        self.head.end as usize
    }

    /// The block of an expert.
    pub const fn expert(&self, layer: usize, expert: usize) -> BlockId {
        BlockId::new(self.head.end + layer as u32 * self.experts + expert as u32)
    }
}

/// Where the bytes of a model stand first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Files(Vec<SourceFile>),
    /// Objects of memory nodes, by the number that runs have for their file.
    Objects(Vec<ObjectHash>),
}

/// Rows of the embedding that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowSegment {
    pub row0: usize,
    pub file: u32,
    /// First byte of row `row0` in the file.
    pub offset: u64,
}

/// A model that can be computed.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The path it was opened by.
    pub path: PathBuf,
    pub config: ModelConfig,
    pub origin: Origin,
    /// Where the rows of the embedding stand, in order.
    pub embedding_rows: Vec<RowSegment>,
    pub tensors: Vec<Tensor>,
    pub blocks: Vec<Block>,
    /// Checksums of the blocks, where they are known before the first read.
    pub sums: Vec<Arc<[u32]>>,
    /// Blocks stand back to back where they come from, so copies of them may have other homes.
    pub is_packed: bool,
    pub program: Program,
    pub special: SpecialTokens,
}

/// Opens the files of a model, or the heads that a packed folder has of them.
pub fn open_container(path: &Path) -> Result<Container, ModelError> {
    if packed::folder::is_packed_folder(path) {
        return Ok(Manifest::from_packed_folder(path)?.0);
    }
    Container::open(path)
}

impl Manifest {
    /// Opens a GGUF file, a model folder or a packed folder.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Ok(Self::open_with_container(path)?.1)
    }

    /// As [`Self::open`], with what else the files hold, such as the tokenizer.
    pub fn open_with_container(path: &Path) -> Result<(Container, Self), ModelError> {
        if packed::folder::is_packed_folder(path) {
            return Self::from_packed_folder(path);
        }
        let container = Container::open(path)?;
        let manifest = Self::from_container(&container)?;
        Ok((container, manifest))
    }

    /// Checks a container and cuts it into blocks.
    pub fn from_container(container: &Container) -> Result<Self, ModelError> {
        Self::build(container, &mut |file, offset, buffer| {
            let path = &container.files[file as usize].path;
            container.source.read_exact_at(path, buffer, offset)
        })
    }

    fn build(container: &Container, read_at: &mut ReadAt<'_>) -> Result<Self, ModelError> {
        let (row, config) = shape::read(container, read_at)?;
        if container.tensors.is_empty() {
            return Err(ModelError::NoTensors {
                path: container.path.clone(),
            });
        }
        let tensors = assign::assign(container, row, &config)?;
        let (blocks, program) = cut::cut(&tensors, &config);
        let embedding = tensors.iter().find(|tensor| tensor.role == Role::TokenEmbd);
        let embedding = embedding.expect("every model has an embedding");
        let rows = RowSegment {
            row0: 0,
            file: embedding.file,
            offset: embedding.offset,
        };
        Ok(Self {
            path: container.path.clone(),
            config,
            origin: Origin::Files(container.files.clone()),
            embedding_rows: vec![rows],
            tensors,
            blocks,
            sums: Vec::new(),
            is_packed: false,
            program,
            special: container.special_tokens(),
        })
    }

    /// The tensor of a role; `None` for optional ones that the model lacks.
    pub fn find(&self, role: Role, layer: Option<u32>) -> Option<&Tensor> {
        self.tensors
            .iter()
            .find(|tensor| tensor.role == role && tensor.layer == layer)
    }

    /// The matrix whose rows are the tokens; if tied, the head's rows too.
    pub fn embedding(&self) -> &Tensor {
        self.find(Role::TokenEmbd, None)
            .expect("every model has an embedding")
    }

    pub fn block(&self, id: BlockId) -> &Block {
        &self.blocks[id.index()]
    }

    /// Bytes of all tensors.
    pub fn weight_bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.len).sum()
    }

    /// Bytes of weights that every decode step reads, without the embedding rows it looks up and
    /// the experts it picks.
    pub fn dense_bytes(&self) -> u64 {
        let dense = &self.blocks[..self.program.dense_blocks()];
        dense.iter().map(|block| block.spec.data_bytes()).sum()
    }

    /// Bytes of one expert, or zero; those of mixed types differ, so the mean.
    pub fn expert_bytes(&self) -> u64 {
        let experts = &self.blocks[self.program.dense_blocks()..];
        let bytes: u64 = experts.iter().map(|block| block.spec.data_bytes()).sum();
        bytes / (experts.len() as u64).max(1)
    }

    /// Bytes of weights that a decode step reads, without the embedding rows it looks up.
    pub fn step_bytes(&self) -> u64 {
        let picked = self.config.experts.map_or(0, |experts| experts.picked);
        let picks = picked * self.config.layers;
        self.dense_bytes() + picks as u64 * self.expert_bytes()
    }

    /// Bytes of the largest block on a tier filled from the files.
    pub fn block_bytes_max(&self) -> u64 {
        self.blocks
            .iter()
            .map(|block| block.spec.extent_bytes())
            .max()
            .unwrap_or(0)
    }

    /// Tensors and their bytes by type.
    pub fn types(&self) -> BTreeMap<WeightType, (usize, u64)> {
        let mut types = BTreeMap::new();
        for tensor in &self.tensors {
            let (count, bytes) = types.entry(tensor.ty).or_insert((0, 0));
            *count += 1;
            *bytes += tensor.len;
        }
        types
    }
}
