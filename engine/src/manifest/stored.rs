//! A tensor as a file holds it, whether or not we can compute with it.

use super::error::{HeaderError, Quoted, TensorProblem};
use larder_cpu::weight::WeightType;
use smallvec::SmallVec;
use std::borrow::Cow;

/// Dimensions, outermost first: the last one is the length of a row.
pub type Shape = SmallVec<[u64; 4]>;

/// Name, type, shape and place of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTensor {
    pub name: String,
    /// The type as its format names it; GGUF and safetensors agree where they overlap.
    pub type_name: Cow<'static, str>,
    pub shape: Shape,
    /// Index into the files of the container.
    pub file: u32,
    /// First byte in the file.
    pub offset: u64,
    /// Bytes, above zero.
    pub len: u64,
}

impl StoredTensor {
    /// The type that kernels know, if they do.
    pub fn weight_type(&self) -> Option<WeightType> {
        WeightType::ALL
            .into_iter()
            .find(|ty| ty.name() == self.type_name)
    }
}

/// Product of the dimensions; every one is above zero and the product fits in 63 bits.
pub(super) fn elements(shape: &[u64]) -> Result<u64, TensorProblem> {
    if shape.contains(&0) {
        return Err(TensorProblem::ZeroDimension);
    }
    let product = shape
        .iter()
        .try_fold(1_u64, |product, &dim| product.checked_mul(dim));
    product
        .filter(|&n| i64::try_from(n).is_ok())
        .ok_or(TensorProblem::Overflow)
}

/// Checks that every tensor of one file lies inside it, has bytes, and shares none of them.
pub(super) fn check_extents(tensors: &[StoredTensor], file_len: u64) -> Result<(), HeaderError> {
    for tensor in tensors {
        let (start, end) = (tensor.offset, tensor.offset.saturating_add(tensor.len));
        if end > file_len || tensor.len == 0 {
            let problem = TensorProblem::OutOfFile {
                start,
                end,
                file_len,
            };
            return Err(HeaderError::Tensor {
                name: Quoted::new(&tensor.name),
                problem,
            });
        }
    }
    let mut order: Vec<&StoredTensor> = tensors.iter().collect();
    order.sort_by_key(|tensor| tensor.offset);
    for pair in order.windows(2) {
        let (before, after) = (pair[0], pair[1]);
        if before.offset + before.len > after.offset {
            let other = Quoted::new(&before.name);
            let problem = TensorProblem::Overlap {
                start: after.offset,
                other,
            };
            return Err(HeaderError::Tensor {
                name: Quoted::new(&after.name),
                problem,
            });
        }
    }
    Ok(())
}
