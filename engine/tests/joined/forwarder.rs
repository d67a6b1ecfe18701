//! A link of its own for a node on loopback: bytes pass through it until it is cut, and it keeps
//! its address while the node behind it ends and starts again.

use parking_lot::{Condvar, Mutex};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) struct Forwarder {
    pub(crate) address: SocketAddr,
    link: Arc<Link>,
}

struct Link {
    state: Mutex<State>,
    changed: Condvar,
    /// Bytes that came from the node.
    received: AtomicU64,
}

struct State {
    /// Where the node listens; nothing before it has started.
    node: Option<SocketAddr>,
    /// Bytes wait, connections stay open.
    is_cut: bool,
    is_closed: bool,
}

impl Forwarder {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let link = Arc::new(Link {
            state: Mutex::new(State {
                node: None,
                is_cut: false,
                is_closed: false,
            }),
            changed: Condvar::new(),
            received: AtomicU64::new(0),
        });
        let accepts = Arc::clone(&link);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if accepts.state.lock().is_closed {
                    break;
                }
                // Who finds no node finds a connection that ends.
                let _ = client.map(|client| accepts.connect(client));
            }
        });
        Self { address, link }
    }

    /// The node listens at `node` from now on.
    pub(crate) fn set_node(&self, node: SocketAddr) {
        self.link.state.lock().node = Some(node);
    }

    pub(crate) fn cut(&self) {
        self.link.state.lock().is_cut = true;
    }

    pub(crate) fn heal(&self) {
        self.link.state.lock().is_cut = false;
        self.link.changed.notify_all();
    }

    /// Bytes that have come from the node so far.
    pub(crate) fn received(&self) -> u64 {
        self.link.received.load(Ordering::Relaxed)
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.link.state.lock().is_closed = true;
        self.heal();
        // The thread that accepts looks up.
        let _ = TcpStream::connect(self.address);
    }
}

impl Link {
    fn connect(self: &Arc<Self>, client: TcpStream) -> std::io::Result<()> {
        let address = self
            .state
            .lock()
            .node
            .ok_or(std::io::ErrorKind::NotConnected)?;
        let node = TcpStream::connect(address)?;
        client.set_nodelay(true)?;
        node.set_nodelay(true)?;
        for (from, to, counts) in [
            (client.try_clone()?, node.try_clone()?, false),
            (node, client, true),
        ] {
            let link = Arc::clone(self);
            std::thread::spawn(move || {
                if link.pass(&from, &to, counts).is_err() {
                    // An end that broke breaks the other one too.
                    let _ = from.shutdown(Shutdown::Both);
                    let _ = to.shutdown(Shutdown::Both);
                }
            });
        }
        Ok(())
    }

    /// Passes bytes on until one side ends.
    fn pass(&self, mut from: &TcpStream, mut to: &TcpStream, counts: bool) -> std::io::Result<()> {
        let mut piece = vec![0; 64 << 10];
        loop {
            let len = from.read(&mut piece)?;
            let mut state = self.state.lock();
            while state.is_cut && !state.is_closed {
                self.changed.wait(&mut state);
            }
            drop(state);
            if len == 0 {
                return to.shutdown(Shutdown::Write);
            }
            to.write_all(&piece[..len])?;
            if counts {
                self.received.fetch_add(len as u64, Ordering::Relaxed);
            }
        }
    }
}
