//! Who gets which bytes of the fast tier: the one budget for weights, KV and work buffers.
//!
//! ```text
//! 0           work                fixed                                    border          end
//! | work area | ring of frames    | fixed blocks by rank ->    | (prefill) | <- KV frames  |
//! ```
//!
//! Each block has a rank and a fixed address: the sum of the sizes of the ranks before it. Ranks
//! follow the radical inverse of the block's place in the step, so that any prefix of the ranks
//! is spread evenly over the step. The border can move: the blocks that fit below it are the fixed
//! set, the others stream through the ring. Nothing is ever compacted, and no hole is lost.
//!
//! A model with experts keeps its other blocks first: they are fixed up to a limit, all of them if
//! that leaves room for a token's picks and the KV that cannot be elsewhere, and equal frames for
//! experts fill what is left up to the border. KV drives experts out, never those blocks.

mod held;

use crate::backend::work::WorkShape;
use crate::kv::KvLayout;
use larder_pool::units::{BlockId, GRANULE, SLICE_TOKENS};

/// Rows of the permanent work area.
pub const BASE_ROWS: usize = 4;
/// Rows of one prefill pass, at most.
const PREFILL_ROWS_MAX: usize = 4096;
/// Rows of one prefill pass when every weight is resident: more would only take memory, fewer
/// would leave the kernels idle.
const RESIDENT_ROWS: usize = 512;
const RESIDENT_ROWS_MIN: usize = 64;
/// Frames of a ring: no fewer, and more only up to this many bytes.
const FRAMES_MIN: u64 = 2;
const FRAMES_GOOD: u64 = 3;
const RING_BYTES: u64 = 24 << 20;
/// Share of the budget that the ring may take beyond its minimum.
const RING_SHARE: u64 = 8;
/// Frames in which KV slices stream: no fewer, and more only up to this many bytes.
const STREAM_MIN: u64 = 2;
const STREAM_BYTES: u64 = 8 << 20;
/// Rows of embeddings gathered by one batch of reads.
const GATHER_ROWS: usize = 64;

/// What a model needs, in bytes.
#[derive(Clone, Debug)]
pub struct Needs {
    /// Extent of each block that every step reads, in step order.
    pub blocks: Vec<u64>,
    pub experts: Option<ExpertNeeds>,
    pub work: WorkShape,
    pub kv: KvLayout,
    /// There is a lower tier for KV.
    pub kv_has_home: bool,
    /// The budget may shrink, so there is a ring even where everything fits: memory that nobody
    /// touches costs nothing.
    pub keeps_ring: bool,
    /// Every block can be read in place outside the fast tier: none streams.
    pub is_placed: bool,
    /// Longest context, in tokens.
    pub context: usize,
    /// Bytes of one embedding row.
    pub embedding_row: u64,
}

/// Experts of a model.
#[derive(Clone, Copy, Debug)]
pub struct ExpertNeeds {
    /// Experts of all layers.
    pub count: usize,
    /// Experts that a token picks in a layer.
    pub picked: usize,
    /// Bytes of the largest one on the fast tier.
    pub frame_bytes: u64,
}

impl ExpertNeeds {
    const fn bytes(&self) -> u64 {
        self.count as u64 * self.frame_bytes
    }

    /// The fewest frames that work.
    fn least_bytes(&self) -> u64 {
        FRAMES_MIN.min(self.count as u64) * self.frame_bytes
    }

    /// Frames that let the picks of a token arrive together.
    fn good_bytes(&self) -> u64 {
        self.picked as u64 * self.frame_bytes
    }
}

/// Where the frames of experts are: from `start` up to the border.
#[derive(Clone, Copy, Debug)]
pub struct ExpertArea {
    pub start: u64,
    pub frame_bytes: u64,
}

impl ExpertArea {
    /// First byte of a frame.
    pub const fn frame_start(&self, frame: usize) -> u64 {
        self.start + frame as u64 * self.frame_bytes
    }

    /// Whole frames below `border`.
    pub const fn frames_below(&self, border: u64) -> usize {
        (border.saturating_sub(self.start) / self.frame_bytes) as usize
    }
}

/// The budget does not suffice.
#[derive(Debug, thiserror::Error)]
#[error(
    "--fast {budget} is too small: this model with this context needs at least {min_fast_bytes} bytes"
)]
pub struct TooSmall {
    pub budget: u64,
    pub min_fast_bytes: u64,
}

/// See the module. All addresses and sizes are whole granules.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Bytes of the arena.
    pub space_bytes: u64,
    pub frames: u64,
    pub frame_bytes: u64,
    /// Where the ring starts.
    pub ring_start: u64,
    /// Fixed address of each block.
    pub addresses: Vec<u64>,
    /// Block indices by rank.
    pub ranks: Vec<u32>,
    /// Where experts go; `None` for a dense model.
    pub experts: Option<ExpertArea>,
    needs: Needs,
    fixed_start: u64,
    /// The fixed set ends here at the latest.
    fixed_limit: u64,
    /// Bytes between weights and KV that nobody may have for now.
    held_back: u64,
}

impl Needs {
    fn frame_bytes(&self) -> u64 {
        self.blocks.iter().copied().max().unwrap_or(0)
    }

    /// Bytes of the blocks that every step reads.
    fn dense_bytes(&self) -> u64 {
        self.blocks.iter().sum()
    }

    fn expert_bytes(&self) -> u64 {
        self.experts.map_or(0, |experts| experts.bytes())
    }

    fn expert_least(&self) -> u64 {
        self.experts.map_or(0, |experts| experts.least_bytes())
    }

    pub fn weight_bytes(&self) -> u64 {
        self.dense_bytes() + self.expert_bytes()
    }

    /// Rows of embeddings that are gathered at once by a step of `rows` rows.
    pub fn gather_rows(rows: usize) -> usize {
        rows.min(GATHER_ROWS)
    }

    /// Bytes to gather `rows` rows of embeddings wherever they stand in their pages.
    pub fn gather_bytes(&self, rows: usize) -> u64 {
        let row = (self.embedding_row + GRANULE - 1).next_multiple_of(GRANULE);
        row * Self::gather_rows(rows) as u64
    }

    /// Work buffers and gathered rows of a step.
    pub fn work_bytes(&self, rows: usize, logits: usize) -> u64 {
        self.work.bytes(rows, logits) + self.gather_bytes(rows)
    }

    fn kv_bytes(&self) -> u64 {
        self.kv.bytes_for(self.context)
    }

    /// KV that must be on the fast tier: the whole context, or, where it has another home, the
    /// slices that are appended to and two that stream.
    fn kv_least(&self) -> u64 {
        if self.kv_has_home {
            self.tails_bytes(BASE_ROWS).min(self.kv_bytes())
        } else {
            self.kv_bytes()
        }
    }

    /// Slices that a step of `rows` rows appends to. Steps of the permanent work area never cross
    /// a border between slices.
    fn tails(&self, rows: usize) -> usize {
        let blocks = if rows <= BASE_ROWS {
            1
        } else {
            self.kv.blocks_for(rows + SLICE_TOKENS - 1)
        };
        blocks * self.kv.layers
    }

    /// Bytes of those, and of the slices that stream meanwhile.
    fn tails_bytes(&self, rows: usize) -> u64 {
        (self.tails(rows) as u64 + STREAM_MIN) * self.kv.frame_bytes()
    }

    /// Smallest budget that works: work area, two frames (and two of experts), and the KV that
    /// cannot be elsewhere.
    pub fn min_fast_bytes(&self) -> u64 {
        let weights = (FRAMES_MIN * self.frame_bytes()).min(self.dense_bytes());
        self.work_bytes(BASE_ROWS, BASE_ROWS) + weights + self.expert_least() + self.kv_least()
    }

    /// Bytes with which nothing ever moves twice.
    pub fn max_useful_bytes(&self) -> u64 {
        let rows = RESIDENT_ROWS.min(self.context);
        self.work_bytes(BASE_ROWS, BASE_ROWS)
            + self.work_bytes(rows, rows)
            + self.weight_bytes()
            + self.kv_bytes()
    }
}

impl Layout {
    /// Divides `budget` bytes.
    pub fn new(needs: Needs, budget: u64) -> Result<Self, TooSmall> {
        let min_fast_bytes = needs.min_fast_bytes();
        if budget < min_fast_bytes {
            return Err(TooSmall {
                budget,
                min_fast_bytes,
            });
        }
        let budget = budget / GRANULE * GRANULE;
        let mut space_bytes = budget.min(needs.max_useful_bytes());
        let ring_start = needs.work_bytes(BASE_ROWS, BASE_ROWS);
        let frame_bytes = needs.frame_bytes();
        let keeps_ring = needs.keeps_ring && needs.experts.is_none() && !needs.is_placed;
        if keeps_ring {
            let ring = frames(&needs, space_bytes, frame_bytes) * frame_bytes;
            space_bytes = budget.min(needs.max_useful_bytes() + ring);
        }
        let rows = RESIDENT_ROWS_MIN.min(needs.context);
        let beside = needs.kv_bytes() + needs.work_bytes(rows, rows);
        let streams = match needs.experts {
            None if needs.is_placed => false,
            None => keeps_ring || ring_start + needs.dense_bytes() + beside > space_bytes,
            Some(experts) => {
                let experts = experts.good_bytes().min(experts.bytes());
                let least = needs.kv_least() + experts;
                ring_start + needs.dense_bytes() + least > space_bytes
            }
        };
        let frames = if streams {
            frames(&needs, space_bytes, frame_bytes)
        } else {
            0
        };
        let fixed_start = ring_start + frames * frame_bytes;
        let ranks = ranks(needs.blocks.len());
        let mut addresses = vec![0; needs.blocks.len()];
        let mut next = fixed_start;
        for &block in &ranks {
            addresses[block as usize] = next;
            next += needs.blocks[block as usize];
        }
        let mut layout = Self {
            space_bytes,
            frames,
            frame_bytes,
            ring_start,
            addresses,
            ranks,
            experts: None,
            needs,
            fixed_start,
            fixed_limit: u64::MAX,
            held_back: 0,
        };
        layout.place_experts();
        Ok(layout)
    }

    /// Puts the experts behind the fixed blocks: behind all of them, or behind as many as leave
    /// the picks of a token some room, and a quarter of the budget at most.
    fn place_experts(&mut self) {
        let Some(experts) = self.needs.experts else {
            return;
        };
        let end = self.fixed_start + self.needs.dense_bytes();
        self.fixed_limit = if self.frames == 0 {
            end
        } else {
            let good = experts.good_bytes().min(self.space_bytes / 4);
            let beside = self.needs.kv_least() + self.fixed_start;
            let room = self.space_bytes.saturating_sub(beside);
            let least = good.clamp(experts.least_bytes(), room.max(experts.least_bytes()));
            let limit = self.fixed_start + room.saturating_sub(least);
            self.fixed_start + self.fixed_bytes(limit)
        };
        self.experts = Some(ExpertArea {
            start: self.fixed_limit.min(end),
            frame_bytes: experts.frame_bytes,
        });
    }

    pub fn needs(&self) -> &Needs {
        &self.needs
    }

    /// Block `index` is in the fixed set while fixed blocks may reach up to `border`.
    pub fn is_fixed(&self, index: usize, border: u64) -> bool {
        self.addresses[index] + self.needs.blocks[index] <= border.min(self.fixed_limit)
    }

    /// Blocks that stream when KV is at its longest, in the order of their use, then the experts.
    pub fn streamed(&self) -> impl Iterator<Item = BlockId> {
        let border = self.kv_border(self.needs.context, 0);
        let dense = (0..self.needs.blocks.len()).filter(move |&at| !self.is_fixed(at, border));
        let first = self.needs.blocks.len();
        let experts = self.needs.experts.map_or(0, |experts| experts.count);
        dense
            .chain(first..first + experts)
            .map(|index| BlockId::new(index as u32))
    }

    /// The block is in the fixed set of an empty text.
    pub fn stays_at_first(&self, block: BlockId) -> bool {
        let is_dense = block.index() < self.needs.blocks.len();
        is_dense && self.is_fixed(block.index(), self.kv_border(0, 0))
    }

    /// Bytes of the fixed set below `border`.
    pub fn fixed_bytes(&self, border: u64) -> u64 {
        self.needs
            .blocks
            .iter()
            .enumerate()
            .filter(|&(index, _)| self.is_fixed(index, border))
            .map(|(_, bytes)| bytes)
            .sum()
    }

    /// Where KV may reach down to, with `work` bytes of prefill buffers below it.
    fn kv_floor(&self, work: u64) -> u64 {
        let weights = match self.experts {
            None => self.fixed_start,
            Some(area) => area.start + self.needs.expert_least(),
        };
        weights + work
    }

    /// Slices that fit above `work` bytes of prefill buffers.
    pub fn kv_frames(&self, work: u64) -> usize {
        // KV that has no home stays: what is held back is the weights' alone.
        let held = if self.needs.kv_has_home {
            self.held_back
        } else {
            0
        };
        let room = self.space_bytes.saturating_sub(self.kv_floor(work) + held);
        (room / self.needs.kv.frame_bytes()) as usize
    }

    /// Bytes that KV of `tokens` tokens takes, with `work` bytes of prefill buffers below it.
    fn kv_here(&self, tokens: usize, work: u64) -> u64 {
        let most = self.kv_frames(work) as u64 * self.needs.kv.frame_bytes();
        self.needs.kv.bytes_for(tokens).min(most)
    }

    /// Frames in which slices stream if KV takes `frames` frames and steps have `rows` rows at
    /// most: enough to keep a link busy, an eighth at most, and what the tails leave.
    pub fn stream_frames(&self, frames: usize, rows: usize) -> usize {
        let good = (STREAM_BYTES / self.needs.kv.frame_bytes()) as usize;
        let left = frames.saturating_sub(self.needs.tails(rows));
        good.min(frames / 8).min(left).max(STREAM_MIN as usize)
    }

    /// Where KV of `tokens` tokens, and what is held back below it, ends, coming from the top, with
    /// `work` bytes of prefill buffers below that.
    pub fn kv_border(&self, tokens: usize, work: u64) -> u64 {
        let kv = self.space_bytes - self.kv_here(tokens, work);
        let held = kv.saturating_sub(self.held_back);
        held.max(self.kv_floor(work)).min(kv)
    }

    /// Every block is on the fast tier, or nothing works: there is no ring, and none is placed.
    pub const fn all_stay(&self) -> bool {
        self.frames == 0 && self.experts.is_none() && !self.needs.is_placed
    }

    /// Rows of each prefill pass over a prompt of `tokens` tokens: those that bring the fewest
    /// bytes in. `logits` rows per pass are wanted at most.
    pub fn prefill_rows(&self, tokens: usize, logits: usize) -> usize {
        let weights = self.needs.weight_bytes();
        let kv = self.needs.kv.bytes_for(tokens);
        // Fixed blocks of a model with experts do not make room for the rows.
        let kept = match self.experts {
            None => 0,
            Some(area) => area.start - self.fixed_start,
        };
        let bytes = |rows: usize, work: u64| {
            let passes = tokens.div_ceil(rows) as u64;
            let least = if self.needs.kv_has_home {
                let stream = STREAM_MIN * self.needs.kv.frame_bytes();
                (kv + stream).min(self.needs.tails_bytes(rows))
            } else {
                kv
            };
            if self.kv_floor(work) + least > self.space_bytes - self.held_back {
                return None;
            }
            let border = self.kv_border(tokens, work) - work;
            let resident = (border - self.fixed_start).max(kept).min(weights);
            if self.all_stay() && resident < weights {
                return None;
            }
            let away = kv - self.kv_here(tokens, work);
            Some(weights + (passes - 1) * (weights - resident) + passes * away / 2)
        };
        let cost = |rows: usize| bytes(rows, self.needs.work_bytes(rows, logits.min(rows)));
        let free = self.kv_border(tokens, 0) - self.fixed_start;
        let may_stay = self.frames == 0 || self.needs.keeps_ring;
        let most = if self.needs.is_placed || (may_stay && free >= weights) {
            RESIDENT_ROWS
        } else {
            PREFILL_ROWS_MAX
        };
        let base = BASE_ROWS.min(tokens);
        // The permanent work area needs nothing more, but takes a pass per few rows.
        let base_cost = bytes(base, 0).unwrap_or(u64::MAX);
        let candidates = (1..=tokens.div_ceil(BASE_ROWS)).map(|passes| tokens.div_ceil(passes));
        candidates
            .filter(|&rows| rows > BASE_ROWS && rows <= most)
            .filter_map(|rows| cost(rows).map(|bytes| (bytes, rows)))
            .chain([(base_cost, base)])
            .min_by_key(|&(bytes, rows)| (bytes, std::cmp::Reverse(rows)))
            .map_or(base, |(_, rows)| rows)
    }
}

fn frames(needs: &Needs, space_bytes: u64, frame_bytes: u64) -> u64 {
    let least = FRAMES_MIN.min(needs.blocks.len() as u64);
    let good = FRAMES_GOOD.max(RING_BYTES / frame_bytes.max(1));
    let spare = space_bytes - needs.min_fast_bytes();
    let share = (space_bytes / RING_SHARE).min(least * frame_bytes + spare);
    good.min(share / frame_bytes.max(1))
        .max(least)
        .min(needs.blocks.len() as u64)
}

/// Indices 0..count, ordered by the radical inverse in base 2.
///
/// Source: van der Corput, 1935. Every prefix is spread evenly.
fn ranks(count: usize) -> Vec<u32> {
    let bits = usize::BITS - count.max(1).next_power_of_two().leading_zeros() - 1;
    (0..1u64 << bits)
        .map(|index| {
            if bits == 0 {
                0
            } else {
                index.reverse_bits() >> (64 - bits)
            }
        })
        .filter(|&place| place < count as u64)
        .map(|place| place as u32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(blocks: Vec<u64>) -> Needs {
        Needs {
            blocks,
            experts: None,
            kv_has_home: false,
            keeps_ring: false,
            is_placed: false,
            work: WorkShape::dense(64, 64, 32, 128, 512, 4, 128),
            kv: KvLayout {
                layers: 2,
                slice_bytes: 16_384,
                first_block: 0,
            },
            context: 256,
            embedding_row: 256,
        }
    }

    #[test]
    fn every_prefix_of_the_ranks_is_spread_evenly() {
        for count in [1usize, 2, 3, 7, 64, 100, 257] {
            let order = ranks(count);
            let mut seen = order.clone();
            seen.sort_unstable();
            assert_eq!(seen, (0..count as u32).collect::<Vec<_>>());
            let half = count / 2;
            let mut prefix = order[..half].to_vec();
            prefix.sort_unstable();
            let widest = prefix
                .windows(2)
                .map(|pair| pair[1] - pair[0])
                .max()
                .unwrap_or(0);
            assert!(widest <= 4, "{count}: gap of {widest}");
        }
    }

    #[test]
    fn the_smallest_budget_works_and_one_byte_less_does_not() {
        let needs = needs(vec![32_768; 40]);
        let least = needs.min_fast_bytes();
        let layout = Layout::new(needs.clone(), least).expect("the smallest that works");
        assert_eq!(layout.frames, 2);
        assert_eq!(layout.fixed_bytes(layout.kv_border(256, 0)), 0);
        let error = Layout::new(needs, least - 1).expect_err("too small");
        assert!(error.to_string().contains(&least.to_string()));
    }

    #[test]
    fn a_budget_for_everything_has_no_ring_and_fixes_everything() {
        let needs = needs(vec![32_768; 40]);
        let layout = Layout::new(needs.clone(), 1 << 40).expect("plenty");
        assert_eq!(
            (layout.frames, layout.space_bytes),
            (0, needs.max_useful_bytes())
        );
        let border = layout.kv_border(256, 0);
        assert_eq!(layout.fixed_bytes(border), needs.weight_bytes());
        let rows = layout.prefill_rows(256, 1);
        assert_eq!(rows, 256);
    }

    #[test]
    fn the_fixed_set_shrinks_as_kv_grows_and_never_meets_it() {
        let needs = needs((0..60).map(|i| 16_384 + i % 3 * 4096).collect());
        let layout = Layout::new(needs.clone(), 1_200_000).expect("enough");
        let mut before = u64::MAX;
        for tokens in (0..=256).step_by(64) {
            let border = layout.kv_border(tokens, 0);
            let fixed = layout.fixed_bytes(border);
            assert!(fixed <= before && fixed < needs.weight_bytes());
            assert!(layout.fixed_start + fixed <= border);
            assert!(
                border - layout.fixed_start - fixed <= 24_576,
                "all but one block is used"
            );
            before = fixed;
        }
    }

    #[test]
    fn prefill_takes_one_pass_when_its_activations_fit() {
        let needs = needs(vec![1 << 20; 40]);
        let layout = Layout::new(needs.clone(), 20 << 20).expect("enough");
        assert_eq!(layout.prefill_rows(200, 1), 200);
        assert_eq!(layout.prefill_rows(3, 1), 3);
        let tight = Layout::new(needs.clone(), needs.min_fast_bytes()).expect("the least");
        assert_eq!(tight.prefill_rows(200, 1), BASE_ROWS);
    }
}
