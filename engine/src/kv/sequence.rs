//! KV of one sequence, and which of its slices are on the fast tier.
//!
//! Life of a slice: appended to (a tail), full and resident; if there is no room for it to stay,
//! written home and dropped; then fetched for every step into a frame of the stream.

mod resize;
mod shake;

use super::stream::{Place, Stream};
use super::{KvError, KvLayout, SliceAt};
use crate::home::{Homes, given_back};
use larder_pool::spill::KeptRecord;
use larder_pool::sys::lease::{AppendLease, ReadLease, SlotTable};
use larder_pool::sys::space::{Extent, Space};
use larder_pool::table::{home_slot, slot_of};
use larder_pool::transfer::MoveError;
use larder_pool::units::{BlockId, SLICE_TOKENS};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// A full slice.
#[derive(Debug)]
enum Slice {
    Resident(ReadLease),
    /// At home; on the fast tier only while it streams.
    Home,
}

#[derive(Debug, Default)]
struct LayerKv {
    full: Vec<Slice>,
    /// Slices that are appended to, in order.
    tails: Vec<AppendLease>,
}

/// See the module.
pub struct Sequence {
    layout: KvLayout,
    table: Arc<SlotTable>,
    space: Arc<Space>,
    layers: Vec<LayerKv>,
    /// Tokens appended.
    len: usize,
    /// KV blocks reserved.
    blocks: usize,
    /// Frames of the arena that KV may take.
    capacity: usize,
    /// The most that it has been.
    capacity_most: usize,
    homes: Homes,
    /// Resident slices that are being written home, oldest first.
    storing: VecDeque<SliceAt>,
    /// Resident slices that stay.
    resident: usize,
    stream: Stream,
}

impl Sequence {
    /// An empty sequence that may take `capacity` frames of the arena, `stream_frames` of them to
    /// stream what is at home.
    pub fn new(
        layout: KvLayout,
        homes: Homes,
        space: Arc<Space>,
        (capacity, stream_frames): (usize, usize),
    ) -> Self {
        let layers = (0..layout.layers).map(|_| LayerKv::default()).collect();
        Self {
            table: Arc::clone(homes.mover.table()),
            stream: Stream::new(stream_frames),
            homes,
            layout,
            space,
            layers,
            len: 0,
            blocks: 0,
            capacity,
            capacity_most: capacity,
            storing: VecDeque::new(),
            resident: 0,
        }
    }

    /// Tokens appended so far.
    pub const fn len(&self) -> usize {
        self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Time that the engine slept for slices.
    pub const fn stall(&self) -> Duration {
        self.stream.stall
    }

    /// Frames in use beside those of the stream.
    fn frames(&self) -> usize {
        let tails: usize = self.layers.iter().map(|layer| layer.tails.len()).sum();
        tails + self.resident + self.storing.len()
    }

    /// Frames for everything but the stream.
    fn limit(&self) -> usize {
        self.capacity.saturating_sub(self.stream.frames())
    }

    /// Slices that may stay: what is left beside two sets of tails and the stream.
    fn may_stay(&self) -> usize {
        if self.homes.list.is_empty() || self.stream.frames() == 0 {
            usize::MAX
        } else {
            self.limit().saturating_sub(2 * self.layout.layers)
        }
    }

    /// KV blocks reserved.
    pub const fn blocks(&self) -> usize {
        self.blocks
    }

    /// Says how many frames KV may take from now on, and how many steps are certain to come;
    /// between two steps.
    pub fn plan(&mut self, capacity: usize, steps: u64) -> Result<(), KvError> {
        self.stream.steps = steps;
        self.capacity = capacity;
        self.capacity_most = self.capacity_most.max(capacity);
        self.harvest();
        while self.frames() > self.limit() {
            self.make_room()?;
        }
        Ok(())
    }

    /// Reserves slices for `tokens` tokens in all; between two steps.
    pub fn reserve(&mut self, tokens: usize) -> Result<(), KvError> {
        while self.blocks < self.layout.blocks_for(tokens) {
            for layer in 0..self.layout.layers {
                let at = SliceAt {
                    layer,
                    block: self.blocks,
                };
                self.harvest();
                while self.frames() >= self.limit() {
                    self.make_room()?;
                }
                let extent = self.frame(self.blocks + 1)?;
                let slot = slot_of(self.layout.slice(at));
                let tail = self.table.begin_append(slot, extent);
                self.layers[layer]
                    .tails
                    .push(tail.expect("a new slice has an absent slot"));
            }
            self.blocks += 1;
        }
        Ok(())
    }

    /// Memory for one more slice of `blocks` blocks, which the counts allow. What a failed move
    /// still holds is waited for.
    fn frame(&self, blocks: usize) -> Result<Extent, KvError> {
        let (bytes, floor) = (self.layout.slice_bytes, self.floor(blocks));
        let found = given_back(&self.homes.mover, || above(floor, &self.space, bytes));
        found.ok_or(KvError::Full { bytes })
    }

    /// Where the end of the arena begins that KV of `blocks` blocks may take.
    fn floor(&self, blocks: usize) -> u64 {
        let frames = (blocks * self.layout.layers).min(self.capacity_most) as u64;
        let bytes = frames * self.layout.frame_bytes();
        self.space.len().saturating_sub(bytes)
    }

    /// Drops the resident copies of slices that have come home.
    fn harvest(&mut self) {
        while let Some(&at) = self.storing.front() {
            if !self.homes.has(self.layout.slice(at)) {
                break;
            }
            self.storing.pop_front();
            self.drop_resident(at);
        }
    }

    fn drop_resident(&mut self, at: SliceAt) {
        self.layers[at.layer].full[at.block] = Slice::Home;
        let slot = slot_of(self.layout.slice(at));
        let extent = self.table.evict(slot);
        assert!(extent.is_some(), "nobody reads a slice between steps");
    }

    /// Makes a frame free, or at least starts to.
    fn make_room(&mut self) -> Result<(), KvError> {
        if let Some(at) = self.storing.pop_front() {
            let block = self.layout.slice(at);
            let home = self.homes.of(block);
            let Some(home) = home else {
                // It was lost while the slice was on its way.
                self.resident += 1;
                return self.send_home(at);
            };
            match self.homes.wait(block) {
                Ok(()) => self.drop_resident(at),
                // Nothing is gone yet: the slice is here, and goes elsewhere.
                Err(error) if error.is_lost() => {
                    self.homes.lose(home);
                    self.resident += 1;
                    self.send_home(at)?;
                }
                // The tier takes no more; there may be another one, or room after all.
                Err(error) if error.is_capacity() => {
                    self.resident += 1;
                    self.send_home(at)?;
                }
                Err(error) => {
                    self.resident += 1;
                    return Err(error.into());
                }
            }
            return Ok(());
        }
        // The newest slice leaves: those that stay keep the order of the arena.
        match self.newest_resident() {
            Some(at) => self.send_home(at),
            None => Err(self.full_error()),
        }
    }

    /// KV of this sequence is gone.
    fn lost(&self, home: &str, cause: &str) -> KvError {
        KvError::Lost {
            tokens: self.len,
            home: home.to_owned(),
            cause: cause.to_owned(),
        }
    }

    /// A slice did not come from home `home`, which is unknown if the home was lost between steps.
    /// From a home that is gone nothing more is asked.
    fn failed(&self, home: Option<usize>, error: MoveError) -> KvError {
        let is_gone = |home: usize| error.is_lost() || self.homes.is_lost(home);
        let name = match home {
            None => "its home",
            Some(home) if is_gone(home) => {
                self.homes.lose(home);
                &self.homes.list[home].name
            }
            Some(home) if error.is_damage() => &self.homes.list[home].name,
            Some(_) => return error.into(),
        };
        self.lost(name, &error.to_string())
    }

    fn full_error(&self) -> KvError {
        let bytes = self.layout.slice_bytes;
        if self.homes.list.is_empty() {
            KvError::Full { bytes }
        } else {
            let homes = self.homes.names();
            KvError::HomesFull { bytes, homes }
        }
    }

    fn newest_resident(&self) -> Option<SliceAt> {
        let last = self.layers.iter().map(|layer| layer.full.len()).max()?;
        let newest_first = (0..last)
            .rev()
            .flat_map(|block| (0..self.layout.layers).map(move |layer| SliceAt { layer, block }));
        newest_first.into_iter().find(|at| {
            let slice = self.layers[at.layer].full.get(at.block);
            matches!(slice, Some(Slice::Resident(_))) && !self.storing.contains(at)
        })
    }

    /// Starts to write home a slice that was to stay.
    fn send_home(&mut self, at: SliceAt) -> Result<(), KvError> {
        let block = self.layout.slice(at);
        let Slice::Resident(lease) = &self.layers[at.layer].full[at.block] else {
            unreachable!("only a resident slice is written home");
        };
        let bytes = self.layout.slice_bytes;
        // One that has streamed and stayed since is at home already.
        if self.homes.of(block).is_none() && !self.homes.store(block, lease, bytes) {
            return Err(self.full_error());
        }
        self.resident -= 1;
        self.storing.push_back(at);
        Ok(())
    }

    /// Full slices of a layer.
    pub fn full(&self, layer: usize) -> usize {
        self.layers[layer].full.len()
    }

    /// Pins a slice that is resident; `None` if it streams.
    pub fn resident(&self, at: SliceAt) -> Option<ReadLease> {
        match &self.layers[at.layer].full[at.block] {
            Slice::Resident(lease) => Some(lease.clone()),
            Slice::Home => None,
        }
    }

    /// Pins the next slice that streams, sleeping until it is there; `None` if every frame of the
    /// stream is in use: finish an operation, say so, ask again.
    pub fn streamed(&mut self, at: SliceAt) -> Result<Option<ReadLease>, KvError> {
        if !self.stream.is_next(at) {
            // What did not come is asked for again, or found to be lost.
            let _ = self.stream.clear(&self.homes, &self.layout);
            self.stream.look_from(at);
        }
        self.stream_ahead()?;
        if !self.stream.is_next(at) {
            return Ok(None);
        }
        let block = self.layout.slice(at);
        let home = self.homes.readable(block);
        let bytes = self.layout.slice_bytes;
        let floor = self.floor(self.blocks);
        let again = || given_back(&self.homes.mover, || above(floor, &self.space, bytes));
        match self.stream.lease(&self.homes, &self.layout, at, again) {
            Ok(lease) => Ok(Some(lease)),
            Err(error) => Err(self.failed(home, error)),
        }
    }

    /// The operation on the oldest streamed slice has completed: it stays if there is room, else
    /// its frame goes to the next one.
    pub fn stream_done(&mut self, at: SliceAt) -> Result<(), KvError> {
        self.stream.pop(at);
        let slot = slot_of(self.layout.slice(at));
        if self.resident < self.may_stay() && self.frames() < self.limit() {
            let lease = self.table.pin(slot).expect("a leased slice is ready");
            self.layers[at.layer].full[at.block] = Slice::Resident(lease);
            self.resident += 1;
        } else if !self.stream.holds(at) {
            let extent = self.table.evict(slot);
            assert!(extent.is_some(), "nobody else reads a streamed slice");
        }
        self.stream_ahead()
    }

    /// Asks for the slices that stream next, while there are frames.
    fn stream_ahead(&mut self) -> Result<(), KvError> {
        while self.stream.has_room() {
            let Some(place) = self.next_to_stream() else {
                return Ok(());
            };
            if !self.homes.has(self.layout.slice(place.at)) {
                return Err(self.lost("its home", "it was lost before"));
            }
            let extent = self.frame(self.blocks)?;
            self.stream.ask(&self.homes, &self.layout, place, extent);
        }
        Ok(())
    }

    /// The slice that streams behind the last one asked for, in the order of the steps.
    fn next_to_stream(&self) -> Option<Place> {
        let from = self.stream.behind();
        let found = self.first_at_home(from).or_else(|| {
            let next = self.stream.next_step()?;
            self.first_at_home(next)
        });
        // One that is in a frame for this step already waits for its turn.
        found.filter(|place| !self.stream.holds(place.at))
    }

    /// The first slice at home of a step, from a place in it on.
    fn first_at_home(&self, from: Place) -> Option<Place> {
        let of_layer = |layer: usize, first: usize| {
            let full = self.layers[layer].full.iter().enumerate().skip(first);
            let mut homes = full.filter(|(_, slice)| matches!(slice, Slice::Home));
            homes.next().map(|(block, _)| SliceAt { layer, block })
        };
        let at = of_layer(from.at.layer, from.at.block).or_else(|| {
            let mut later = from.at.layer + 1..self.layout.layers;
            later.find_map(|layer| of_layer(layer, 0))
        })?;
        Some(Place { at, ..from })
    }

    /// Takes a block that is at home `n` already: its slices, one per layer, behind those so far.
    /// `false` if they do not fit this model.
    pub fn adopt(&mut self, n: usize, records: Vec<KeptRecord>) -> bool {
        let fits = |record: &KeptRecord| record.data_bytes() == self.layout.slice_bytes;
        if records.len() != self.layout.layers || !records.iter().all(fits) {
            return false;
        }
        let block = self.blocks;
        for (layer, record) in records.into_iter().enumerate() {
            let slot = home_slot(self.layout.slice(SliceAt { layer, block }), n);
            let given = record.give(&self.homes.mover, slot);
            assert!(given.is_ok(), "a new slice has an absent slot");
            self.layers[layer].full.push(Slice::Home);
        }
        self.blocks += 1;
        self.len += SLICE_TOKENS;
        true
    }

    /// Takes the first `blocks` blocks out, as far as home `n` has room for them and `bytes` more
    /// bytes written there suffice: the slices of each, one per layer. The sequence ends with it.
    pub fn park(mut self, n: usize, blocks: usize, bytes: u64) -> Vec<Vec<KeptRecord>> {
        let mut parked = Vec::new();
        let mut writes = bytes / self.layout.slice_bytes;
        if self.stream.clear(&self.homes, &self.layout).is_err() {
            return parked;
        }
        for block in 0..blocks.min(self.full(0)) {
            let ids: Vec<BlockId> = (0..self.layout.layers)
                .map(|layer| self.layout.slice(SliceAt { layer, block }))
                .collect();
            for (layer, &id) in ids.iter().enumerate() {
                if let Slice::Resident(lease) = &self.layers[layer].full[block]
                    && self.homes.of(id).is_none()
                    && writes > 0
                {
                    writes -= 1;
                    self.homes.store_at(n, id, lease, self.layout.slice_bytes);
                }
            }
            let at_home =
                |id: &BlockId| self.homes.of(*id) == Some(n) && self.homes.wait(*id).is_ok();
            if !ids.iter().all(at_home) {
                break;
            }
            let mover = &self.homes.mover;
            let records = ids
                .iter()
                .map(|&id| KeptRecord::take(mover, home_slot(id, n)));
            let Some(records) = records.collect() else {
                break;
            };
            parked.push(records);
        }
        parked
    }

    /// Takes the tails of a layer for an attention; [`Self::take_back`] returns them.
    pub fn lend_tails(&mut self, layer: usize) -> Vec<AppendLease> {
        std::mem::take(&mut self.layers[layer].tails)
    }

    /// Takes the tails back when the attention has completed.
    pub fn take_back(&mut self, layer: usize, tails: Vec<AppendLease>) {
        self.layers[layer].tails = tails;
    }

    /// `tokens` more have been appended on every layer: publishes the slices that are full now,
    /// and sends home those that cannot stay.
    pub fn advance(&mut self, tokens: usize) {
        self.len += tokens;
        let full = self.len / SLICE_TOKENS;
        for layer in 0..self.layout.layers {
            while self.layers[layer].full.len() < full {
                let block = self.layers[layer].full.len();
                let tail = self.layers[layer].tails.remove(0);
                let slot = tail.slot();
                tail.publish(self.layout.slice_bytes);
                let lease = self.table.pin(slot).expect("published just now");
                self.layers[layer].full.push(Slice::Resident(lease));
                self.resident += 1;
                if self.resident > self.may_stay() {
                    // It stays as long as it can if no home takes it.
                    let _ = self.send_home(SliceAt { layer, block });
                }
            }
        }
        self.stream.end_step();
        self.harvest();
    }
}

/// Memory for a slice of `bytes` bytes; what lies below `floor` is the weights'.
fn above(floor: u64, space: &Arc<Space>, bytes: u64) -> Option<Extent> {
    let extent = space.alloc_high(bytes)?;
    (extent.start() >= floor).then_some(extent)
}

impl Drop for Sequence {
    /// Frees every slice: nobody else reads them.
    fn drop(&mut self) {
        // A slice that failed to come is gone already.
        self.stream.abandon(&self.homes, &self.layout);
        for (layer, slices) in self.layers.drain(..).enumerate() {
            for (block, slice) in slices.full.into_iter().enumerate() {
                let id = self.layout.slice(SliceAt { layer, block });
                self.homes.free(id);
                if let Slice::Resident(lease) = slice {
                    drop(lease);
                    drop(self.table.evict(slot_of(id)));
                }
            }
        }
    }
}
