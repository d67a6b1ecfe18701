//! A model on disk, checked and cut into blocks.
//!
//! [`Container`] opens files and lists what they hold; [`Manifest`] is a container whose
//! architecture, tensors, shapes and types are what the graph needs. Opening reads headers only.

mod arch;
mod container;
mod cut;
mod error;
pub mod gguf;
mod hf;
mod safetensors;
mod shape;
mod stored;

pub use arch::Role;
pub use container::{Container, Form, Outline, SourceFile, SpecialTokens};
pub use error::{HeaderError, ModelError, Quoted, TensorProblem};
pub use hf::{HfConfig, HfGeneration, HfQuantization, HfRope, TokenIds};
pub use stored::{Shape, StoredTensor};

use crate::config::ModelConfig;
use arch::{ArchRow, Need, RoleRow};
use larder_cpu::weight::WeightType;
use larder_pool::block::BlockSpec;
use larder_pool::units::BlockId;
use shape::ReadAt;
use smallvec::SmallVec;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes of a whole model; a sparse file can claim far more than any disk has.
const WEIGHT_BYTES_MAX: u64 = 1 << 46;

/// A tensor of the model: a matrix of whole rows, or a vector as one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    pub role: Role,
    /// `None` for the tensors around the layers.
    pub layer: Option<u32>,
    pub name: String,
    pub ty: WeightType,
    pub rows: usize,
    pub cols: usize,
    /// Index into [`Manifest::files`].
    pub file: u16,
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
    /// Norms, biases, q, k, v and o of a layer.
    Attention,
    /// Equal rows of gate and up.
    GateUp,
    Down,
    /// The last norm and the output matrix.
    Head,
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

/// All block ids in the order in which a step reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    pub layers: Vec<LayerBlocks>,
    pub head: Range<u32>,
}

/// A model that can be computed.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The path it was opened by.
    pub path: PathBuf,
    pub config: ModelConfig,
    pub files: Vec<SourceFile>,
    pub tensors: Vec<Tensor>,
    pub blocks: Vec<Block>,
    pub program: Program,
    pub special: SpecialTokens,
}

impl Manifest {
    /// Opens a GGUF file or a model folder.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Self::from_container(&Container::open(path)?)
    }

    /// Checks a container and cuts it into blocks.
    pub fn from_container(container: &Container) -> Result<Self, ModelError> {
        Self::build(container, &mut |file, offset, buffer| {
            let file = File::open(&container.files[file as usize].path)?;
            file.read_exact_at(buffer, offset)
        })
    }

    fn build(container: &Container, read_at: &mut ReadAt<'_>) -> Result<Self, ModelError> {
        let (row, config) = shape::read(container, read_at)?;
        let tensors = assign(container, row, &config)?;
        let (blocks, program) = cut::cut(&tensors, config.layers, config.tied);
        Ok(Self {
            path: container.path.clone(),
            config,
            files: container.files.clone(),
            tensors,
            blocks,
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

    /// Bytes of weights that a decode step reads, without the embedding rows it looks up.
    pub fn step_bytes(&self) -> u64 {
        self.blocks
            .iter()
            .map(|block| block.spec.data_bytes())
            .sum()
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

#[cfg(test)]
mod tests;

/// Gives every tensor of the architecture its role and checks type and shape.
fn assign(
    container: &Container,
    arch: &ArchRow,
    config: &ModelConfig,
) -> Result<Vec<Tensor>, ModelError> {
    let mut by_name: HashMap<&str, &StoredTensor> = container
        .tensors
        .iter()
        .map(|tensor| (tensor.name.as_str(), tensor))
        .collect();
    let mut tensors = Vec::new();
    let around = arch
        .roles
        .iter()
        .filter(|row| !row.per_layer())
        .map(|row| (row, None));
    let inside = (0..config.layers as u32).flat_map(|layer| {
        arch.roles
            .iter()
            .filter(|row| row.per_layer())
            .map(move |row| (row, Some(layer)))
    });
    for (row, layer) in around.chain(inside) {
        let name = tensor_name(container, row, layer);
        let Some(stored) = by_name.remove(name.as_str()) else {
            if row.need == Need::Always || (row.need == Need::Untied && !config.tied) {
                let expected = expected_shape(row, config);
                return Err(ModelError::MissingTensor {
                    path: container.path.clone(),
                    name,
                    expected,
                });
            }
            continue;
        };
        // A tied model may carry a copy of its embedding as a head.
        if row.need != Need::Untied || !config.tied {
            tensors.push(check_tensor(container, row, layer, stored, config)?);
        }
    }
    let (found, max) = (
        tensors.iter().map(|tensor| tensor.len).sum(),
        WEIGHT_BYTES_MAX,
    );
    if found > max {
        return Err(ModelError::TooLarge {
            path: container.path.clone(),
            found,
            max,
        });
    }
    by_name.retain(|name, _| !arch::is_derived(name));
    if let Some(name) = by_name.into_keys().min() {
        let (path, name) = (container.path.clone(), Quoted::new(name));
        return Err(ModelError::UnknownTensor {
            path,
            name,
            arch: arch.arch.name(),
        });
    }
    Ok(tensors)
}

fn tensor_name(container: &Container, row: &RoleRow, layer: Option<u32>) -> String {
    let pattern = match container.form {
        Form::Gguf(_) => row.gguf,
        Form::Folder { .. } => row.hf,
    };
    match layer {
        Some(layer) => pattern.replace("{}", &layer.to_string()),
        None => pattern.to_owned(),
    }
}

fn expected_shape(row: &RoleRow, config: &ModelConfig) -> Vec<u64> {
    let (rows, cols) = (row.rows.size(config) as u64, row.cols.size(config) as u64);
    if row.is_vector() {
        vec![cols]
    } else {
        vec![rows, cols]
    }
}

fn check_tensor(
    container: &Container,
    row: &RoleRow,
    layer: Option<u32>,
    stored: &StoredTensor,
    config: &ModelConfig,
) -> Result<Tensor, ModelError> {
    let (path, name) = (
        container.files[stored.file as usize].path.clone(),
        stored.name.clone(),
    );
    let expected = expected_shape(row, config);
    if stored.shape.as_slice() != expected {
        let found = stored.shape.to_vec();
        return Err(ModelError::Shape {
            path,
            name,
            found,
            expected,
        });
    }
    let Some(ty) = stored.weight_type() else {
        let found = Quoted::new(&stored.type_name);
        let supported = WeightType::ALL.map(WeightType::name).join(", ");
        return Err(ModelError::TensorType {
            path,
            name,
            found,
            supported,
        });
    };
    let (rows, cols) = (row.rows.size(config), row.cols.size(config));
    let (file, offset, len) = (stored.file, stored.offset, stored.len);
    let tensor = Tensor {
        role: row.role,
        layer,
        name,
        ty,
        rows,
        cols,
        file,
        offset,
        len,
    };
    assert_eq!(
        tensor.row_bytes() * rows as u64,
        len,
        "the container checked type and shape"
    );
    Ok(tensor)
}
