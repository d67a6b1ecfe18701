//! The latency of one block device, for those who ask again and again.

use larder_abi::{IoLatency, Plain};
use larder_sys::bpf::{Access, Map};
use nix::errno::Errno;

use crate::error::ReadError;
use crate::pins::Pins;

/// See the module.
#[derive(Debug)]
pub struct DiskLatency {
    pins: Pins,
    map: Map,
    key: u32,
}

impl DiskLatency {
    /// Of the device `major:minor`, a whole disk: its partitions are not counted apart.
    pub fn open(pins: &Pins, major: u32, minor: u32) -> Result<Self, ReadError> {
        pins.check_version()?;
        Ok(Self {
            map: pins.open(MAP, IoLatency::BYTES, Access::Read)?,
            pins: pins.clone(),
            key: major << 20 | minor & 0xf_ffff,
        })
    }

    /// What was counted so far; nothing before the device's first request.
    pub fn read(&self) -> Result<IoLatency, ReadError> {
        let mut bytes = vec![0; IoLatency::BYTES];
        match self.map.lookup(&self.key.to_ne_bytes(), &mut bytes, 1) {
            Ok(()) => Ok(IoLatency::get(&bytes)),
            Err(Errno::ENOENT) => Ok(IoLatency::default()),
            Err(errno) => Err(ReadError::Call {
                path: self.pins.map(MAP),
                errno,
            }),
        }
    }
}

const MAP: &str = "io_latency";
