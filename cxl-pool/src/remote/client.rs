//! The control connection: small things, names, and content put in and taken out whole.

use super::dial::Returned;
use super::handed::Handed;
use super::health::{Begin, Health};
use super::lent::Lent;
use super::link::{Connector, Link};
use super::objects::{ObjectSource, reader};
use super::placed::Placed;
use super::table::Contents;
use super::watch::{Watch, Watcher};
use super::{RemoteError, RemoteOptions};
use crate::wire::capability::Capability;
use crate::wire::header::DATA_MAX;
use crate::wire::reply::{NamedModel, Reply, Stat};
use crate::wire::request::{Check, GetRange, Kind, Request};
use crate::wire::{CREDITS, HASHES_MAX, NAME_MAX, OBJECT_MAX, ObjectHash, sums};
use larder_sys::io::Driver;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Data frames that a put leaves unanswered.
const PUTS_AHEAD: usize = 8;
/// Bytes of one frame of a get or put.
const FRAME: usize = 512 << 10;

/// What a node said of itself when the client connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// Number of this start of the node; every handle is of one.
    pub incarnation: u64,
    pub mem_bytes: u64,
    pub disk_bytes: u64,
    /// Bytes of memory and disk that hold nothing now.
    pub free_bytes: u64,
}

/// Whether a put moved the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutContent {
    Sent,
    /// The node had that content.
    Had,
}

/// See the module.
#[derive(Debug)]
pub struct Client {
    connector: Arc<Connector>,
    /// `None` after a failure: the next call connects again.
    link: Mutex<Option<Link>>,
    /// What readers hold, to be opened again when the node begins another life.
    contents: Mutex<Vec<Weak<Contents>>>,
}

impl Client {
    /// Connects to a node.
    pub fn connect(options: &RemoteOptions) -> Result<Arc<Self>, RemoteError> {
        let (connector, link) = Connector::new(options)?;
        let welcome = &link.welcome;
        let most = welcome.mem_bytes.saturating_add(welcome.disk_bytes);
        connector.health().begin(most, Begin::AtStart);
        Ok(Self::with(connector, Some(link)))
    }

    /// A client of a node that need not be there yet: a [`Client::watch`] finds it.
    pub fn later(options: &RemoteOptions) -> Arc<Self> {
        Self::with(Connector::later(options), None)
    }

    fn with(connector: Connector, link: Option<Link>) -> Arc<Self> {
        Arc::new(Self {
            connector: Arc::new(connector),
            link: Mutex::new(link),
            contents: Mutex::default(),
        })
    }

    /// Keeps asking the node whether it is there, and finds it again when it was gone, until what
    /// comes back is dropped.
    pub fn watch(self: &Arc<Self>) -> std::io::Result<Watch> {
        let connector = Arc::clone(&self.connector);
        let (health, clock) = (
            Arc::clone(connector.health()),
            Arc::clone(connector.clock()),
        );
        let start = (health.life() > 0).then(|| self.incarnation());
        let watcher = Watcher::new((connector, Arc::clone(self) as _), (health, clock), start);
        Watch::start(watcher, self.address())
    }

    pub fn health(&self) -> &Arc<Health> {
        self.connector.health()
    }

    pub fn address(&self) -> &str {
        self.connector.address()
    }

    /// Number of the start of the node that this client is connected to.
    pub fn incarnation(&self) -> u64 {
        self.connector.incarnation()
    }

    /// How long the node keeps what it lends to a client that is silent.
    pub fn lease(&self) -> Result<Duration, RemoteError> {
        self.talk(|link| Ok(Duration::from_millis(link.welcome.lease_ms.into())))
    }

    /// Runs a conversation; after a failure on the stream the connection is not used again.
    fn talk<T>(
        &self,
        conversation: impl FnOnce(&mut Link) -> Result<T, RemoteError>,
    ) -> Result<T, RemoteError> {
        let mut held = self.link.lock();
        let mut link = match held.take() {
            Some(link) => link,
            None => self.connector.link()?,
        };
        let result = conversation(&mut link);
        let is_sound = matches!(result, Ok(_) | Err(RemoteError::Refused { .. }));
        if is_sound && link.is_in_step() {
            *held = Some(link);
        }
        result
    }

    fn done(&self, call: &'static str, request: &Request) -> Result<(), RemoteError> {
        self.talk(|link| match link.call(call, request)? {
            Reply::Done => Ok(()),
            reply => Err(link.unexpected(call, &reply)),
        })
    }

    /// The node as it is now; fails if it does not answer or is another start of it.
    pub fn info(&self) -> Result<NodeInfo, RemoteError> {
        let stat = self.usage()?;
        Ok(NodeInfo {
            incarnation: self.incarnation(),
            mem_bytes: stat.mem_bytes,
            disk_bytes: stat.disk_bytes,
            free_bytes: free_bytes(&stat),
        })
    }

    /// Bytes, objects and clients of the node.
    pub fn usage(&self) -> Result<Stat, RemoteError> {
        self.talk(|link| match link.call("stat", &Request::Stat)? {
            Reply::Stats(stat) => Ok(stat),
            reply => Err(link.unexpected("stat", &reply)),
        })
    }

    /// Capabilities for content, in order; `None` for what the node does not have.
    pub fn open_each(&self, hashes: &[ObjectHash]) -> Result<Vec<Option<Capability>>, RemoteError> {
        let mut all = Vec::with_capacity(hashes.len());
        for some in hashes.chunks(HASHES_MAX) {
            let request = Request::Open(some.to_vec());
            all.extend(self.talk(|link| match link.call("open", &request)? {
                Reply::Opened(each) if each.len() == some.len() => Ok(each),
                reply => Err(link.unexpected("open", &reply)),
            })?);
        }
        Ok(all)
    }

    /// The capability for content.
    pub fn open(&self, hash: ObjectHash) -> Result<Capability, RemoteError> {
        let found = self.open_each(&[hash])?.into_iter().next().flatten();
        found.ok_or_else(|| self.missing(hash))
    }

    fn missing(&self, hash: ObjectHash) -> RemoteError {
        let address = self.address().to_owned();
        RemoteError::Missing { hash, address }
    }

    /// Whether the node has the content.
    pub fn has(&self, hash: ObjectHash) -> Result<bool, RemoteError> {
        Ok(self.open_each(&[hash])?.iter().all(Option::is_some))
    }

    /// Stores content unless the node has it; its name.
    pub fn put_object(&self, bytes: &[u8]) -> Result<ObjectHash, RemoteError> {
        let hash = ObjectHash::of(bytes);
        self.put_named(hash, bytes)?;
        Ok(hash)
    }

    /// Stores content whose name is known; the node checks it.
    pub fn put_named(&self, hash: ObjectHash, bytes: &[u8]) -> Result<PutContent, RemoteError> {
        let len = bytes.len() as u64;
        if len == 0 || len > OBJECT_MAX {
            return Err(RemoteError::Range {
                what: "the length of an object",
                value: len,
                max: OBJECT_MAX,
            });
        }
        let kind = Kind::Content(hash);
        self.talk(|link| {
            let capability = match link.call("put", &Request::Grant { len, kind })? {
                Reply::Committed(_) => return Ok(PutContent::Had),
                Reply::Granted(capability) => capability,
                reply => return Err(link.unexpected("put", &reply)),
            };
            if let Err(error) = send(link, capability, bytes) {
                // The room is not kept for bytes that will not come.
                let _ = link.call("put", &Request::Free { capability });
                return Err(error);
            }
            let crcs = sums::commit_crcs(bytes);
            match link.call("put", &Request::Commit { capability, crcs })? {
                Reply::Committed(_) => Ok(PutContent::Sent),
                reply => Err(link.unexpected("put", &reply)),
            }
        })
    }

    /// Content, whole; for small things such as manifests.
    pub fn get_object(&self, hash: ObjectHash) -> Result<Vec<u8>, RemoteError> {
        let capability = self.open(hash)?;
        let bytes = self.talk(|link| receive(link, capability))?;
        if ObjectHash::of(&bytes) == hash {
            Ok(bytes)
        } else {
            let address = self.address().to_owned();
            Err(RemoteError::Corrupt { hash, address })
        }
    }

    /// Names content. The name keeps `root` and all of `members` until it is removed or set to
    /// something else; content that no name keeps makes room for other content when it must.
    pub fn set_name(
        &self,
        name: &str,
        root: ObjectHash,
        members: &[ObjectHash],
    ) -> Result<(), RemoteError> {
        check_name(name)?;
        self.talk(|link| {
            let holds = members.chunks(HASHES_MAX);
            let requests = holds.map(|some| Request::Hold(some.to_vec()));
            let name = name.to_owned();
            for request in requests.chain([Request::SetName { name, root }]) {
                match link.call("set a name", &request)? {
                    Reply::Done => {}
                    reply => return Err(link.unexpected("set a name", &reply)),
                }
            }
            Ok(())
        })
    }

    /// Every name, in order.
    pub fn names(&self) -> Result<Vec<NamedModel>, RemoteError> {
        let mut all: Vec<NamedModel> = Vec::new();
        loop {
            let after = all.last().map_or(String::new(), |model| model.name.clone());
            let request = Request::Names { after };
            let some = self.talk(|link| match link.call("list names", &request)? {
                Reply::NameList(some) => Ok(some),
                reply => Err(link.unexpected("list names", &reply)),
            })?;
            // A node that goes back in the order would keep us here for ever.
            let is_behind = |last: &NamedModel| some.iter().all(|model| model.name > last.name);
            if some.is_empty() || !all.last().is_none_or(is_behind) {
                return Ok(all);
            }
            all.extend(some);
        }
    }

    /// What a name stands for.
    pub fn resolve(&self, name: &str) -> Result<Option<ObjectHash>, RemoteError> {
        check_name(name)?;
        let name = name.to_owned();
        self.talk(
            |link| match link.call("resolve", &Request::Resolve { name })? {
                Reply::Resolved(hash) => Ok(hash),
                reply => Err(link.unexpected("resolve", &reply)),
            },
        )
    }

    /// Removes a name, and the content that no other name keeps.
    pub fn remove(&self, name: &str) -> Result<(), RemoteError> {
        check_name(name)?;
        let name = name.to_owned();
        self.done("remove", &Request::RemoveName { name })
    }

    /// Content as files: file `i` is `hashes[i]`.
    pub fn source(&self, hashes: &[ObjectHash]) -> Result<ObjectSource, RemoteError> {
        let found = self.open_each(hashes)?;
        let opened = found.into_iter().zip(hashes);
        let capabilities = opened
            .map(|(found, &hash)| Ok((hash, found.ok_or_else(|| self.missing(hash))?)))
            .collect::<Result<Vec<_>, RemoteError>>()?;
        let contents = Arc::new(Contents::new(&capabilities));
        self.contents.lock().push(Arc::downgrade(&contents));
        Ok(ObjectSource::new(contents, self.address().to_owned()))
    }

    /// A driver that reads a [`Self::source`]. It has a connection of its own.
    pub fn read_objects(
        &self,
        hashes: &[ObjectHash],
    ) -> Result<(Box<dyn Driver>, ObjectSource), RemoteError> {
        let source = self.source(hashes)?;
        let channel = self.connector.channel()?;
        Ok((reader(&self.connector, Some(channel), &source), source))
    }

    /// As [`Self::read_objects`] of what `known` reads elsewhere, from a node that need not be
    /// there yet, nor have all of it when it comes.
    pub fn read_later(&self, known: &ObjectSource) -> (Box<dyn Driver>, ObjectSource) {
        let contents = Arc::new(known.contents().elsewhere());
        self.contents.lock().push(Arc::downgrade(&contents));
        let source = ObjectSource::new(contents, self.address().to_owned());
        (reader(&self.connector, None, &source), source)
    }

    /// The content of `source` where it stands in the node's memory, mapped; `None` where the node
    /// is not on this host, is another user's, serves TCP only (`Transport` of either side), or
    /// does not have all of it in memory.
    pub fn place(&self, source: &ObjectSource) -> Result<Option<Arc<Placed>>, RemoteError> {
        Ok(Placed::take(&self.connector, source)?.map(Arc::new))
    }

    /// What is in the node's memory can be read from here where it stands: see [`Self::place`].
    pub fn hands_over(&self) -> Result<bool, RemoteError> {
        Ok(Handed::take(&self.connector, &[])?.is_some())
    }

    /// Address space of `bytes` at the node, for objects of the client's own.
    pub fn lend(&self, bytes: u64) -> Result<Arc<Lent>, RemoteError> {
        let free = self.info()?.free_bytes;
        if bytes > free {
            return Err(RemoteError::TooLarge {
                bytes,
                free,
                address: self.address().to_owned(),
            });
        }
        Ok(Lent::new(Arc::clone(&self.connector), bytes))
    }

    /// As [`Self::lend`] with all that the node has, of which there is nothing until it is there.
    pub fn lend_later(&self) -> Arc<Lent> {
        Lent::new(Arc::clone(&self.connector), 0)
    }
}

impl Client {
    /// Opens again what readers hold and `which` picks; `None` if the node does not answer.
    fn reopen(&self, which: impl Fn(&Contents) -> bool) -> Option<()> {
        let held: Vec<Arc<Contents>> = {
            let mut held = self.contents.lock();
            held.retain(|contents| contents.strong_count() > 0);
            held.iter().filter_map(Weak::upgrade).collect()
        };
        for contents in held.iter().filter(|contents| which(contents)) {
            contents.reopen(&self.open_each(contents.hashes()).ok()?);
        }
        Some(())
    }
}

impl Returned for Client {
    fn returned(&self, incarnation: u64) -> Option<u64> {
        self.connector.adopt(incarnation);
        // The connection of the life before.
        *self.link.lock() = None;
        let free = self.info().ok()?.free_bytes;
        self.reopen(|_| true)?;
        Some(free)
    }

    fn look_again(&self) {
        let _ = self.reopen(|contents| !contents.is_whole());
    }
}

/// Whatever a node says, this is a number to count with.
const fn free_bytes(stat: &Stat) -> u64 {
    let all = stat.mem_bytes.saturating_add(stat.disk_bytes);
    let used = stat.mem_used.saturating_add(stat.disk_used);
    all.saturating_sub(used)
}

fn check_name(name: &str) -> Result<(), RemoteError> {
    if name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
        return Err(RemoteError::Range {
            what: "the length of a printable name",
            value: name.len() as u64,
            max: NAME_MAX as u64,
        });
    }
    Ok(())
}

/// Puts `bytes` through a granted capability, a few frames ahead of their answers.
fn send(link: &mut Link, capability: Capability, bytes: &[u8]) -> Result<(), RemoteError> {
    let (mut offset, mut ahead) = (0, VecDeque::new());
    let mut refused = None;
    for data in bytes.chunks(FRAME) {
        if ahead.len() == PUTS_AHEAD {
            let id = ahead.pop_front().expect("looked at just now");
            refused = refused.or(settle(link, id)?);
        }
        let request = Request::Put { capability, offset };
        ahead.push_back(link.ask("put", &request, data)?);
        offset += data.len() as u64;
    }
    for id in ahead {
        refused = refused.or(settle(link, id)?);
    }
    refused.map_or(Ok(()), Err)
}

/// Takes one answer; a refusal is kept until the others have been taken too.
fn settle(link: &mut Link, id: u64) -> Result<Option<RemoteError>, RemoteError> {
    match link.answer("put", id) {
        Ok(_) => Ok(None),
        Err(error @ RemoteError::Refused { .. }) => Ok(Some(error)),
        Err(error) => Err(error),
    }
}

/// Gets a whole object, many ranges per request.
fn receive(link: &mut Link, capability: Capability) -> Result<Vec<u8>, RemoteError> {
    let mut bytes = vec![0; capability.length as usize];
    let window = FRAME * CREDITS;
    for (index, span) in bytes.chunks_mut(window).enumerate() {
        let start = (index * window) as u64;
        let ranges = (0..span.len().div_ceil(FRAME)).map(|frame| GetRange {
            id: frame as u64,
            capability,
            offset: start + (frame * FRAME) as u64,
            len: (span.len() - frame * FRAME).min(FRAME) as u32,
            check: Check::Crc,
        });
        link.ask("get", &Request::Get(ranges.collect()), &[])?;
        for (frame, target) in span.chunks_mut(FRAME).enumerate() {
            let crcs = link.data("get", target)?;
            let offset = start + (frame * FRAME) as u64;
            if !sums::matches(offset, target, &crcs) {
                return Err(link.corrupt("get"));
            }
        }
    }
    debug_assert!(FRAME <= DATA_MAX as usize, "a frame holds a piece");
    Ok(bytes)
}
