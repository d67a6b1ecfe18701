//! What a node does when it is asked.

use super::LEASE;
use super::session::{Answer, Session, Trust};
use super::store::Bytes;
use crate::wire::auth::Side;
use crate::wire::capability::Capability;
use crate::wire::reply::{Refusal, Reply, Welcome};
use crate::wire::request::{Check, GetRange, Kind, Request};
use crate::wire::ticket::Ticket;
use larder_sys::lease::Scratch;
use larder_sys::net::Outgoing;
use std::sync::Arc;

/// Content that one name may hold.
const HELD_MAX: usize = 1 << 17;

impl Session {
    /// Answers everything but a put.
    pub(super) fn answer(&mut self, request: Request) -> Answer {
        let request = match (request, self.trust) {
            (Request::Hello { nonce }, Trust::Stranger) => return self.greet(nonce),
            (Request::Auth { proof }, Trust::Greeted(nonces)) => return self.prove(nonces, &proof),
            (_, Trust::Stranger | Trust::Greeted(_)) => {
                return Answer::Goodbye(Refusal::Unauthorised);
            }
            (request, Trust::Trusted) => request,
        };
        if let Request::Get(ranges) = request {
            return Answer::Gets(ranges);
        }
        let reply = self.act(request);
        Answer::Reply(reply.unwrap_or_else(Reply::Refused))
    }

    fn greet(&mut self, client: [u8; 32]) -> Answer {
        let Ok(nonce) = larder_sys::random::secret() else {
            return Answer::Goodbye(Refusal::Misuse);
        };
        let wants_token = self.shared.key.is_some();
        self.trust = if wants_token {
            Trust::Greeted([client, nonce])
        } else {
            Trust::Trusted
        };
        let signer = self.store().signer();
        Answer::Reply(Reply::Welcome(Welcome {
            nonce,
            pool: signer.pool,
            incarnation: signer.incarnation,
            mem_bytes: self.store().mem_bytes(),
            disk_bytes: self.store().disk_bytes(),
            lease_ms: LEASE.as_millis() as u32,
            wants_token,
        }))
    }

    fn prove(&mut self, [client, node]: [[u8; 32]; 2], proof: &[u8; 32]) -> Answer {
        let Some(key) = &self.shared.key else {
            return Answer::Goodbye(Refusal::Misuse);
        };
        if !key.check(Side::Client, [&client, &node], proof) {
            return Answer::Goodbye(Refusal::Unauthorised);
        }
        self.trust = Trust::Trusted;
        Answer::Reply(Reply::Proof(key.proof(Side::Node, &client, &node)))
    }

    fn act(&mut self, request: Request) -> Result<Reply, Refusal> {
        let shared = Arc::clone(&self.shared);
        let store = &shared.store;
        Ok(match request {
            Request::Ping => Reply::Done,
            Request::Grant { len, kind } => self.grant(len, kind)?,
            Request::Commit { capability, crcs } => {
                store.check(&capability)?;
                let grant = self.grants.take_whole(&capability)?;
                self.lends |= grant.kind == Kind::Lent;
                Reply::Committed(store.commit(grant, &crcs, self.id)?)
            }
            Request::Free { capability } => {
                store.check(&capability)?;
                match self.grants.take(&capability) {
                    Ok(grant) => store.abandon(&grant),
                    Err(_) => store.free(&capability, self.id)?,
                }
                Reply::Done
            }
            Request::Open(hashes) => Reply::Opened(store.open(&hashes)),
            Request::Hold(hashes) => {
                if self.held.len() + hashes.len() > HELD_MAX {
                    self.held.clear();
                    let limit = HELD_MAX as u64;
                    return Err(Refusal::Limit { limit });
                }
                self.held.extend(hashes);
                Reply::Done
            }
            Request::SetName { name, root } => {
                let held = std::mem::take(&mut self.held);
                store.set_name(name, root, &held)?;
                Reply::Done
            }
            Request::Names { after } => Reply::NameList(store.list(&after)),
            Request::Resolve { name } => Reply::Resolved(store.resolve(&name)),
            Request::RemoveName { name } => {
                if !store.remove_name(&name) {
                    return Err(Refusal::Missing);
                }
                Reply::Done
            }
            Request::Stat => Reply::Stats(store.stat(self.shared.clients())),
            Request::Place {
                ticket,
                capabilities,
            } => self.place(ticket, &capabilities)?,
            Request::Hello { .. } | Request::Auth { .. } => return Err(Refusal::Misuse),
            Request::Get(_) | Request::Put { .. } => unreachable!("taken before"),
        })
    }

    fn grant(&mut self, len: u64, kind: Kind) -> Result<Reply, Refusal> {
        self.grants.check_room()?;
        Ok(match self.store().grant(len, kind)? {
            Ok(grant) => {
                let capability = self.store().grant_capability(&grant);
                self.grants.insert(&capability, grant);
                Reply::Granted(capability)
            }
            Err(capability) => Reply::Committed(capability),
        })
    }

    /// Pins objects for who reads them in place. A client that is refused one gives all up.
    fn place(&self, ticket: Option<Ticket>, wanted: &[Capability]) -> Result<Reply, Refusal> {
        if !self.shared.lends {
            return Err(Refusal::Unsupported);
        }
        let pins: Result<Vec<_>, _> = wanted.iter().map(|one| self.in_memory(one)).collect();
        let places = &self.shared.places;
        let placed = pins.and_then(|pins| {
            let offsets = pins.iter().map(|pin| pin.extent().0).collect();
            let ticket = places.add(ticket, self.id, pins, self.shared.clock.now())?;
            Ok(Reply::Placed { ticket, offsets })
        });
        if let (Err(_), Some(ticket)) = (&placed, ticket) {
            places.forget(ticket, self.id);
        }
        placed
    }

    /// The memory of an object, pinned.
    fn in_memory(&self, capability: &Capability) -> Result<Arc<Scratch>, Refusal> {
        match self.store().find(capability)?.bytes {
            Bytes::Memory(object) => Ok(object),
            Bytes::Disk(_) => Err(Refusal::NotInMemory),
        }
    }

    /// Bytes of a range, pinned, with their checksums.
    pub(super) fn data(&self, range: &GetRange) -> Result<(Vec<u32>, Outgoing), Refusal> {
        let found = self.store().find(&range.capability)?;
        let len = range.len as usize;
        let (object, start) = match &found.bytes {
            Bytes::Memory(object) => (Arc::clone(object), range.offset as usize),
            Bytes::Disk(extent) => {
                let len = u64::from(range.len);
                let (pages, start) = self.store().read_disk(extent, range.offset, len)?;
                (Arc::new(pages), start)
            }
        };
        let data = Outgoing::Object(object, start..start + len);
        let crcs = match range.check {
            Check::Crc => found.sums.of_range(range.offset, data.bytes()),
            Check::Nothing => Vec::new(),
        };
        Ok((crcs, data))
    }
}
