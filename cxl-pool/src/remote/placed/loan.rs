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
use crate::wire::reply::Refusal;
use larder_sys::lease::{ReadLease, SlotTable};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where the node has an object.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Pinned.
    Memory(Standing),
    Disk,
}

/// Objects of a loan that the node was asked to pin, by first byte there.
type Asked = HashMap<u64, (Capability, Place)>;

/// See the module. The node keeps what was published where it is, whatever becomes of the loan,
/// until this is dropped with the slots that were published, or this process ends.
pub struct PlacedLoan {
    loan: Arc<Loan>,
    window: Window,
    handed: Mutex<Handed>,
    asked: Mutex<Asked>,
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
            asked: Mutex::default(),
            is_over: AtomicBool::new(false),
            address: connector.address().to_owned(),
        }))
    }

    /// The node pins no more: what was not published yet has to be fetched.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Bytes of the node's memory: what it has on a disk is not read in place.
    pub fn memory_bytes(&self) -> u64 {
        self.window.space.len()
    }

    /// Bytes of blocks that were published so far: their pages count as resident in this process,
    /// though the node has them.
    pub fn read_bytes(&self) -> u64 {
        self.window.read_bytes()
    }

    /// What stands in the loan as `stored` is pinned in memory, or is not there; `None` if the node
    /// has not been asked.
    pub fn is_pinned(&self, stored: &ReadLease) -> Option<bool> {
        let start = stored.extent().0;
        let place = self.known(start, self.loan.sealed(start)?)?;
        Some(matches!(place, Place::Memory(_)))
    }

    fn known(&self, start: u64, sealed: Capability) -> Option<Place> {
        let asked = self.asked.lock();
        let known = asked.get(&start).filter(|(of, _)| *of == sealed);
        known.map(|(_, place)| *place)
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
        let Some(Place::Memory(object)) = self.place(stored.extent().0) else {
            let why = "its node does not keep it in memory";
            return Err(MoveError::Unplaced { block, why });
        };
        let spec = image_spec(stored, 0);
        let name = |_| format!("memory lent by tcp://{}", self.address);
        self.window
            .publish(table, (block, &spec), object, sums, name)
    }

    /// Where an object is; the node is asked to pin it the first time.
    fn place(&self, start: u64) -> Option<Place> {
        let sealed = self.loan.sealed(start)?;
        let known = self.known(start, sealed);
        if known.is_some() || self.is_over() {
            return known;
        }
        let place = match self.handed.lock().pin(sealed) {
            Ok(standing) => Place::Memory(standing),
            Err(RemoteError::Refused {
                refusal: Refusal::NotInMemory,
                ..
            }) => Place::Disk,
            Err(error) => {
                tracing::debug!(%error, "nothing more is read in place");
                self.is_over.store(true, Ordering::Release);
                return None;
            }
        };
        self.asked.lock().insert(start, (sealed, place));
        Some(place)
    }
}
