//! Embedding rows: looked up by row, one batched read per step, straight from the origin, or where
//! they stand if that can be read in place.

use crate::home::given_back;
use crate::manifest::{Manifest, RowSegment};
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
    /// Target of the batches; `None` while one is leased.
    extent: Option<Extent>,
}

/// Rows of a batch: part `parts[i]` of the lease is row i.
pub struct Gathered {
    pub lease: ReadLease,
    pub parts: Vec<usize>,
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

    /// Reads the rows of `tokens`, each smaller than the vocabulary.
    pub fn fetch(&mut self, tokens: &[u32]) -> Result<Gathered, MoveError> {
        let mut rows = tokens.to_vec();
        rows.sort_unstable();
        rows.dedup();
        let ranges: Vec<Run> = rows.iter().map(|&row| self.range(row as usize)).collect();
        let parts = tokens
            .iter()
            .map(|token| rows.binary_search(token).expect("every token has its row"))
            .collect();
        if let Some(lease) = self.supply.lease_rows(self.block, &ranges)? {
            return Ok(Gathered { lease, parts });
        }
        let spec = Arc::new(BlockSpec::from_ranges(&ranges));
        let mut extent = self.extent.take().expect("one batch at a time");
        let lease = loop {
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
                Ok(lease) => break lease,
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
        };
        Ok(Gathered { lease, parts })
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

    /// The batch has been used: its lease is gone.
    pub fn done(&mut self) {
        let extent = self.supply.table().evict(slot_of(self.block));
        let extent = extent.expect("nobody else leases gathered rows");
        if !extent.space().is_lent() {
            self.extent = Some(extent);
        }
    }
}
