//! A request: dozens of steps over the real stager and the real KV, each byte compared.

use crate::world::World;
use larder::kv::{KvError, Sequence, SliceAt};
use larder::stager::{NextExpert, Passes};
use larder_pool::sim::SplitMix;
use larder_pool::sys::lease::ReadLease;
use larder_pool::units::{BlockId, SLICE_TOKENS};
use std::collections::VecDeque;
use std::sync::Arc;

/// What the bytes of a slice stand for.
#[derive(Clone, Copy)]
struct Text {
    number: u64,
    per_token: usize,
}

impl Text {
    /// Bytes of a token in a layer.
    fn fill(self, layer: usize, token: usize, bytes: &mut [u8]) {
        let mut random = SplitMix(self.number << 40 ^ (layer as u64) << 32 ^ token as u64);
        for chunk in bytes.chunks_mut(64) {
            chunk.fill(random.next_u64() as u8);
        }
    }

    /// What has been appended is there, in the slice of `block`, for `tokens` tokens of it.
    fn check(self, at: SliceAt, tokens: usize, bytes: &[u8]) {
        let mut expected = vec![0; self.per_token];
        for index in 0..tokens {
            let token = at.block * SLICE_TOKENS + index;
            self.fill(at.layer, token, &mut expected);
            let found = &bytes[index * self.per_token..][..self.per_token];
            assert!(found == expected, "wrong bytes: token {token} of {at:?}");
        }
    }
}

/// A request under way.
pub(crate) struct Request {
    sequence: Sequence,
    text: Text,
    tokens: usize,
}

impl Request {
    /// A request that will have `tokens` tokens.
    pub(crate) fn start(world: &mut World<'_>, number: u64, tokens: usize) -> Self {
        let kv = world.layout.needs().kv.clone();
        let frames = world.layout.kv_frames(0);
        let stays = kv.blocks_for(tokens) * kv.layers <= frames;
        let stream = if stays {
            0
        } else {
            world.layout.stream_frames(frames, 4)
        };
        let per_token = kv.slice_bytes as usize / SLICE_TOKENS;
        let space = Arc::clone(&world.space);
        let homes = world.homes.clone();
        Self {
            sequence: Sequence::new(kv, homes, space, (frames, stream)),
            text: Text { number, per_token },
            tokens,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.sequence.len() == self.tokens
    }

    /// Says what comes: the weights give way to the KV where they must.
    pub(crate) fn begin(&mut self, world: &mut World<'_>) -> Result<(), KvError> {
        world.set_border(1)?;
        let frames = world.layout.kv_frames(0);
        self.sequence.plan(frames, self.tokens as u64)?;
        let full = self.tokens as u64;
        world.stager.expect(Passes { body: 0, full })?;
        Ok(())
    }

    /// One step of up to 64 tokens, which never crosses a border between slices.
    pub(crate) fn step(&mut self, world: &mut World<'_>) -> Result<(), KvError> {
        let len = self.sequence.len();
        let to_border = SLICE_TOKENS - len % SLICE_TOKENS;
        let most = to_border.min(self.tokens - len) as u64;
        let count = 1 + world.dice.below(most) as usize;
        let needed = world.layout.needs().kv.blocks_for(len + count);
        if self.sequence.blocks() < needed {
            world.set_border(len + count)?;
            self.sequence.reserve(len + count)?;
        }
        world.stager.supply().look_after();
        let mut pending = VecDeque::new();
        let program = world.model.manifest.program.clone();
        for (layer, blocks) in program.layers.iter().enumerate() {
            for block in blocks.attention.start..blocks.down.end {
                dense(world, &mut pending, block as usize)?;
                if block + 1 == blocks.attention.end {
                    self.attend(world, layer, count)?;
                }
            }
            if program.experts > 0 {
                experts(world, &mut pending, layer)?;
            }
        }
        for block in program.head {
            dense(world, &mut pending, block as usize)?;
        }
        while let Some((block, lease)) = pending.pop_front() {
            drop(lease);
            world.stager.done(block)?;
        }
        self.sequence.advance(count);
        world.stager.end_pass()?;
        world.timeline.note(world.now());
        Ok(())
    }

    /// Looks at every slice of a layer, then appends to its tail.
    fn attend(&mut self, world: &mut World<'_>, layer: usize, count: usize) -> Result<(), KvError> {
        let full = self.sequence.full(layer);
        for block in 0..full {
            let at = SliceAt { layer, block };
            world.timeline.mark();
            if let Some(lease) = self.sequence.resident(at) {
                self.text.check(at, SLICE_TOKENS, lease.part(0));
                continue;
            }
            let lease = self.sequence.streamed(at)?;
            let lease = lease.expect("a slice at a time leaves a frame");
            self.text.check(at, SLICE_TOKENS, lease.part(0));
            drop(lease);
            self.sequence.stream_done(at)?;
        }
        let len = self.sequence.len();
        let mut tails = self.sequence.lend_tails(layer);
        let at = SliceAt { layer, block: full };
        self.text.check(at, len % SLICE_TOKENS, tails[0].bytes());
        for token in len..len + count {
            let place = token % SLICE_TOKENS * self.text.per_token;
            let bytes = &mut tails[0].bytes_mut()[place..place + self.text.per_token];
            self.text.fill(layer, token, bytes);
        }
        self.sequence.take_back(layer, tails);
        Ok(())
    }
}

/// Operations that have been enqueued, with their leases.
type Pending = VecDeque<(BlockId, ReadLease)>;

/// Leases a block that every step reads; operations before it complete as room is needed.
fn dense(world: &mut World<'_>, pending: &mut Pending, block: usize) -> Result<(), KvError> {
    let ahead = world.stager.blocks_ahead().min(4);
    while pending.len() >= ahead.max(1) || (!pending.is_empty() && world.dice.chance(0.3)) {
        let (block, lease) = pending.pop_front().expect("not empty");
        drop(lease);
        world.stager.done(block)?;
    }
    let id = BlockId::new(block as u32);
    world.timeline.mark();
    let lease = world.stager.lease(id)?;
    check(world, block, &lease);
    pending.push_back((id, lease));
    Ok(())
}

/// Leases the experts that a layer picks, while guesses for the next one are under way.
fn experts(world: &mut World<'_>, pending: &mut Pending, layer: usize) -> Result<(), KvError> {
    let experts = world
        .model
        .manifest
        .config
        .experts
        .expect("a model with experts");
    let program = world.model.manifest.program.clone();
    let pick = |world: &mut World<'_>, layer: usize| {
        let mut picks: Vec<usize> = Vec::new();
        while picks.len() < experts.picked {
            let expert = world.dice.below(experts.count as u64) as usize;
            if !picks.contains(&expert) {
                picks.push(expert);
            }
        }
        let blocks = picks
            .into_iter()
            .map(|expert| program.expert(layer, expert));
        blocks.collect::<Vec<BlockId>>()
    };
    let picks = pick(world, layer);
    let guesses = if layer + 1 < program.layers.len() {
        pick(world, layer + 1)
    } else {
        Vec::new()
    };
    let end = program.expert(layer + 1, 0);
    world.stager.experts().0.begin(&picks, end);
    world.stager.experts().0.guess(guesses);
    loop {
        world.timeline.mark();
        let (cache, counters) = world.stager.experts();
        match cache.next(counters)? {
            NextExpert::End => return Ok(()),
            NextExpert::Leased(block, lease) => {
                check(world, block.index(), &lease);
                pending.push_back((block, lease));
            }
            NextExpert::Busy => {
                let (block, lease) = pending.pop_front().expect("an operation holds a frame");
                drop(lease);
                world.stager.done(block)?;
            }
        }
    }
}

/// Every part of a leased block is the model's.
fn check(world: &mut World<'_>, block: usize, lease: &ReadLease) {
    for part in 0..world.model.parts(block) {
        let found = lease.part(part);
        let expected = world.model.part(block, part);
        assert!(
            found == expected,
            "wrong bytes: part {part} of block {block}"
        );
        world.compared += found.len() as u64;
    }
}
