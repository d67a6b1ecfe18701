//! Doors for fuzzers: bytes in, no panic, no more memory than the bytes justify, and what decodes
//! encodes to the same bytes.
//!
//! The targets of `cxl-pool/fuzz` call these, and so does a seeded run among the tests.

use super::WireError;
use super::header::{HEADER_BYTES, Header};
use super::reply::Reply;
use super::request::Request;
use crate::crc::crc32c;
use larder_sys::io::Errno;
use larder_sys::net::{Channel, Event, Message, Targets};
use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

/// Reads `data` as header and body of a request; true if it is one.
pub fn request(data: &[u8]) -> bool {
    one(data, |header, body| {
        let request = Request::decode(header, body)?;
        assert_eq!(request.encode(header.id, header.data), data);
        Ok(())
    })
}

/// Reads `data` as header and body of a reply; true if it is one.
pub fn reply(data: &[u8]) -> bool {
    one(data, |header, body| {
        let reply = Reply::decode(header, body)?;
        assert_eq!(reply.encode(header.id, header.data), data);
        Ok(())
    })
}

/// Makes the checksums of a frame right, so that a fuzzer gets behind them.
pub fn mend(data: &mut [u8]) {
    if data.len() < HEADER_BYTES {
        return;
    }
    let (header, body) = data.split_at_mut(HEADER_BYTES);
    header[..4].copy_from_slice(b"LRDR");
    header[4..6].copy_from_slice(&1u16.to_le_bytes());
    header[16..20].copy_from_slice(&(body.len() as u32).to_le_bytes());
    let crc = crc32c(&header[..24]);
    header[24..28].copy_from_slice(&crc.to_le_bytes());
    header[28..32].copy_from_slice(&crc32c(body).to_le_bytes());
}

fn one(data: &[u8], decode: impl FnOnce(&Header, &[u8]) -> Result<(), WireError>) -> bool {
    let Some((header, body)) = data.split_first_chunk::<HEADER_BYTES>() else {
        return false;
    };
    let decoded = Header::decode(header).and_then(|header| decode(&header, body));
    if let Err(error) = decoded {
        assert!(!error.to_string().contains('\n'), "messages are one line");
        return false;
    }
    true
}

/// A channel whose peer says what is written, and then hangs up.
pub struct Script {
    bytes: VecDeque<u8>,
    events: Vec<Event>,
    is_shut: bool,
}

impl Script {
    pub fn new(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.iter().copied().collect(),
            events: Vec::new(),
            is_shut: false,
        }
    }
}

impl Channel for Script {
    fn name(&self) -> &'static str {
        "script"
    }

    fn send(&mut self, tag: u64, message: Message) {
        drop(message);
        let outcome = if self.is_shut {
            Err(Errno::ENOTCONN)
        } else {
            Ok(())
        };
        self.events.push(Event::Sent { tag, outcome });
    }

    fn receive(&mut self, mut targets: Targets) {
        let mut outcome = Ok(());
        for target in &mut targets {
            for byte in target.bytes_mut() {
                match self.bytes.pop_front().filter(|_| !self.is_shut) {
                    Some(next) => *byte = next,
                    None => outcome = Err(Errno::ECONNRESET),
                }
            }
        }
        self.events.push(Event::Received { targets, outcome });
    }

    fn flush(&mut self) {}

    fn reap(&mut self, events: &mut Vec<Event>, _wait: Duration) {
        events.append(&mut self.events);
    }

    fn shut(&mut self) {
        self.is_shut = true;
    }

    fn waker(&self) -> Waker {
        Waker::noop().clone()
    }
}
