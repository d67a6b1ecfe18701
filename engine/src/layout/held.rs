//! A budget that has shrunk: a gap between the weights and the KV that nobody may have for now.
//!
//! The arena stays as long as it is. Weights end below the gap; KV, which cannot move, stays at the
//! top and gives up slices where it has a home for them. Work buffers and the ring never shrink.

use super::Layout;

impl Layout {
    /// Holds back `bytes`, or as many as there are to hold back, in whole frames of KV: so the
    /// frames that are left to KV are those above the gap, whatever the gap.
    pub fn hold_back(&mut self, bytes: u64) {
        let frame = self.needs.kv.frame_bytes();
        let most = (self.space_bytes - self.least_bytes()) / frame;
        self.held_back = bytes.div_ceil(frame).min(most) * frame;
    }

    /// Bytes that are held back.
    pub const fn held_back(&self) -> u64 {
        self.held_back
    }

    /// The smallest budget that this division can be brought down to: work buffers, ring, the
    /// blocks of every step beside experts, two frames of experts, and the KV that cannot be
    /// elsewhere.
    pub fn least_bytes(&self) -> u64 {
        if self.all_stay() {
            return self.space_bytes;
        }
        let least = self.kv_floor(0) + self.needs.kv_least();
        least.min(self.space_bytes)
    }

    /// What may be in use with KV of `tokens` tokens, and `work` bytes of prefill buffers below it:
    /// those may stand in the way of a part of what is held back.
    pub fn budget_now(&self, tokens: usize, work: u64) -> u64 {
        self.kv_border(tokens, work) + self.kv_here(tokens, work)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ExpertNeeds, Needs};
    use super::*;
    use crate::backend::work::WorkShape;
    use crate::kv::KvLayout;

    const CONTEXT: usize = 1024;

    fn layout(has_home: bool, has_experts: bool, budget: u64) -> Layout {
        let needs = Needs {
            blocks: vec![32_768; 40],
            experts: has_experts.then_some(ExpertNeeds {
                count: 64,
                picked: 4,
                frame_bytes: 20_480,
            }),
            kv_has_home: has_home,
            keeps_ring: true,
            is_placed: false,
            work: WorkShape::dense(64, 64, 32, 128, 512, 4, 128),
            kv: KvLayout {
                layers: 2,
                slice_bytes: 12_288,
                first_block: 104,
            },
            context: CONTEXT,
            embedding_row: 256,
        };
        Layout::new(needs, budget).expect("enough")
    }

    fn each(check: impl Fn(Layout)) {
        for has_home in [false, true] {
            for has_experts in [false, true] {
                for budget in [2_400_000, 1 << 40] {
                    check(layout(has_home, has_experts, budget));
                }
            }
        }
    }

    #[test]
    fn what_is_held_back_is_out_of_use_whatever_the_kv() {
        each(|mut layout| {
            let all = layout.space_bytes;
            for held in (0..all).step_by(50_000) {
                layout.hold_back(held);
                let bytes = layout.held_back();
                assert!(bytes >= held.min(all - layout.least_bytes() - 12_288));
                for tokens in [0, 64, 640, CONTEXT] {
                    assert_eq!(layout.budget_now(tokens, 0), all - bytes, "{tokens} tokens");
                    let work = layout.needs.work_bytes(100, 1);
                    let floor = layout.kv_floor(work);
                    assert!(layout.kv_border(tokens, work) >= floor);
                }
            }
            layout.hold_back(u64::MAX);
            assert!(layout.budget_now(CONTEXT, 0) < layout.least_bytes() + 12_288);
            let least_kv = layout.needs.kv_least() / layout.needs.kv.frame_bytes();
            assert!(layout.kv_frames(0) as u64 >= least_kv);
        });
    }

    /// KV stays where it is when the gap above the weights changes.
    #[test]
    fn weights_never_meet_kv_that_was_there_before_the_gap() {
        each(|mut layout| {
            let all = layout.kv_frames(0) as u64 * layout.needs.kv.frame_bytes();
            for tokens in [64, 640, CONTEXT] {
                let kv = layout.needs.kv.bytes_for(tokens).min(all);
                let lowest = layout.space_bytes - kv;
                for held in (0..layout.space_bytes).step_by(37_000) {
                    layout.hold_back(held);
                    assert!(layout.kv_border(tokens, 0) <= lowest);
                }
                layout.hold_back(0);
                assert_eq!(layout.kv_border(tokens, 0), lowest);
            }
        });
    }

    #[test]
    fn a_ring_is_kept_where_everything_fits() {
        let layout = layout(false, false, 1 << 40);
        let border = layout.kv_border(CONTEXT, 0);
        assert!(layout.frames >= 2 && layout.streamed().next().is_none());
        assert_eq!(layout.fixed_bytes(border), layout.needs.weight_bytes());
        assert!(layout.prefill_rows(CONTEXT, 1) <= 512);
    }
}
