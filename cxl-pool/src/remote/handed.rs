//! The memory of a node of this host, mapped to read: how a client comes to it.

use super::RemoteError;
use super::link::{Connector, Link};
use crate::wire::HASHES_MAX;
use crate::wire::capability::Capability;
use crate::wire::reply::{Refusal, Reply};
use crate::wire::request::Request;
use crate::wire::ticket::Ticket;
use larder_sys::mapping::Mapping;
use larder_sys::net::door::{self, LocalName};
use larder_sys::net::handover;
use larder_sys::space::Space;
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

/// Memory that was handed over, and where what was asked for stands in it.
type Given = (Handed, Box<[Standing]>);

/// The memory of a node, handed over. What is pinned there stays until every extent of the space is
/// gone, or this process.
pub(super) struct Handed {
    pub(super) space: Arc<Space>,
    /// On which more is pinned.
    link: Link,
    ticket: Ticket,
}

impl Handed {
    /// The node's memory with some objects pinned; `None` where the node is not on this host, is
    /// another user's, serves TCP only, or does not have all of them in memory.
    pub(super) fn take(
        connector: &Connector,
        capabilities: &[Capability],
    ) -> Result<Option<Given>, RemoteError> {
        if !connector.is_free() {
            return Ok(None);
        }
        // A connection of its own: a node that does not know the request ends it.
        let mut link = connector.link()?;
        let Some(name) = link.memory_name() else {
            return Ok(None);
        };
        let Some((ticket, objects)) = unless_refused(ask(&mut link, None, capabilities))? else {
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
        let handed = Self {
            space,
            link,
            ticket,
        };
        handed.check(&objects)?;
        Ok(Some((handed, objects)))
    }

    /// Pins one more object.
    pub(super) fn pin(&mut self, capability: Capability) -> Result<Standing, RemoteError> {
        let (_, objects) = ask(&mut self.link, Some(self.ticket), &[capability])?;
        self.check(&objects)?;
        Ok(objects[0])
    }

    /// Whatever a node says, objects are inside its memory.
    fn check(&self, objects: &[Standing]) -> Result<(), RemoteError> {
        let is_inside = |object: &Standing| self.space.view(object.offset, object.len).is_some();
        if objects.iter().all(is_inside) {
            return Ok(());
        }
        Err(self.link.out_of_range(CALL, "the place of an object"))
    }
}

/// Has the node pin objects, under `ticket` if there is one: the ticket, and where they stand.
fn ask(
    link: &mut Link,
    mut ticket: Option<Ticket>,
    capabilities: &[Capability],
) -> Result<(Ticket, Box<[Standing]>), RemoteError> {
    let mut objects = Vec::with_capacity(capabilities.len());
    loop {
        let rest = &capabilities[objects.len()..];
        let some = &rest[..rest.len().min(HASHES_MAX)];
        let request = Request::Place {
            ticket,
            capabilities: some.to_vec(),
        };
        let (of, offsets) = match link.call(CALL, &request)? {
            Reply::Placed { ticket, offsets } if offsets.len() == some.len() => (ticket, offsets),
            reply => return Err(link.unexpected(CALL, &reply)),
        };
        ticket = Some(of);
        let places = offsets.into_iter().zip(some);
        objects.extend(places.map(|(offset, capability)| Standing {
            offset,
            len: capability.length,
        }));
        if objects.len() == capabilities.len() {
            return Ok((of, objects.into()));
        }
    }
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
