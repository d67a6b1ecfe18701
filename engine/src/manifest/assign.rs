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
        if row.role.is_expert() {
            experts(
                container,
                row,
                layer,
                stored,
                config,
                &mut by_name,
                &mut tensors,
            )?;
            continue;
        }
        // A tied model may carry a copy of its embedding as a head.
        if row.need != Need::Untied || !config.tied {
            tensors.push(check_tensor(container, row, layer, stored, config)?);
        }
    }
    check_bytes(container, &tensors)?;
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

fn check_bytes(container: &Container, tensors: &[Tensor]) -> Result<(), ModelError> {
    let found = tensors.iter().map(|tensor| tensor.len).sum();
    if found <= WEIGHT_BYTES_MAX {
        return Ok(());
    }
    Err(ModelError::TooLarge {
        path: container.path.clone(),
        found,
        max: WEIGHT_BYTES_MAX,
    })
}

fn tensor_name(container: &Container, row: &RoleRow, layer: Option<u32>) -> String {
    expert_name(container, row, layer, 0)
}

fn expert_name(container: &Container, row: &RoleRow, layer: Option<u32>, expert: u32) -> String {
    let pattern = match container.form {
        Form::Gguf(_) => row.gguf,
        Form::Folder { .. } => row.hf,
    };
    let name = match layer {
        Some(layer) => pattern.replace("{}", &layer.to_string()),
        None => pattern.to_owned(),
    };
    name.replace("{e}", &expert.to_string())
}

/// Tensors of every expert of a layer, of which `first` holds the first one or all.
fn experts<'a>(
    container: &'a Container,
    row: &RoleRow,
    layer: Option<u32>,
    first: &'a StoredTensor,
    config: &ModelConfig,
    by_name: &mut HashMap<&str, &'a StoredTensor>,
    tensors: &mut Vec<Tensor>,
) -> Result<(), ModelError> {
    let count = config.experts.map_or(0, |experts| experts.count) as u64;
    let is_whole = matches!(container.form, Form::Gguf(_));
    let mut expected = expected_shape(row, config);
    for expert in 0..count {
        let slice = if is_whole {
            if expert == 0 {
                expected.insert(0, count);
                check_shape(container, first, &expected)?;
                expected.remove(0);
            }
            let len = first.len / count;
            StoredTensor {
                shape: expected.iter().copied().collect(),
                offset: first.offset + expert * len,
                len,
                ..first.clone()
            }
        } else if expert == 0 {
            first.clone()
        } else {
            let name = expert_name(container, row, layer, expert as u32);
            match by_name.remove(name.as_str()) {
                Some(stored) => stored.clone(),
                None => {
                    return Err(ModelError::MissingTensor {
                        path: container.path.clone(),
                        name,
                        expected,
                    });
                }
            }
        };
        let mut tensor = check_tensor(container, row, layer, &slice, config)?;
        tensor.expert = Some(expert as u32);
        tensors.push(tensor);
    }
    Ok(())
}

fn check_shape(
    container: &Container,
    stored: &StoredTensor,
    expected: &[u64],
) -> Result<(), ModelError> {
    if stored.shape.as_slice() == expected {
        return Ok(());
    }
    Err(ModelError::Shape {
        path: container.files[stored.file as usize].path.clone(),
        name: stored.name.clone(),
        found: stored.shape.to_vec(),
        expected: expected.to_vec(),
    })
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
    check_shape(container, stored, &expected_shape(row, config))?;
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
        expert: None,
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
