//! The attention of a layer: resident slices in one operation, streamed ones as they come, in
//! the order of their tokens; the tails last.

use super::{Held, Machine};
use crate::backend::work::Buf;
use crate::backend::{Op, SliceLeases};
use crate::kv::{KvError, SliceAt};

impl Machine<'_> {
    /// Attends to every slice of `layer`; q, k and v stand ready.
    pub(super) fn attend(&mut self, layer: usize, count: usize) -> Result<(), KvError> {
        let _ = self.backend.enqueue(Op::Rotate);
        let mut slices = SliceLeases::default();
        for block in 0..self.sequence.full(layer) {
            let at = SliceAt { layer, block };
            if let Some(lease) = self.sequence.resident(at) {
                slices.full.push(lease);
                continue;
            }
            let next = SliceLeases {
                first: block + 1,
                full: Vec::new(),
            };
            let before = std::mem::replace(&mut slices, next);
            if !before.full.is_empty() {
                let _ = self.backend.enqueue(Op::AttendPart(before));
            }
            self.attend_streamed(at)?;
        }
        let tails = self.sequence.lend_tails(layer);
        let token = self.backend.enqueue(Op::Attend { slices, tails });
        self.attending.push((layer, token));
        let _ = self.backend.enqueue(Op::Quantise {
            from: Buf::Att,
            count,
        });
        Ok(())
    }

    fn attend_streamed(&mut self, at: SliceAt) -> Result<(), KvError> {
        let lease = loop {
            if let Some(lease) = self.sequence.streamed(at)? {
                break lease;
            }
            let finished = self.finish_oldest()?;
            assert!(finished, "a frame of the stream is free when nothing runs");
        };
        let token = self.backend.enqueue(Op::AttendPart(SliceLeases {
            first: at.block,
            full: vec![lease],
        }));
        self.retire(token, Held::Slice(at))
    }
}
