//! TCP sockets: listening, connecting, and the options that every connection of ours has.

use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};
use std::ffi::OsString;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

/// Seconds of silence before the kernel asks whether the peer is there, and between questions.
const KEEPALIVE_S: u32 = 5;
/// Questions without an answer before the connection counts as lost.
const KEEPALIVE_PROBES: u32 = 3;
/// Milliseconds that sent bytes may stay unacknowledged before the connection counts as lost.
const USER_TIMEOUT_MS: u32 = 20_000;
/// Congestion control of connections that stay on this host, where nothing is congested. A host
/// whose default is BBR paces each segment with a timer of its own, and believes in the rate of the
/// pauses between requests: a third of a sender's time, measured. Every Linux has this one and
/// allows it. Source: tcp(7).
const LOCAL_CONGESTION: &str = "reno";

/// Sets what every connection of ours has: no delay, and notice of a peer that is gone.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if is_local(stream) {
        // Where it is not allowed the connection works all the same.
        let name = OsString::from(LOCAL_CONGESTION);
        let _ = setsockopt(stream, sockopt::TcpCongestion, &name);
    }
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &KEEPALIVE_S)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &KEEPALIVE_S)?;
    setsockopt(stream, sockopt::TcpKeepCount, &KEEPALIVE_PROBES)?;
    setsockopt(stream, sockopt::TcpUserTimeout, &USER_TIMEOUT_MS)?;
    Ok(())
}

/// Both ends are on this host. Of a peer that has hung up by now nothing is known.
fn is_local(stream: &TcpStream) -> bool {
    match (stream.peer_addr(), stream.local_addr()) {
        (Ok(peer), Ok(own)) => peer.ip() == own.ip(),
        _ => false,
    }
}

/// Bytes below which a waiting receive sleeps on. Source: socket(7), `SO_RCVLOWAT`.
pub(super) fn set_low_water(stream: &TcpStream, bytes: usize) -> io::Result<()> {
    let value = bytes as libc::c_int;
    // SAFETY: the option takes an int, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Connects to the first address of `host:port` that answers within `wait`.
pub fn connect(address: &str, wait: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, wait) {
            Ok(stream) => {
                prepare(&stream)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A listening socket whose waiting `accept` any clone can end.
#[derive(Clone, Debug)]
pub struct Listener(Arc<TcpListener>);

impl Listener {
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self(Arc::new(TcpListener::bind(address)?)))
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// The next connection, with its options set.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = self.0.accept()?;
        prepare(&stream)?;
        Ok((stream, peer))
    }

    /// Ends the waiting `accept` and refuses whoever comes. Source: shutdown(2), tcp(7).
    pub fn stop(&self) {
        let _ = shutdown(self.0.as_raw_fd(), Shutdown::Both);
    }
}
