//! Blocks in the memory of a node, checked once and published where they stand.

use crate::block::{BlockSpec, Run};
use crate::checksum::{SumStore, run_checks};
use crate::remote::handed::Standing;
use crate::table::slot_of;
use crate::transfer::MoveError;
use crate::units::BlockId;
use larder_sys::lease::SlotTable;
use larder_sys::slot::PartRange;
use larder_sys::space::Space;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// See the module.
pub(super) struct Window {
    pub(super) space: Arc<Space>,
    /// Blocks whose checksums agreed, and where: first byte of the object, and the run in it.
    checked: Mutex<HashMap<BlockId, (u64, Run)>>,
}

impl Window {
    pub(super) fn new(space: Arc<Space>) -> Self {
        Self {
            space,
            checked: Mutex::default(),
        }
    }

    /// Bytes of blocks that were published so far.
    pub(super) fn read_bytes(&self) -> u64 {
        self.checked.lock().values().map(|(_, run)| run.len).sum()
    }

    /// Makes an absent slot ready with the block where it stands in `object`, once its checksums
    /// agree with `sums`: the first time only, a block that was checked is not read again. `false`
    /// if the slot was not absent. `name` is that of a file, in errors.
    pub(super) fn publish(
        &self,
        table: &Arc<SlotTable>,
        (block, spec): (BlockId, &BlockSpec),
        object: Standing,
        sums: &SumStore,
        name: impl Fn(u32) -> String,
    ) -> Result<bool, MoveError> {
        let unplaced = |why| MoveError::Unplaced { block, why };
        let &[run] = spec.runs.as_slice() else {
            return Err(unplaced("it is not one run"));
        };
        let end = run.offset.checked_add(run.len);
        if end.is_none_or(|end| end > object.len) {
            return Err(unplaced("its run is not inside the object"));
        }
        let parts = spec.parts.iter().map(|part| {
            let end = part.offset.checked_add(part.len);
            let is_inside = part.run == 0 && end.is_some_and(|end| end <= run.len);
            let offset = run.offset + part.offset;
            let len = part.len;
            is_inside.then_some(PartRange { offset, len })
        });
        let parts = parts.collect::<Option<_>>();
        let parts = parts.ok_or(unplaced("a part is not inside its run"))?;
        let extent = self.space.view(object.offset, object.len);
        let extent = extent.ok_or(unplaced("its object is not inside the memory"))?;
        let Ok(fill) = table.begin_fill(slot_of(block), extent) else {
            return Ok(false);
        };
        let place = (object.offset, run);
        if self.checked.lock().get(&block) != Some(&place) {
            let bytes = &fill.lent_bytes()[run.offset as usize..][..run.len as usize];
            check((block, spec), bytes, sums, name)?;
            self.checked.lock().insert(block, place);
        }
        fill.publish(parts);
        Ok(true)
    }
}

/// Compares the block with what is known of it, as a fetch does, or keeps what it is now.
fn check(
    (block, spec): (BlockId, &BlockSpec),
    bytes: &[u8],
    sums: &SumStore,
    name: impl Fn(u32) -> String,
) -> Result<(), MoveError> {
    let (mut checks, count) = run_checks(spec);
    let mut known = sums.expected(block, count);
    let outcome = checks[0].feed(bytes, &mut known);
    outcome.map_err(|mismatch| MoveError::Checksum {
        block,
        file: name(spec.runs[0].file),
        mismatch,
    })?;
    sums.keep_first(block, &known);
    Ok(())
}
