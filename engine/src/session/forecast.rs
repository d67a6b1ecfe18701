//! What a step will bring in over each path, with every block where the layout puts it.

use crate::session::Session;
use larder_pool::units::BlockId;

/// Bytes that a decode step brings in, for each path of [`Session::inward`].
#[derive(Clone, Debug)]
pub struct Forecast {
    /// Blocks of every step that do not stay, and KV that has left.
    pub streamed: Vec<f64>,
    /// Experts that are picked, as likely one as any other: what is missed of them comes as well.
    pub picked: Vec<f64>,
    /// Share of all experts that there are frames for, or that are read in place.
    pub expert_room: f64,
}

impl Forecast {
    /// Bytes of all paths together.
    pub fn all_streamed(&self) -> f64 {
        self.streamed.iter().sum()
    }

    pub fn all_picked(&self) -> f64 {
        self.picked.iter().sum()
    }
}

impl Session {
    /// Of a step behind `tokens` tokens. What is homed is taken to be at home.
    pub fn forecast(&self, tokens: usize) -> Forecast {
        let border = self.layout.kv_border(tokens, 0);
        let is_placed = self.layout.needs().is_placed;
        let dense = self.manifest.program.dense_blocks();
        let mut streamed = vec![0.0; self.inward().len()];
        let comes = |&index: &usize| !is_placed && !self.layout.is_fixed(index, border);
        for index in (0..dense).filter(comes) {
            if !self.is_placed_at_home(index) {
                self.add(&mut streamed, index, 1.0);
            }
        }
        if let Some(bytes) = streamed.get_mut(self.home_at(0)) {
            *bytes += self.kv_away(tokens) as f64;
        }
        let count = self.manifest.blocks.len() - dense;
        let frames = self
            .layout
            .experts
            .map_or(0, |area| area.frames_below(border));
        let at_home = (dense..self.manifest.blocks.len()).filter(|&at| self.is_placed_at_home(at));
        let kept = frames + at_home.count();
        let mut picked = vec![0.0; streamed.len()];
        let share = self.picks_of_step() as f64 / count.max(1) as f64;
        for index in (dense..self.manifest.blocks.len()).filter(|_| !is_placed) {
            self.add(&mut picked, index, share);
        }
        Forecast {
            streamed,
            picked,
            expert_room: (kept as f64 / count.max(1) as f64).min(1.0),
        }
    }

    /// Experts that a step of one row asks for on all layers.
    fn picks_of_step(&self) -> usize {
        let manifest = &self.manifest;
        let picked = manifest.step_bytes() - manifest.dense_bytes();
        picked.checked_div(manifest.expert_bytes()).unwrap_or(0) as usize
    }

    /// Bytes of KV slices that stream for a step behind `tokens` tokens.
    fn kv_away(&self, tokens: usize) -> u64 {
        let kv = &self.layout.needs().kv;
        let (slices, frames) = (kv.blocks_for(tokens) * kv.layers, self.layout.kv_frames(0));
        if slices <= frames || self.homes.list.is_empty() {
            return 0;
        }
        let stay = frames - self.layout.stream_frames(frames, 1);
        slices.saturating_sub(stay) as u64 * kv.frame_bytes()
    }

    /// The block is read at home once it has gone there.
    fn is_placed_at_home(&self, index: usize) -> bool {
        let home = self.stager.supply().home_given(BlockId::new(index as u32));
        home.is_some_and(|home| self.homes.list[home].is_placed)
    }

    /// Adds `share` of block `index` to the path that it comes over, or came over first; replicas
    /// are read alike.
    fn add(&self, bytes: &mut [f64], index: usize, share: f64) {
        let block = BlockId::new(index as u32);
        let whole = self.manifest.blocks[index].spec.extent_bytes() as f64 * share;
        let home = self.stager.supply().home_given(block);
        match home.filter(|_| !self.is_placed_at_home(index)) {
            Some(home) => bytes[self.home_at(home)] += whole,
            None => {
                for origin in &mut bytes[..self.origins] {
                    *origin += whole / self.origins as f64;
                }
            }
        }
    }

    /// Place of home `n` among the paths; one that shares the link of the model is its origin.
    fn home_at(&self, n: usize) -> usize {
        let Some(home) = self.homes.list.get(n) else {
            return usize::MAX;
        };
        let inward = self.inward();
        inward
            .iter()
            .position(|path| path.path == home.read)
            .unwrap_or(0)
    }
}
