//! What comes: the passes that remain, and when a block is used in them.

use super::{Place, Stager, UseAt};

impl Stager {
    /// When the block is leased next.
    pub(super) fn next_use(&self, block: usize) -> UseAt {
        let in_pass = |pass| self.pass_len(pass).is_some_and(|len| block < len);
        if block >= self.now.index && in_pass(self.now.pass) {
            return UseAt::At(Place {
                pass: self.now.pass,
                index: block,
            });
        }
        [self.now.pass + 1, self.passes.body.max(self.now.pass + 1)]
            .into_iter()
            .find(|&pass| in_pass(pass))
            .map_or(UseAt::Never, |pass| UseAt::At(Place { pass, index: block }))
    }

    /// Blocks of pass `pass`, or `None` behind the last one.
    pub(super) fn pass_len(&self, pass: u64) -> Option<usize> {
        if pass < self.passes.body {
            Some(self.body_blocks)
        } else if pass < self.passes.body + self.passes.full {
            Some(self.blocks)
        } else {
            None
        }
    }
}
