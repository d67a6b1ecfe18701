//! Frames by hand, for peers that do not keep to the rules.

use larder_pool::node::Node;
use larder_pool::sys::net::door::connect;
use larder_pool::wire::header::{HEADER_BYTES, Header};
use larder_pool::wire::reply::Reply;
use larder_pool::wire::request::Request;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A connection without manners.
pub(crate) struct Raw<S = TcpStream>(pub(crate) S);

impl Raw<UnixStream> {
    /// To a node of this host, past the handshake.
    pub(crate) fn beside(node: &Node) -> Self {
        let name = node.local_name().expect("it listens there");
        let limit = Duration::from_secs(20);
        let stream = connect(&name, limit).expect("connects");
        stream.set_read_timeout(Some(limit)).expect("set");
        let mut raw = Self(stream);
        raw.greet();
        raw
    }
}

impl Raw {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connects");
        let limit = Some(Duration::from_secs(20));
        stream.set_read_timeout(limit).expect("set");
        Self(stream)
    }

    /// Past the handshake.
    pub(crate) fn greeted(address: SocketAddr) -> Self {
        let mut raw = Self::connect(address);
        raw.greet();
        raw
    }
}

impl<S: Read + Write> Raw<S> {
    fn greet(&mut self) {
        self.ask(&Request::Hello { nonce: [1; 32] });
        assert!(matches!(self.answer(), Ok(Reply::Welcome(_))));
    }

    pub(crate) fn ask(&mut self, request: &Request) {
        self.put(request, &[]);
    }

    pub(crate) fn put(&mut self, request: &Request, data: &[u8]) {
        let head = request.encode(1, data.len() as u32);
        self.0.write_all(&head).expect("sent");
        self.0.write_all(data).expect("sent");
    }

    /// The next answer without its data; an error when the node has closed.
    pub(crate) fn answer(&mut self) -> io::Result<Reply> {
        Ok(self.answer_with_data()?.0)
    }

    /// The next answer with its data.
    pub(crate) fn answer_with_data(&mut self) -> io::Result<(Reply, Vec<u8>)> {
        let mut head = [0; HEADER_BYTES];
        self.0.read_exact(&mut head)?;
        let header = Header::decode(&head).expect("nodes send good headers");
        let mut body = vec![0; header.body as usize];
        self.0.read_exact(&mut body)?;
        let mut data = vec![0; header.data as usize];
        self.0.read_exact(&mut data)?;
        let reply = Reply::decode(&header, &body).expect("nodes send good bodies");
        Ok((reply, data))
    }

    /// Whether the node closes, whatever it says before.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut sink = [0; 4096];
        loop {
            match self.0.read(&mut sink) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
            }
        }
    }
}
