//! Content that is read where it stands: the memory of a node of this host, mapped.
//!
//! Life of a placed block:
//! 1. The node pins the objects and lends its memory by a descriptor, see `docs/PROTOCOL.md`.
//! 2. [`Placed::publish`] checks a block once and makes its slot ready; nothing is copied.
//! 3. The mapping, and with it the pins, go when [`Placed`] and every slot that was published and
//!    not evicted are gone, or with this process.
//! 4. A node that ends leaves the mapping as it is, to whoever has it.
//!
//! What a client puts there itself is read in the same way: [`PlacedLoan`].

mod window;
mod loan;

pub use loan::PlacedLoan;

use super::RemoteError;
use super::handed::{Handed, Standing};
use super::link::Connector;
use super::objects::ObjectSource;
use crate::block::{BlockSpec, Run};
use crate::checksum::SumStore;
use crate::source::Source;
use crate::table::slot_of;
use crate::transfer::MoveError;
use crate::units::BlockId;
use larder_sys::lease::SlotTable;
use larder_sys::slot::PartRange;
use std::fmt;
use std::sync::Arc;
use window::Window;

/// Content of a node that is read in place. The node keeps it where it is until this is dropped,
/// with the slots that were published, or this process ends.
pub struct Placed {
    window: Window,
    /// Of each file of the source.
    objects: Box<[Standing]>,
    source: ObjectSource,
}

impl fmt::Debug for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Placed");
        shown.field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

impl Placed {
    /// See [`super::Client::place`].
    pub(super) fn take(
        connector: &Connector,
        source: &ObjectSource,
    ) -> Result<Option<Self>, RemoteError> {
        let capabilities = source.contents().capabilities();
        if !source.is_whole() || capabilities.is_empty() {
            return Ok(None);
        }
        let handed = Handed::take(connector, &capabilities)?;
        Ok(handed.map(|(handed, objects)| Self {
            window: Window::new(handed.space),
            objects,
            source: source.clone(),
        }))
    }

    /// Bytes that stand there, of all files.
    pub fn bytes(&self) -> u64 {
        self.objects.iter().map(|object| object.len).sum()
    }

    /// Bytes of blocks that were published so far: their pages count as resident in this process,
    /// though the node has them.
    pub fn read_bytes(&self) -> u64 {
        self.window.read_bytes()
    }

    /// Makes an absent slot ready with the block where it stands, once its checksums agree with
    /// `sums`: the first time only, a block that was checked is not read again. `false` if the
    /// slot was not absent.
    pub fn publish(
        &self,
        table: &Arc<SlotTable>,
        block: BlockId,
        spec: &BlockSpec,
        sums: &SumStore,
    ) -> Result<bool, MoveError> {
        let file = spec.runs.first().map(|run| run.file as usize);
        let object = self.objects.get(file.unwrap_or(0));
        let &object = object.ok_or(MoveError::Unplaced {
            block,
            why: "its file is not there",
        })?;
        let name = |file| self.source.name(file);
        self.window
            .publish(table, (block, spec), object, sums, name)
    }

    /// Makes the absent slot of `block` ready with `rows`, each inside one object, as its parts.
    /// Rows have no checksums of their own. `false` if the slot was not absent.
    pub fn publish_rows(
        &self,
        table: &Arc<SlotTable>,
        block: BlockId,
        rows: &[Run],
    ) -> Result<bool, MoveError> {
        let parts = rows.iter().map(|row| {
            let object = self.objects.get(row.file as usize)?;
            let end = row.offset.checked_add(row.len)?;
            let offset = object.offset + row.offset;
            let len = row.len;
            (end <= object.len).then_some(PartRange { offset, len })
        });
        let parts = parts.collect::<Option<_>>().ok_or(MoveError::Unplaced {
            block,
            why: "a row is not inside its object",
        })?;
        let space = &self.window.space;
        let whole = space.view(0, space.len());
        let whole = whole.expect("a space is inside itself");
        let fill = table.begin_fill(slot_of(block), whole);
        Ok(fill.map(|fill| fill.publish(parts)).is_ok())
    }
}
