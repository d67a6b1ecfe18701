//! A connection that has shaken hands, and blocking calls on it.

use super::dial::{Dial, Dialled, Unreached};
use super::health::Health;
use super::{RemoteError, RemoteOptions};
use crate::clock::{Clock, RealClock};
use crate::wire::auth::{Side, TokenKey};
use crate::wire::header::{HEADER_BYTES, Header};
use crate::wire::reply::{Refusal, Reply, Welcome};
use crate::wire::request::Request;
use crate::wire::{WireError, local_name, memory_name};
use larder_sys::net::door::LocalName;
use larder_sys::net::{Channel, Stream, Transport, door, open_channel, socket};
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Longest wait of a dial for each answer.
const DIAL_WAIT: Duration = Duration::from_secs(1);

/// Makes connections to a node: to one start of it, until it is told of another.
pub(super) struct Connector {
    options: RemoteOptions,
    incarnation: AtomicU64,
    health: Arc<Health>,
    clock: Arc<dyn Clock>,
    /// Who connects, where it is not TCP.
    dial: Option<Arc<dyn Dial>>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Connector");
        shown
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Connector {
    /// Connects for the first time.
    pub(super) fn new(options: &RemoteOptions) -> Result<(Self, Link), RemoteError> {
        let link = Link::open(options, options.timeout)?;
        let connector = Self::later(options);
        connector.adopt(link.welcome.incarnation);
        Ok((connector, link))
    }

    /// For a node that need not be there yet.
    pub(super) fn later(options: &RemoteOptions) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
        Self {
            options: options.clone(),
            incarnation: AtomicU64::new(0),
            health: Health::new(Arc::clone(&clock)),
            clock,
            dial: None,
        }
    }

    /// For a node that `dial` reaches, in the time of `clock`.
    pub(super) fn through(
        dial: Arc<dyn Dial>,
        options: &RemoteOptions,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            health: Health::new(Arc::clone(&clock)),
            clock,
            dial: Some(dial),
            ..Self::later(options)
        }
    }

    pub(super) fn address(&self) -> &str {
        &self.options.address
    }

    pub(super) const fn options(&self) -> &RemoteOptions {
        &self.options
    }

    pub(super) const fn health(&self) -> &Arc<Health> {
        &self.health
    }

    pub(super) const fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    pub(super) fn incarnation(&self) -> u64 {
        self.incarnation.load(Ordering::Acquire)
    }

    /// Connections are to this start of the node from now on.
    pub(super) fn adopt(&self, incarnation: u64) {
        self.incarnation.store(incarnation, Ordering::Release);
    }

    /// Bytes may come on other ways than a connection: it is a real one, and no way was chosen.
    pub(super) fn is_free(&self) -> bool {
        self.dial.is_none() && self.options.transport == Transport::Best
    }

    /// Another connection, past the handshake.
    pub(super) fn link(&self) -> Result<Link, RemoteError> {
        let link = Link::open(&self.options, self.options.timeout)?;
        if link.welcome.incarnation == self.incarnation() {
            Ok(link)
        } else {
            let address = self.options.address.clone();
            Err(RemoteError::Restarted { address })
        }
    }

    /// Another connection as a channel.
    pub(super) fn channel(&self) -> Result<Box<dyn Channel>, RemoteError> {
        if let Some(dial) = &self.dial {
            let dialled = dial.dial().map_err(|_| RemoteError::Connect {
                address: self.options.address.clone(),
                error: io::ErrorKind::NotConnected.into(),
            })?;
            return Ok(dialled.channel);
        }
        self.channel_of(self.link()?)
    }

    /// A channel in the place of `link`: over a local socket, if the node is found on this host.
    fn channel_of(&self, link: Link) -> Result<Box<dyn Channel>, RemoteError> {
        let fail = |error| RemoteError::Connect {
            address: self.options.address.clone(),
            error,
        };
        let link = match self.options.transport {
            Transport::Best => Link::beside(&link, &self.options).unwrap_or(link),
            Transport::Tcp | Transport::Threads => link,
        };
        link.limit(None).map_err(fail)?;
        open_channel(link.stream, self.options.transport).map_err(fail)
    }
}

impl Dial for Connector {
    fn dial(&self) -> Result<Dialled, Unreached> {
        if let Some(dial) = &self.dial {
            return dial.dial();
        }
        let dialled = Link::open(&self.options, self.options.timeout.min(DIAL_WAIT));
        let dialled = dialled.and_then(|link| {
            let incarnation = link.welcome.incarnation;
            let lease = Duration::from_millis(link.welcome.lease_ms.into());
            let channel = self.channel_of(link)?;
            Ok(Dialled {
                channel,
                incarnation,
                lease,
            })
        });
        dialled.map_err(|error| match error {
            RemoteError::Connect { error, .. } | RemoteError::Lost { error, .. }
                if is_silence(&error) =>
            {
                Unreached::Silent
            }
            _ => Unreached::Refused,
        })
    }

    fn seed(&self) -> u64 {
        let bytes = self.options.address.bytes();
        bytes.fold(0, |seed, byte| seed * 31 % 1_000_003 + u64::from(byte))
    }
}

/// Nobody said no: the network may be cut, or the node paused.
fn is_silence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::TimedOut
            | io::ErrorKind::WouldBlock
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    )
}

/// See the module.
#[derive(Debug)]
pub(super) struct Link {
    stream: Stream,
    pub(super) welcome: Welcome,
    address: String,
    next_id: u64,
    /// Answers that have been asked for and not come.
    unanswered: usize,
}

/// What went wrong on the stream; the caller adds what it wanted.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl Link {
    /// Connects, proves the token and takes the node's proof, waiting `wait` for each answer.
    fn open(options: &RemoteOptions, wait: Duration) -> Result<Self, RemoteError> {
        let fail = |error| RemoteError::Connect {
            address: options.address.clone(),
            error,
        };
        let stream = socket::connect(&options.address, wait).map_err(fail)?;
        Self::greet(Stream::Tcp(stream), options, wait)
    }

    /// As `link`, to the same start of the node, over the local socket where it waits for clients
    /// of its host; `None` if that is not there.
    fn beside(link: &Self, options: &RemoteOptions) -> Option<Self> {
        let wait = options.timeout.min(DIAL_WAIT);
        let incarnation = link.welcome.incarnation;
        let name = local_name(incarnation, link.local_port()?);
        let stream = door::connect(&name, wait).ok()?;
        let beside = Self::greet(Stream::Local(stream), options, wait).ok()?;
        (beside.welcome.incarnation == incarnation).then_some(beside)
    }

    /// The port of the node, if both ends of the connection have one address.
    fn local_port(&self) -> Option<u16> {
        let Stream::Tcp(stream) = &self.stream else {
            return None;
        };
        let peer = stream.peer_addr().ok()?;
        let is_here = stream.local_addr().ok()?.ip() == peer.ip();
        is_here.then_some(peer.port())
    }

    /// Where the node lends its memory, if it is found on this host.
    pub(super) fn memory_name(&self) -> Option<LocalName> {
        let incarnation = self.welcome.incarnation;
        self.local_port().map(|port| memory_name(incarnation, port))
    }

    /// Longest wait for an answer, and for room to ask.
    fn limit(&self, wait: Option<Duration>) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(stream) => {
                stream.set_read_timeout(wait)?;
                stream.set_write_timeout(wait)
            }
            Stream::Local(stream) => {
                stream.set_read_timeout(wait)?;
                stream.set_write_timeout(wait)
            }
        }
    }

    /// Shakes hands over `stream`.
    fn greet(stream: Stream, options: &RemoteOptions, wait: Duration) -> Result<Self, RemoteError> {
        let fail = |error| RemoteError::Connect {
            address: options.address.clone(),
            error,
        };
        let nonce = larder_sys::random::secret().map_err(fail)?;
        let mut link = Self {
            stream,
            welcome: Welcome {
                nonce: [0; 32],
                pool: 0,
                incarnation: 0,
                mem_bytes: 0,
                disk_bytes: 0,
                lease_ms: 0,
                wants_token: false,
            },
            address: options.address.clone(),
            next_id: 1,
            unanswered: 0,
        };
        link.limit(Some(wait)).map_err(fail)?;
        match link.call("connect", &Request::Hello { nonce })? {
            Reply::Welcome(welcome) => link.welcome = welcome,
            reply => return Err(link.unexpected("connect", &reply)),
        }
        if link.welcome.wants_token {
            link.prove(options, nonce)?;
        } else if options.token.is_some() {
            // A node that should know the token and does not ask for it is another one.
            let address = link.address;
            return Err(RemoteError::Impostor { address });
        }
        Ok(link)
    }

    fn prove(&mut self, options: &RemoteOptions, nonce: [u8; 32]) -> Result<(), RemoteError> {
        let Some(token) = &options.token else {
            return Err(self.refused("connect", Refusal::Unauthorised));
        };
        let (key, node) = (TokenKey::new(token), self.welcome.nonce);
        let proof = key.proof(Side::Client, &nonce, &node);
        match self.call("connect", &Request::Auth { proof })? {
            Reply::Proof(proof) if key.check(Side::Node, [&nonce, &node], &proof) => Ok(()),
            Reply::Proof(_) => Err(RemoteError::Impostor {
                address: self.address.clone(),
            }),
            reply => Err(self.unexpected("connect", &reply)),
        }
    }

    /// Asks and waits for the answer; a refusal is an error.
    pub(super) fn call(
        &mut self,
        call: &'static str,
        request: &Request,
    ) -> Result<Reply, RemoteError> {
        let id = self.ask(call, request, &[])?;
        self.answer(call, id)
    }

    /// Sends a request with its data.
    pub(super) fn ask(
        &mut self,
        call: &'static str,
        request: &Request,
        data: &[u8],
    ) -> Result<u64, RemoteError> {
        let id = self.next_id;
        self.next_id += 1;
        self.unanswered += match request {
            Request::Get(ranges) => ranges.len(),
            _ => 1,
        };
        let head = request.encode(id, data.len() as u32);
        let sent = self.stream.write_all(&head);
        let sent = sent.and_then(|()| self.stream.write_all(data));
        sent.map_err(|error| self.failed(call, error.into()))?;
        Ok(id)
    }

    /// The answer to request `id`, which is the next one.
    pub(super) fn answer(&mut self, call: &'static str, id: u64) -> Result<Reply, RemoteError> {
        let (header, body) = self.head().map_err(|error| self.failed(call, error))?;
        let reply = Reply::decode(&header, &body);
        let reply = reply.map_err(|error| self.failed(call, error.into()))?;
        if header.data > 0 || (header.id != id && header.id != 0) {
            let error = WireError::Range {
                what: "the id of an answer",
            };
            return Err(self.failed(call, error.into()));
        }
        match reply {
            Reply::Refused(refusal) => Err(self.refused(call, refusal)),
            reply => Ok(reply),
        }
    }

    /// The answer to a get: its checksums, and the data read into `target`.
    pub(super) fn data(
        &mut self,
        call: &'static str,
        target: &mut [u8],
    ) -> Result<Vec<u32>, RemoteError> {
        let (header, body) = self.head().map_err(|error| self.failed(call, error))?;
        let reply = Reply::decode(&header, &body);
        let crcs = match reply.map_err(|error| self.failed(call, error.into()))? {
            Reply::Data(crcs) if header.data as usize == target.len() => crcs,
            Reply::Refused(refusal) => return Err(self.refused(call, refusal)),
            reply => return Err(self.unexpected(call, &reply)),
        };
        let read = self.stream.read_exact(target);
        read.map_err(|error| self.failed(call, error.into()))?;
        Ok(crcs)
    }

    /// Every answer has come, so the next request can be asked.
    pub(super) const fn is_in_step(&self) -> bool {
        self.unanswered == 0
    }

    fn head(&mut self) -> Result<(Header, Vec<u8>), LinkError> {
        let mut bytes = [0; HEADER_BYTES];
        self.stream.read_exact(&mut bytes)?;
        let header = Header::decode(&bytes)?;
        let mut body = vec![0; header.body as usize];
        self.stream.read_exact(&mut body)?;
        self.unanswered = self.unanswered.saturating_sub(1);
        Ok((header, body))
    }

    fn failed(&self, call: &'static str, error: LinkError) -> RemoteError {
        let address = self.address.clone();
        match error {
            LinkError::Io(error) => RemoteError::Lost {
                call,
                address,
                error,
            },
            LinkError::Wire(error) => RemoteError::Wire {
                call,
                address,
                error,
            },
        }
    }

    fn refused(&self, call: &'static str, refusal: Refusal) -> RemoteError {
        RemoteError::Refused {
            call,
            address: self.address.clone(),
            refusal,
        }
    }

    /// Data that does not match its checksums.
    pub(super) fn corrupt(&self, call: &'static str) -> RemoteError {
        self.failed(call, WireError::Checksum { what: "data block" }.into())
    }

    /// An answer of the wrong kind.
    pub(super) fn unexpected(&self, call: &'static str, reply: &Reply) -> RemoteError {
        let op = reply.op() as u16;
        self.failed(call, WireError::Op { op }.into())
    }

    /// The node said something that cannot be.
    pub(super) fn out_of_range(&self, call: &'static str, what: &'static str) -> RemoteError {
        self.failed(call, WireError::Range { what }.into())
    }
}
