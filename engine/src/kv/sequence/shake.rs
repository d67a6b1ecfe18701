//! Slices that leave without need; `session::shake` says what that is for.

use super::{Sequence, Slice};
use crate::kv::SliceAt;

impl Sequence {
    /// Sends home the resident slices that `pick` chooses, between two steps, as far as there is a
    /// home that takes them and a stream that brings them back; how many.
    pub fn send_some(&mut self, pick: &mut dyn FnMut() -> bool) -> u64 {
        let mut count = 0;
        if self.stream.frames() == 0 {
            return count;
        }
        for layer in 0..self.layout.layers {
            for block in 0..self.full(layer) {
                let at = SliceAt { layer, block };
                let is_here = matches!(self.layers[layer].full[block], Slice::Resident(_));
                let stays = is_here && !self.storing.contains(&at);
                // One that no home takes stays.
                if stays && pick() && self.send_home(at).is_ok() {
                    count += 1;
                }
            }
        }
        self.harvest();
        count
    }
}
