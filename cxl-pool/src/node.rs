//! A memory node: a host that lends memory, and a disk behind it, to engines elsewhere.
//!
//! One thread accepts on the address, another on a local socket, for clients of the same host that
//! found the node at that address; a third lends the memory itself to those. Each connection has a
//! thread and a channel of its own, so a client that is slow, silent or hostile holds up nobody
//! else. What they share is the [`store`]. See `docs/PROTOCOL.md` for what is said on the wire.

mod slab;

mod names;

mod places;
mod store;

mod disk;
mod grants;

mod session;

mod answer;
mod lender;

#[doc(hidden)]
pub mod fuzz;
#[doc(hidden)]
pub mod sim;

use crate::clock::{Clock, RealClock};
use crate::wire::auth::TokenKey;
use crate::wire::capability::Signer;
use crate::wire::{local_name, memory_name};
use larder_sys::mapping::{MapError, Mapping};
use larder_sys::net::door::{LocalListener, LocalName};
use larder_sys::net::socket::Listener;
use larder_sys::net::{Stream, Transport, open_channel};
use larder_sys::space::{GRANULE, Space};
use parking_lot::Mutex;
use places::Places;
use session::{Ending, Session};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::Duration;
use store::Store;

/// Connections at a time.
const CLIENTS_MAX: usize = 256;
/// Silence after which what a connection lent or was granted is gone.
pub(crate) const LEASE: Duration = Duration::from_secs(30);
/// Stack of a connection's thread, in bytes.
const STACK: usize = 256 << 10;

/// A node could not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(
        "listen on {address}: not a loopback address, and no token; give --token-file or --insecure"
    )]
    Exposed { address: SocketAddr },
    #[error("listen on {address}: {error}; give another --listen address")]
    Listen {
        address: SocketAddr,
        error: std::io::Error,
    },
    #[error("lend {bytes} bytes: a node needs 4096 at least; give a larger --mem")]
    TooSmall { bytes: u64 },
    #[error(transparent)]
    Memory(#[from] MapError),
    #[error("open the disk tier in {}: {error}; give another folder", path.display())]
    Disk {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("start the node: {0}")]
    System(#[from] std::io::Error),
}

/// What a node lends, and to whom.
#[derive(Debug)]
pub struct NodeOptions {
    pub listen: SocketAddr,
    /// Bytes of memory, taken as they are used.
    pub mem: u64,
    /// A folder for objects that memory has no room for, and the bytes it may take.
    pub disk: Option<(PathBuf, u64)>,
    /// The token that clients must know, if there is one.
    pub token: Option<String>,
    /// Without a token, whoever reaches the address may use the node.
    pub exposure: Exposure,
    pub transport: Transport,
}

/// Who may reach a node without a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// This host only.
    Loopback,
    /// Whoever reaches it.
    Anybody,
}

impl NodeOptions {
    /// A node of memory alone, for this host.
    pub const fn new(listen: SocketAddr, mem: u64) -> Self {
        Self {
            listen,
            mem,
            disk: None,
            token: None,
            exposure: Exposure::Loopback,
            transport: Transport::Best,
        }
    }
}

/// What the threads of a node share.
struct Shared {
    store: Store,
    key: Option<TokenKey>,
    clock: Arc<dyn Clock>,
    transport: Transport,
    /// Clients of this host may read its memory in place.
    lends: bool,
    places: Places,
    stopping: AtomicBool,
    clients: Mutex<HashMap<u64, Client>>,
    /// Number of the next connection.
    next: AtomicU64,
}

/// A connection and its thread.
struct Client {
    /// Ends its wait; `None` until its channel is there.
    waker: Option<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl Shared {
    /// Memory and disk of a start; also what this host did not allow.
    fn new(
        options: NodeOptions,
        clock: Arc<dyn Clock>,
        signer: Signer,
    ) -> Result<(Self, Vec<String>), NodeError> {
        let mut notes = Vec::new();
        let arena = Space::mapped(memory(&options, &mut notes)?);
        let mut disk = None;
        if let Some((path, bytes)) = options.disk {
            match disk::open(&path, bytes) {
                Ok((opened, mut said)) => {
                    disk = Some(opened);
                    notes.append(&mut said);
                }
                Err(error) => return Err(NodeError::Disk { path, error }),
            }
        }
        if options.transport == Transport::Threads || larder_sys::net::uring::open_ring().is_err() {
            notes.push("no io_uring for connections: two threads for each".to_owned());
        }
        let shared = Self {
            store: Store::new(arena, disk, signer),
            key: options.token.as_deref().map(TokenKey::new),
            clock,
            transport: options.transport,
            lends: false,
            places: Places::default(),
            stopping: AtomicBool::new(false),
            clients: Mutex::new(HashMap::new()),
            next: AtomicU64::new(0),
        };
        Ok((shared, notes))
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn clients(&self) -> u64 {
        self.clients.lock().len() as u64
    }
}

/// Memory of a node: such that clients of this host can read it in place, where they may.
fn memory(options: &NodeOptions, notes: &mut Vec<String>) -> Result<Mapping, MapError> {
    if options.transport == Transport::Best {
        match Mapping::shared(options.mem) {
            Ok(mapping) => return Ok(mapping),
            Err(error) => notes.push(format!("memory is not lent in place: {}", error.errno)),
        }
    }
    Mapping::new(options.mem)
}

/// A running node; dropping it stops it.
pub struct Node {
    shared: Arc<Shared>,
    listener: Listener,
    local: Option<LocalListener>,
    /// Where its memory is lent.
    lender: Option<LocalListener>,
    address: SocketAddr,
    threads: Vec<JoinHandle<()>>,
    notes: Vec<String>,
}

impl Node {
    /// Starts to serve.
    pub fn start(options: NodeOptions) -> Result<Self, NodeError> {
        Self::start_at(options, Arc::new(RealClock::new()))
    }

    /// Starts to serve by the time of `clock`.
    pub fn start_at(options: NodeOptions, clock: Arc<dyn Clock>) -> Result<Self, NodeError> {
        let address = options.listen;
        let is_open = options.token.is_none() && options.exposure == Exposure::Loopback;
        if is_open && !address.ip().is_loopback() {
            return Err(NodeError::Exposed { address });
        }
        if options.mem < GRANULE {
            let bytes = options.mem;
            return Err(NodeError::TooSmall { bytes });
        }
        let listener =
            Listener::bind(address).map_err(|error| NodeError::Listen { address, error })?;
        let address = listener.address()?;
        let random = larder_sys::random::secret()?;
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n, &b| n << 8 | u64::from(b));
        let (pool, incarnation) = (number(&random[..8]), number(&random[8..16]));
        let secret = larder_sys::random::secret()?;
        let signer = Signer::new(pool, incarnation, secret);
        let transport = options.transport;
        let (mut shared, mut notes) = Shared::new(options, clock, signer)?;
        let lender = shared.store.descriptor().map(|_| {
            let name = memory_name(incarnation, address.port());
            LocalListener::bind(&name)
        });
        if let Some(Err(error)) = &lender {
            notes.push(format!("memory is not lent in place: {error}"));
        }
        let lender = lender.and_then(Result::ok);
        shared.lends = lender.is_some();
        let local = match transport {
            Transport::Best => LocalListener::bind(&local_name(incarnation, address.port())),
            Transport::Tcp | Transport::Threads => Err(std::io::ErrorKind::Unsupported.into()),
        };
        if transport == Transport::Best
            && let Err(error) = &local
        {
            notes.push(format!("clients of this host come over TCP: {error}"));
        }
        let mut node = Self {
            shared: Arc::new(shared),
            listener,
            local: local.ok(),
            lender,
            address,
            threads: Vec::new(),
            notes,
        };
        node.listen()?;
        Ok(node)
    }

    /// Starts the threads that accept.
    fn listen(&mut self) -> std::io::Result<()> {
        let (shared, listener) = (Arc::clone(&self.shared), self.listener.clone());
        let tcp = move || {
            let (stream, peer) = listener.accept()?;
            Ok((Stream::Tcp(stream), peer.to_string()))
        };
        let builder = std::thread::Builder::new().name("larder-accept".to_owned());
        self.threads
            .push(builder.spawn(move || accept(&shared, &tcp))?);
        if let Some(listener) = self.lender.clone() {
            let shared = Arc::clone(&self.shared);
            let builder = std::thread::Builder::new().name("larder-lender".to_owned());
            self.threads
                .push(builder.spawn(move || lender::lend(&shared, &listener))?);
        }
        let Some(listener) = self.local.clone() else {
            return Ok(());
        };
        let shared = Arc::clone(&self.shared);
        let local = move || Ok((Stream::Local(listener.accept()?), "this host".to_owned()));
        let builder = std::thread::Builder::new().name("larder-local".to_owned());
        self.threads
            .push(builder.spawn(move || accept(&shared, &local))?);
        Ok(())
    }

    /// Where it listens, with the port that it got.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where clients of this host find it without TCP, if they may.
    pub fn local_name(&self) -> Option<LocalName> {
        let name = local_name(self.incarnation(), self.address.port());
        self.local.as_ref().map(|_| name)
    }

    /// What this host did not allow, one sentence each, for the report.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Number of this start of the node.
    pub fn incarnation(&self) -> u64 {
        self.shared.store.signer().incarnation
    }

    /// Objects, bytes and clients now.
    pub fn stat(&self) -> crate::wire::reply::Stat {
        self.shared.store.stat(self.shared.clients())
    }

    /// Ends every connection and every thread.
    pub fn stop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.listener.stop();
        let local = self.local.iter().chain(&self.lender);
        local.for_each(LocalListener::stop);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let clients: Vec<Client> = {
            let mut clients = self.shared.clients.lock();
            clients.drain().map(|(_, client)| client).collect()
        };
        for client in &clients {
            client.waker.iter().for_each(Waker::wake_by_ref);
        }
        for thread in clients.into_iter().filter_map(|client| client.thread) {
            let _ = thread.join();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The next connection, and who is at its other end.
type Next<'a> = &'a dyn Fn() -> std::io::Result<(Stream, String)>;

fn accept(shared: &Arc<Shared>, next: Next<'_>) {
    loop {
        let (stream, peer) = match next() {
            _ if shared.is_stopping() => return,
            Ok(pair) => pair,
            Err(error) => {
                tracing::warn!(%error, "accept a connection");
                // Out of descriptors: connections that end will give some back.
                std::thread::park_timeout(Duration::from_millis(50));
                continue;
            }
        };
        if shared.clients.lock().len() >= CLIENTS_MAX {
            tracing::warn!(%peer, "turned away: {CLIENTS_MAX} connections are the limit");
            continue;
        }
        let client = Client {
            waker: None,
            thread: None,
        };
        let id = shared.next.fetch_add(1, Ordering::Relaxed);
        shared.clients.lock().insert(id, client);
        let (ours, whose) = (Arc::clone(shared), peer.clone());
        let builder = std::thread::Builder::new()
            .name(format!("larder-client-{id}"))
            .stack_size(STACK);
        match builder.spawn(move || serve(&ours, stream, &whose, id)) {
            Ok(thread) => {
                if let Some(client) = shared.clients.lock().get_mut(&id) {
                    client.thread = Some(thread);
                }
            }
            Err(error) => {
                tracing::warn!(%peer, %error, "start a thread for a connection");
                shared.clients.lock().remove(&id);
            }
        }
    }
}

/// A connection's life.
fn serve(shared: &Arc<Shared>, stream: Stream, peer: &str, id: u64) {
    match open_channel(stream, shared.transport) {
        Ok(channel) => {
            if let Some(client) = shared.clients.lock().get_mut(&id) {
                client.waker = Some(channel.waker());
            }
            let mut session = Session::new(Arc::clone(shared), channel, id);
            match session.serve() {
                ending @ (Ending::Left | Ending::Stopping) => {
                    tracing::debug!(%peer, %ending, "connection ended");
                }
                ending => tracing::warn!(%peer, %ending, "connection ended"),
            }
            session.end();
        }
        Err(error) => tracing::warn!(%peer, %error, "open a channel for a connection"),
    }
    shared.clients.lock().remove(&id);
}
