//! A link to a node that can be cut and healed: it stops passing bytes on without closing anything,
//! as a network does that loses every packet, or a node that is stopped.

use parking_lot::{Condvar, Mutex};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

#[derive(Default)]
struct Gate {
    is_cut: Mutex<bool>,
    healed: Condvar,
}

impl Gate {
    /// Returns when the link passes bytes.
    fn pass(&self) {
        let mut is_cut = self.is_cut.lock();
        while *is_cut {
            self.healed.wait(&mut is_cut);
        }
    }
}

/// See the module.
pub(crate) struct CutLink {
    pub(crate) address: SocketAddr,
    gate: Arc<Gate>,
}

impl CutLink {
    pub(crate) fn to(node: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("bound");
        let gate = Arc::<Gate>::default();
        let ours = Arc::clone(&gate);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                // A node that is gone refuses: so does the link.
                let Ok(far) = TcpStream::connect(node) else {
                    continue;
                };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone(), to.try_clone());
                    let (from, to) = (from.expect("a socket"), to.expect("a socket"));
                    let gate = Arc::clone(&ours);
                    std::thread::spawn(move || pump(from, to, &gate));
                }
            }
        });
        Self { address, gate }
    }

    pub(crate) fn cut(&self) {
        *self.gate.is_cut.lock() = true;
    }

    pub(crate) fn heal(&self) {
        *self.gate.is_cut.lock() = false;
        self.gate.healed.notify_all();
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, gate: &Gate) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        gate.pass();
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}
