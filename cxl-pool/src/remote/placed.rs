//! Content that is read where it stands: the memory of a node of this host, mapped.
//!
//! Life of a placed block:
//! 1. The node pins the objects and lends its memory by a descriptor, see `docs/PROTOCOL.md`.
//! 2. [`Placed::publish`] checks a block once and makes its slot ready; nothing is copied.
//! 3. The mapping, and with it the pins, go when [`Placed`] and every slot that was published and
//!    not evicted are gone, or with this process.
//! 4. A node that ends leaves the mapping as it is, to whoever has it.

use super::RemoteError;
use super::link::{Connector, Link};
use super::objects::ObjectSource;
use crate::block::{BlockSpec, Run};
use crate::checksum::{SumStore, run_checks};
use crate::source::Source;
use crate::table::slot_of;
use crate::transfer::MoveError;
use crate::units::BlockId;
use crate::wire::capability::Capability;
use crate::wire::reply::{Refusal, Reply};
use crate::wire::request::Request;
use crate::wire::ticket::Ticket;
use crate::wire::{HASHES_MAX, WireError};
use larder_sys::lease::SlotTable;
use larder_sys::mapping::Mapping;
use larder_sys::net::door::{self, LocalName};
use larder_sys::net::handover;
use larder_sys::slot::PartRange;
use larder_sys::space::Space;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

/// What it is called in errors.
const CALL: &str = "place";
/// Longest wait for the memory, once the node has said where the objects are.
const WAIT: Duration = Duration::from_secs(2);

/// Where an object stands in the node's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) offset: u64,
    pub(super) len: u64,
}

/// Content of a node that is read in place. The node keeps it where it is until this is dropped,
/// with the slots that were published, or this process ends.
pub struct Placed {
    space: Arc<Space>,
    /// Of each file of the source.
    objects: Box<[Standing]>,
    source: ObjectSource,
    /// Blocks whose checksums agreed, and where.
    checked: Mutex<HashMap<BlockId, Run>>,
}

impl fmt::Debug for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Placed");
        shown.field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

impl Placed {
    /// `objects` are inside the space, each from a granule on.
    pub(super) fn new(space: Arc<Space>, objects: Box<[Standing]>, source: ObjectSource) -> Self {
        Self {
            space,
            objects,
            source,
            checked: Mutex::default(),
        }
    }

    /// Bytes that stand there, of all files.
    pub fn bytes(&self) -> u64 {
        self.objects.iter().map(|object| object.len).sum()
    }

    /// Bytes of blocks that were published so far: their pages count as resident in this process,
    /// though the node has them.
    pub fn read_bytes(&self) -> u64 {
        self.checked.lock().values().map(|run| run.len).sum()
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
        let unplaced = |why| MoveError::Unplaced { block, why };
        let &[run] = spec.runs.as_slice() else {
            return Err(unplaced("it is not one run"));
        };
        let object = self.objects.get(run.file as usize);
        let object = object.ok_or(unplaced("its file is not there"))?;
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
        if self.checked.lock().get(&block) != Some(&run) {
            let bytes = &fill.lent_bytes()[run.offset as usize..][..run.len as usize];
            self.check(block, spec, bytes, sums)?;
            self.checked.lock().insert(block, run);
        }
        fill.publish(parts);
        Ok(true)
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
        let whole = self.space.view(0, self.space.len());
        let whole = whole.expect("a space is inside itself");
        let fill = table.begin_fill(slot_of(block), whole);
        Ok(fill.map(|fill| fill.publish(parts)).is_ok())
    }

    /// Compares the block with what is known of it, as a fetch does, or keeps what it is now.
    fn check(
        &self,
        block: BlockId,
        spec: &BlockSpec,
        bytes: &[u8],
        sums: &SumStore,
    ) -> Result<(), MoveError> {
        let (mut checks, count) = run_checks(spec);
        let mut known = sums.expected(block, count);
        let outcome = checks[0].feed(bytes, &mut known);
        outcome.map_err(|mismatch| MoveError::Checksum {
            block,
            file: self.source.name(spec.runs[0].file),
            mismatch,
        })?;
        sums.keep_first(block, &known);
        Ok(())
    }
}

/// See [`super::Client::place`].
pub(super) fn place(
    connector: &Connector,
    source: &ObjectSource,
) -> Result<Option<Arc<Placed>>, RemoteError> {
    if !connector.is_free() || !source.is_whole() {
        return Ok(None);
    }
    // A connection of its own: a node that does not know the request ends it.
    let mut link = connector.link()?;
    let Some(name) = link.memory_name() else {
        return Ok(None);
    };
    let capabilities = source.contents().capabilities();
    let Some((ticket, objects)) = unless_refused(ask(&mut link, &capabilities))?.flatten() else {
        return Ok(None);
    };
    let lost = |error| RemoteError::Lost {
        call: CALL,
        address: connector.address().to_owned(),
        error,
    };
    let wait = connector.options().timeout.min(WAIT);
    let Some((stream, memory)) = collect(&name, ticket, wait).map_err(lost)? else {
        return Ok(None);
    };
    let mapping = Mapping::lent(memory, link.welcome.mem_bytes);
    let mapping = mapping.map_err(|error| lost(io::Error::other(error)))?;
    let space = Space::lent(mapping, OwnedFd::from(stream));
    let is_inside = |object: &Standing| space.view(object.offset, object.len).is_some();
    if !objects.iter().all(is_inside) {
        return Err(RemoteError::Wire {
            call: CALL,
            address: connector.address().to_owned(),
            error: WireError::Range {
                what: "the place of an object",
            },
        });
    }
    Ok(Some(Arc::new(Placed::new(space, objects, source.clone()))))
}

/// What the node has pinned: a ticket for its memory, and where the objects stand in that.
type Pinned = (Ticket, Box<[Standing]>);

/// Has the node pin everything; `None` if that is nothing.
fn ask(link: &mut Link, capabilities: &[Capability]) -> Result<Option<Pinned>, RemoteError> {
    let (mut ticket, mut objects) = (None, Vec::with_capacity(capabilities.len()));
    for some in capabilities.chunks(HASHES_MAX) {
        let request = Request::Place {
            ticket,
            capabilities: some.to_vec(),
        };
        let offsets = match link.call(CALL, &request)? {
            Reply::Placed {
                ticket: of,
                offsets,
            } if offsets.len() == some.len() => {
                ticket = Some(of);
                offsets
            }
            reply => return Err(link.unexpected(CALL, &reply)),
        };
        let places = offsets.into_iter().zip(some);
        objects.extend(places.map(|(offset, capability)| Standing {
            offset,
            len: capability.length,
        }));
    }
    Ok(ticket.map(|ticket| (ticket, objects.into())))
}

/// `None` for a node that will not or cannot, or is of a release that does not know how; that one
/// hangs up, and what it says before may be lost.
fn unless_refused<T>(asked: Result<T, RemoteError>) -> Result<Option<T>, RemoteError> {
    match asked {
        Ok(answer) => Ok(Some(answer)),
        Err(RemoteError::Refused {
            refusal:
                Refusal::Unsupported
                | Refusal::NotInMemory
                | Refusal::Misuse
                | Refusal::Stale
                | Refusal::Limit { .. },
            ..
        }) => Ok(None),
        Err(RemoteError::Lost { error, .. }) if is_hang_up(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe
    )
}

/// Goes for the memory with a ticket. `None` if nobody of our own user gives it.
fn collect(
    name: &LocalName,
    ticket: Ticket,
    wait: Duration,
) -> io::Result<Option<(UnixStream, OwnedFd)>> {
    let Ok(mut stream) = door::connect(name, wait) else {
        return Ok(None);
    };
    if !door::is_own_user(&stream) {
        return Ok(None);
    }
    stream.set_read_timeout(Some(wait))?;
    let given = stream
        .write_all(ticket.bytes())
        .and_then(|()| handover::take(&stream));
    match given {
        Ok(memory) => Ok(memory.map(|memory| (stream, memory))),
        Err(error) if is_hang_up(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
