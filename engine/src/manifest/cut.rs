//! Cuts a model into blocks, in the order in which a decode step reads them.
//!
//! The target size follows from the whole model: small enough that a budget is filled to a few
//! per mille, large enough that a block is a good read.

use super::arch::Role;
use super::{Block, BlockKind, LayerBlocks, Part, Program, Tensor};
use crate::config::ModelConfig;
use larder_pool::block::{BlockSpec, Run};
use smallvec::SmallVec;
use std::ops::Range;

const TARGET_MIN: u64 = 32 << 10;
const TARGET_MAX: u64 = 16 << 20;
const BLOCKS_AIM: u64 = 256;

/// Bytes that a block of a model with `weight_bytes` aims at.
pub(super) fn target_bytes(weight_bytes: u64) -> u64 {
    (weight_bytes / BLOCKS_AIM).clamp(TARGET_MIN, TARGET_MAX)
}

/// Roles of a layer's attention in the order of their use.
const ATTENTION: &[Role] = &[
    Role::AttnNorm,
    Role::QNorm,
    Role::KNorm,
    Role::QBias,
    Role::KBias,
    Role::VBias,
    Role::Q,
    Role::K,
    Role::V,
    Role::O,
    Role::FfnNorm,
    Role::Router,
];

/// Cuts all sections of all layers, then the head, then one block per expert.
pub(super) fn cut(tensors: &[Tensor], config: &ModelConfig) -> (Vec<Block>, Program) {
    let (layers, tied) = (config.layers, config.tied);
    let weight_bytes = tensors.iter().map(|tensor| tensor.len).sum();
    let mut cutter = Cutter {
        tensors,
        target: target_bytes(weight_bytes),
        blocks: Vec::new(),
    };
    let head_rows = if tied { Role::TokenEmbd } else { Role::Output };
    let mut program = Program {
        layers: Vec::with_capacity(layers),
        head: 0..0,
        experts: config.experts.map_or(0, |experts| experts.count as u32),
    };
    let by_layer = index_by_layer(tensors, layers);
    for (layer, roles) in by_layer.iter().enumerate() {
        let find = |role| roles.iter().copied().find(|&i| tensors[i].role == role);
        let each = |roles: &[Role]| roles.iter().filter_map(|&role| find(role)).collect();
        let attention: Vec<usize> = each(ATTENTION);
        let apart: Vec<_> = attention.iter().map(|&i| cutter.item(&[i])).collect();
        let gate_up = cutter.items(&each(&[Role::Gate, Role::Up]));
        let down = cutter.items(&each(&[Role::Down]));
        let layer = Some(layer as u32);
        program.layers.push(LayerBlocks {
            attention: cutter.section(BlockKind::Attention, layer, &apart),
            gate_up: cutter.section(BlockKind::GateUp, layer, &gate_up),
            down: cutter.section(BlockKind::Down, layer, &down),
        });
    }
    let whole = |role| {
        tensors
            .iter()
            .position(|t| t.role == role && t.layer.is_none())
    };
    let head: Vec<_> = [Role::OutputNorm, head_rows]
        .iter()
        .filter_map(|&role| whole(role))
        .map(|i| cutter.item(&[i]))
        .collect();
    program.head = cutter.section(BlockKind::Head, None, &head);
    for (layer, roles) in by_layer.iter().enumerate() {
        cutter.experts(layer as u32, roles, program.experts);
    }
    (cutter.blocks, program)
}

/// Indices of the tensors of each layer.
fn index_by_layer(tensors: &[Tensor], layers: usize) -> Vec<Vec<usize>> {
    let mut by_layer = vec![Vec::new(); layers];
    for (index, tensor) in tensors.iter().enumerate() {
        if let Some(layer) = tensor.layer {
            by_layer[layer as usize].push(index);
        }
    }
    by_layer
}

/// Tensors with equally many rows, of which the same rows always share a block.
struct Item {
    tensors: SmallVec<[usize; 2]>,
    rows: usize,
    /// Bytes of one row of all of them.
    row_bytes: u64,
}

struct Cutter<'a> {
    tensors: &'a [Tensor],
    target: u64,
    blocks: Vec<Block>,
}

impl Cutter<'_> {
    fn item(&self, indices: &[usize]) -> Item {
        let rows = self.tensors[indices[0]].rows;
        assert!(
            indices.iter().all(|&i| self.tensors[i].rows == rows),
            "rows are cut together"
        );
        let row_bytes = indices.iter().map(|&i| self.tensors[i].row_bytes()).sum();
        Item {
            tensors: SmallVec::from_slice(indices),
            rows,
            row_bytes,
        }
    }

    /// One item of the tensors, or none if there are none.
    fn items(&self, indices: &[usize]) -> Vec<Item> {
        if indices.is_empty() {
            Vec::new()
        } else {
            vec![self.item(indices)]
        }
    }

    /// One block per expert of a layer: gate, up and down, whole.
    fn experts(&mut self, layer: u32, indices: &[usize], count: u32) {
        let mut parts = vec![SmallVec::new(); count as usize];
        for role in [Role::ExpertGate, Role::ExpertUp, Role::ExpertDown] {
            for &tensor in indices {
                let Tensor { expert, rows, .. } = self.tensors[tensor];
                let Some(expert) = expert.filter(|_| self.tensors[tensor].role == role) else {
                    continue;
                };
                parts[expert as usize].push(Part {
                    tensor,
                    row0: 0,
                    rows,
                });
            }
        }
        for mut parts in parts {
            self.finish(BlockKind::Expert, Some(layer), &mut parts);
        }
    }

    /// Cuts the items, in order, into ⌈bytes ÷ target⌉ blocks whose borders are the row borders
    /// nearest to equal shares. A row never splits, so rows above the target make fewer blocks.
    fn section(&mut self, kind: BlockKind, layer: Option<u32>, items: &[Item]) -> Range<u32> {
        let first = self.blocks.len() as u32;
        let bytes: u64 = items
            .iter()
            .map(|item| item.rows as u64 * item.row_bytes)
            .sum();
        let count = bytes.div_ceil(self.target);
        let mut parts = SmallVec::new();
        let mut done = 0;
        let mut share = 1;
        for item in items {
            let mut row = 0;
            while row < item.rows {
                // Rows up to the border of this share, rounded to the nearest.
                let border = (u128::from(bytes) * u128::from(share) / u128::from(count)) as u64;
                let near = (border.saturating_sub(done) + item.row_bytes / 2) / item.row_bytes;
                let last = share == count;
                let rows = if last {
                    item.rows - row
                } else {
                    (near as usize).min(item.rows - row)
                };
                if rows > 0 {
                    let part = |&tensor| Part {
                        tensor,
                        row0: row,
                        rows,
                    };
                    parts.extend(item.tensors.iter().map(part));
                    row += rows;
                    done += rows as u64 * item.row_bytes;
                }
                if row < item.rows {
                    self.finish(kind, layer, &mut parts);
                    share += 1;
                }
            }
        }
        self.finish(kind, layer, &mut parts);
        first..self.blocks.len() as u32
    }

    /// Makes a block of the parts so far, if there are any.
    fn finish(&mut self, kind: BlockKind, layer: Option<u32>, parts: &mut SmallVec<[Part; 8]>) {
        if parts.is_empty() {
            return;
        }
        let parts = std::mem::take(parts);
        let ranges: Vec<Run> = parts.iter().map(|part| self.range(part)).collect();
        let spec = BlockSpec::from_ranges(&ranges);
        self.blocks.push(Block {
            kind,
            layer,
            spec,
            parts,
        });
    }

    fn range(&self, part: &Part) -> Run {
        let tensor = &self.tensors[part.tensor];
        let row_bytes = tensor.row_bytes();
        let offset = tensor.offset + part.row0 as u64 * row_bytes;
        Run {
            file: tensor.file,
            offset,
            len: part.rows as u64 * row_bytes,
        }
    }
}

#[cfg(test)]
mod tests;
