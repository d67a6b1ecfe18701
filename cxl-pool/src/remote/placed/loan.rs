//! What a client put into memory that a node of this host lends, read where it stands.

use super::window::Window;
use crate::block::image_spec;
use crate::checksum::SumStore;
use crate::remote::RemoteError;
use crate::remote::handed::{Handed, Standing};
use crate::remote::link::Connector;
use crate::remote::table::Loan;
use crate::transfer::MoveError;
use crate::units::BlockId;
use crate::wire::capability::Capability;
use larder_sys::lease::{ReadLease, SlotTable};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Objects of a loan, by first byte there.
type Pinned = HashMap<u64, (Capability, Standing)>;

/// See the module. The node keeps what was published where it is, whatever becomes of the loan,
/// until this is dropped with the slots that were published, or this process ends.
pub struct PlacedLoan {
    loan: Arc<Loan>,
    window: Window,
    handed: Mutex<Handed>,
    pinned: Mutex<Pinned>,
    /// The node pins no more.
    is_over: AtomicBool,
    address: String,
}

impl fmt::Debug for PlacedLoan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("PlacedLoan");
        shown
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl PlacedLoan {
    /// `None` where the node is not on this host, is another user's, or serves TCP only.
    pub(in crate::remote) fn take(
        connector: &Connector,
        loan: &Arc<Loan>,
    ) -> Result<Option<Self>, RemoteError> {
        let handed = Handed::take(connector, &[])?;
        Ok(handed.map(|(handed, _)| Self {
            loan: Arc::clone(loan),
            window: Window::new(Arc::clone(&handed.space)),
            handed: Mutex::new(handed),
            pinned: Mutex::default(),
            is_over: AtomicBool::new(false),
            address: connector.address().to_owned(),
        }))
    }

    /// The node pins no more: what was not published yet has to be fetched.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Bytes of blocks that were published so far: their pages count as resident in this process,
    /// though the node has them.
    pub fn read_bytes(&self) -> u64 {
        self.window.read_bytes()
    }

    /// Makes an absent slot ready with the block that stands in the loan as `stored`, as
    /// [`super::Placed::publish`] does.
    pub fn publish(
        &self,
        table: &Arc<SlotTable>,
        block: BlockId,
        stored: &ReadLease,
        sums: &SumStore,
    ) -> Result<bool, MoveError> {
        let object = self.standing(stored.extent().0);
        let object = object.ok_or(MoveError::Unplaced {
            block,
            why: "the node does not keep it where it is",
        })?;
        let spec = image_spec(stored, 0);
        let name = |_| format!("memory lent by tcp://{}", self.address);
        self.window
            .publish(table, (block, &spec), object, sums, name)
    }

    /// Where an object stands, pinned; with the first that is not, all that are whole by now are
    /// asked for.
    fn standing(&self, start: u64) -> Option<Standing> {
        let sealed = self.loan.sealed(start)?;
        let mut pinned = self.pinned.lock();
        let find = |pinned: &Pinned| {
            let found = pinned.get(&start).filter(|(of, _)| *of == sealed);
            found.map(|(_, standing)| *standing)
        };
        let found = find(&pinned);
        if found.is_some() || self.is_over() {
            return found;
        }
        let is_new = |(start, of): &(u64, Capability)| {
            let known = pinned.get(start);
            known.is_none_or(|(known, _)| known != of)
        };
        let new = self.loan.all_sealed().into_iter().filter(is_new);
        let (starts, capabilities): (Vec<u64>, Vec<Capability>) = new.unzip();
        let Ok(Some(objects)) = self.handed.lock().pin(&capabilities) else {
            self.is_over.store(true, Ordering::Release);
            return None;
        };
        let each = capabilities.into_iter().zip(objects);
        pinned.extend(starts.into_iter().zip(each));
        find(&pinned)
    }
}
