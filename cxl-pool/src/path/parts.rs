//! What a path is put together from.

use super::bounce::Bounce;
use super::counters::PathCounters;
use super::disk::DiskParts;
use crate::checksum::SumStore;
use crate::clock::Clock;
use crate::device::{Copier, IdleDriver, NoFiles};
use crate::source::Source;
use crate::transfer::MoveError;
use crate::units::BytesPerSec;
use larder_sys::io::Driver;
use std::sync::Arc;

/// Tells others what became of moves, and of the path.
pub trait Outcome: Send {
    /// The move into `slot` has failed.
    fn failed(&self, slot: usize, error: MoveError);

    /// The path takes no more stores.
    fn closed(&self);
}

/// Parts of a path that its mover puts together.
pub struct PathParts {
    /// Such as `origin>dram`.
    pub name: String,
    pub driver: Box<dyn Driver>,
    pub source: Box<dyn Source>,
    pub limit: Option<BytesPerSec>,
    /// How pieces on a device are moved, on a path that moves such.
    pub bounce: Option<Bounce>,
    /// Of a path to a disk: what sizes its window.
    pub disk: Option<DiskParts>,
}

impl PathParts {
    /// Parts of a path between tiers that have memory, mapped or a device's.
    pub fn memory(name: String, copier: Box<dyn Copier>, limit: Option<BytesPerSec>) -> Self {
        Self {
            name,
            driver: Box::new(IdleDriver::new(copier.name())),
            source: Box::new(NoFiles),
            limit,
            bounce: Some(Bounce::direct(copier)),
            disk: None,
        }
    }
}

/// What a path shares with its mover.
pub struct Around {
    pub clock: Arc<dyn Clock>,
    pub outcome: Box<dyn Outcome>,
    pub counters: Arc<PathCounters>,
    pub sums: Arc<SumStore>,
}
