//! Doors for fuzzers: bytes in, no panic, no more memory than the bytes justify, and what decodes
//! encodes to the same bytes.
//!
//! The targets of `cxl-pool/fuzz` call these, and so does a seeded run among the tests.

use super::WireError;
use super::header::{HEADER_BYTES, Header};
use super::reply::Reply;
use super::request::Request;

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
    let crc = crc32c::crc32c(&header[..24]);
    header[24..28].copy_from_slice(&crc.to_le_bytes());
    header[28..32].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
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
