//! Embedding rows, looked up by row: those that stand in blocks of a tied head where these are
//! resident, the others where they can be read in place, or in one batched read per step, straight
//! from the origin. A read of one row costs a third of a millisecond, all of it waiting.

use crate::backend::StoredRow;
use crate::home::given_back;
use crate::manifest::{Manifest, Role, RowSegment};
use crate::supply::Supply;
use larder_cpu::WeightType;
use larder_pool::block::{BlockSpec, Run};
use larder_pool::mover::Request;
use larder_pool::sys::lease::ReadLease;
use larder_pool::sys::space::{Extent, Space};
use larder_pool::table::slot_of;
use larder_pool::transfer::{Class, MoveError};
use larder_pool::units::BlockId;
use std::sync::Arc;

/// Gathers rows of one tensor, one batch at a time.
pub struct Gatherer {
    supply: Supply,
    space: Arc<Space>,
    block: BlockId,
    rows: usize,
    row_bytes: u64,
    ty: WeightType,
    /// Where the rows stand, in order.
    segments: Vec<RowSegment>,
    /// Blocks of a tied head, which hold the rows too, in order.
    head: Vec<HeadRows>,
    /// Target of the batches; `None` while one is leased.
    extent: Option<Extent>,
}

/// Rows of the embedding in a block of the head.
struct HeadRows {
    row0: usize,
    block: BlockId,
    part: usize,
}

impl Gatherer {
    /// A gatherer for embedding rows whose batches use the slot of `block`.
    pub fn new(supply: Supply, space: Arc<Space>, block: BlockId, manifest: &Manifest) -> Self {
        let tensor = manifest.embedding();
        Self {
            supply,
            space,
            block,
            rows: tensor.rows,
            row_bytes: tensor.row_bytes(),
            ty: tensor.ty,
            segments: manifest.embedding_rows.clone(),
            head: head_rows(manifest),
            extent: None,
        }
    }

    pub fn weight_type(&self) -> WeightType {
        self.ty
    }

    /// Gives the memory for the coming batches, and takes back the old one.
    pub fn set_extent(&mut self, extent: Extent) -> Option<Extent> {
        self.extent.replace(extent)
    }

    /// The rows of `tokens`, each smaller than the vocabulary. [`Self::done`] follows.
    pub fn fetch(&mut self, tokens: &[u32]) -> Result<Vec<StoredRow>, MoveError> {
        let resident = tokens.iter().map(|&token| self.resident(token as usize));
        let resident: Vec<Option<StoredRow>> = resident.collect();
        let missing = tokens.iter().zip(&resident);
        let missing = missing.filter_map(|(&token, found)| found.is_none().then_some(token));
        let mut missing: Vec<u32> = missing.collect();
        missing.sort_unstable();
        missing.dedup();
        let batch = match missing.as_slice() {
            [] => None,
            rows => Some(self.read(rows)?),
        };
        let row = |(&token, found): (&u32, Option<StoredRow>)| {
            found.unwrap_or_else(|| StoredRow {
                lease: batch.clone().expect("a row is missing, so some were read"),
                part: missing.binary_search(&token).expect("it is missing"),
                row: 0,
            })
        };
        Ok(tokens.iter().zip(resident).map(row).collect())
    }

    /// Where a row stands in a block that is in the fast tier now.
    fn resident(&self, row: usize) -> Option<StoredRow> {
        let behind = self.head.partition_point(|rows| rows.row0 <= row);
        let rows = self.head.get(behind.checked_sub(1)?)?;
        Some(StoredRow {
            lease: self.supply.table().pin(slot_of(rows.block))?,
            part: rows.part,
            row: row - rows.row0,
        })
    }

    /// Reads rows; row i is part i of the lease.
    fn read(&mut self, rows: &[u32]) -> Result<ReadLease, MoveError> {
        let ranges: Vec<Run> = rows.iter().map(|&row| self.range(row as usize)).collect();
        if let Some(lease) = self.supply.lease_rows(self.block, &ranges)? {
            return Ok(lease);
        }
        let spec = Arc::new(BlockSpec::from_ranges(&ranges));
        let mut extent = self.extent.take().expect("one batch at a time");
        loop {
            let place = (extent.start(), extent.len());
            let (origin, path) = self.supply.origin(0);
            let request = Request {
                block: self.block,
                slot: slot_of(self.block),
                spec: Arc::clone(&spec),
                class: Class::Demand,
                due: 0,
                is_checked: false,
                pinned: None,
            };
            let mover = self.supply.mover();
            let asked = mover.want(path, request, extent);
            assert!(asked.is_ok(), "one batch at a time");
            let error = match mover.wait(slot_of(self.block)) {
                Ok(lease) => return Ok(lease),
                Err(error) => error,
            };
            let again = given_back(mover, || self.space.alloc_at(place.0, place.1));
            extent = again.expect("a failed batch gives its memory back");
            if error.is_unanswered() {
                self.supply.rest();
            } else if !(error.is_lost() || error.is_damage()) || !self.supply.lose_origin(origin) {
                self.extent = Some(extent);
                return Err(error);
            }
        }
    }

    /// Where a row stands.
    fn range(&self, row: usize) -> Run {
        assert!(row < self.rows, "token {row} is in the vocabulary");
        let behind = self.segments.partition_point(|segment| segment.row0 <= row);
        let segment = self.segments[behind - 1];
        Run {
            file: segment.file,
            offset: segment.offset + (row - segment.row0) as u64 * self.row_bytes,
            len: self.row_bytes,
        }
    }

    /// The rows have been used: their leases are gone.
    pub fn done(&mut self) {
        let used = self.supply.table().evict(slot_of(self.block));
        if let Some(extent) = used.filter(|extent| !extent.space().is_lent()) {
            self.extent = Some(extent);
        }
        assert!(self.extent.is_some(), "nobody else leases gathered rows");
    }
}

/// Rows of the embedding in the blocks of the head; none if it has a matrix of its own.
fn head_rows(manifest: &Manifest) -> Vec<HeadRows> {
    let mut all = Vec::new();
    for block in manifest.program.head.clone().map(BlockId::new) {
        for (part, of) in manifest.block(block).parts.iter().enumerate() {
            if manifest.tensors[of.tensor].role == Role::TokenEmbd {
                all.push(HeadRows {
                    row0: of.row0,
                    block,
                    part,
                });
            }
        }
    }
    all
}
