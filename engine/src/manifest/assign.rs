//! Finds the tensors of an architecture in a container and checks their types and shapes.

use super::Tensor;
use super::arch::{self, ArchRow, Need, RoleRow};
use super::container::{Container, Form};
use super::error::{ModelError, Quoted};
use super::stored::StoredTensor;
use crate::config::ModelConfig;
use larder_cpu::weight::WeightType;
use std::collections::HashMap;

/// Bytes of a whole model; a sparse file can claim far more than any disk has.
const WEIGHT_BYTES_MAX: u64 = 1 << 46;

/// Gives every tensor of the architecture its role and checks type and shape.
pub(super) fn assign(
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
        .flat_map(|rows| rows.iter())
        .filter(|row| !row.per_layer())
        .map(|row| (row, None));
    let inside = (0..config.layers as u32).flat_map(|layer| {
        arch.roles
            .iter()
            .flat_map(|rows| rows.iter())
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
