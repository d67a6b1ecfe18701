//! A link of its own for a node on loopback: bytes pass through it until it is cut, and it has the
//! same address for every start of the node. While no node runs, who connects is refused.

use parking_lot::{Condvar, Mutex};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Links of this process so far. Each has an address of its own, so that nobody takes its port
/// between two starts of its node.
static LINKS: AtomicU8 = AtomicU8::new(1);

pub(crate) struct Forwarder {
    pub(crate) address: SocketAddr,
    link: Arc<Link>,
    /// Takes connections while there is a node.
    open: Mutex<Option<JoinHandle<()>>>,
}

struct Link {
    state: Mutex<State>,
    changed: Condvar,
    /// Bytes that came from the node.
    received: AtomicU64,
}

struct State {
    /// Where the node listens.
    node: Option<SocketAddr>,
    /// Bytes wait, connections stay open.
    is_cut: bool,
}

impl Forwarder {
    pub(crate) fn new() -> Self {
        let number = LINKS.fetch_add(1, Ordering::Relaxed);
        let place = Ipv4Addr::new(127, 89, 0, number);
        let listener = TcpListener::bind((place, 0)).expect("a port");
        Self {
            address: listener.local_addr().expect("an address"),
            link: Arc::new(Link {
                state: Mutex::new(State {
                    node: None,
                    is_cut: false,
                }),
                changed: Condvar::new(),
                received: AtomicU64::new(0),
            }),
            open: Mutex::new(None),
        }
    }

    /// A node has started and listens at `node`.
    pub(crate) fn open(&self, node: SocketAddr) {
        let listener = TcpListener::bind(self.address).expect("the same port again");
        self.link.state.lock().node = Some(node);
        let link = Arc::clone(&self.link);
        let thread = std::thread::spawn(move || {
            for client in listener.incoming() {
                let Some(node) = link.state.lock().node else {
                    break;
                };
                // Whose node has just ended finds that its connection ends.
                let _ = client.map(|client| link.connect(client, node));
            }
        });
        *self.open.lock() = Some(thread);
    }

    /// The node has ended.
    pub(crate) fn close(&self) {
        self.link.state.lock().node = None;
        if let Some(thread) = self.open.lock().take() {
            // The thread looks up.
            let _ = TcpStream::connect(self.address);
            thread.join().expect("connections are taken without panic");
        }
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
        self.heal();
        self.close();
    }
}

impl Link {
    fn connect(self: &Arc<Self>, client: TcpStream, node: SocketAddr) -> std::io::Result<()> {
        let node = TcpStream::connect(node)?;
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
            while state.is_cut {
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
