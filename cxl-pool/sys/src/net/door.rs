//! Names of local sockets, and who listens there.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Shutdown, SockFlag, SockType, UnixAddr, getsockopt, setsockopt, shutdown,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

/// The name of a socket that exists as long as somebody listens on it, in this network namespace
/// only. Source: unix(7), abstract sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalName(String);

impl LocalName {
    pub fn new(name: String) -> Self {
        Self(name)
    }
}

/// Connects to who listens on `name`, waiting `wait` for a place in its queue.
pub fn connect(name: &LocalName, wait: Duration) -> io::Result<UnixStream> {
    let (kind, flags) = (SockType::Stream, SockFlag::SOCK_CLOEXEC);
    let socket = socket(AddressFamily::Unix, kind, flags, None)?;
    let limit = TimeVal::milliseconds(wait.as_millis() as i64);
    setsockopt(&socket, sockopt::SendTimeout, &limit)?;
    let address = UnixAddr::new_abstract(name.0.as_bytes())?;
    loop {
        match nix::sys::socket::connect(socket.as_raw_fd(), &address) {
            // A signal came while the queue was full.
            Err(Errno::EINTR) => {}
            outcome => {
                return outcome
                    .map(|()| UnixStream::from(socket))
                    .map_err(Into::into);
            }
        }
    }
}

/// The process at the other end was of this process's user, or of root, when the connection was
/// made. Source: unix(7), `SO_PEERCRED`.
pub fn is_own_user(stream: &UnixStream) -> bool {
    let peer = getsockopt(stream, sockopt::PeerCredentials);
    peer.is_ok_and(|peer| peer.uid() == 0 || peer.uid() == nix::unistd::geteuid().as_raw())
}

/// A listening socket whose waiting `accept` any clone can end.
#[derive(Clone, Debug)]
pub struct LocalListener(Arc<UnixListener>);

impl LocalListener {
    pub fn bind(name: &LocalName) -> io::Result<Self> {
        let address = SocketAddr::from_abstract_name(&name.0)?;
        Ok(Self(Arc::new(UnixListener::bind_addr(&address)?)))
    }

    pub fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.0.accept()?.0)
    }

    /// Ends the waiting `accept` and refuses whoever comes. Source: shutdown(2).
    pub fn stop(&self) {
        let _ = shutdown(self.0.as_raw_fd(), Shutdown::Both);
    }
}

impl AsFd for LocalListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
