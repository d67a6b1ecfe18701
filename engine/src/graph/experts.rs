//! The experts of a layer: rows pick, experts run as they come, their outputs are summed by rank.

use super::{Held, Machine};
use crate::backend::{Op, Pick, Weight};
use crate::kv::KvError;
use crate::manifest::Role;
use crate::stager::NextExpert;
use larder_cpu::Class;
use larder_pool::sys::lease::ReadLease;
use larder_pool::units::BlockId;
use std::collections::HashMap;

impl Machine<'_> {
    /// Runs the experts of layer `index`; the scores of its router stand ready.
    pub(super) fn experts(
        &mut self,
        index: usize,
        class: Class,
        count: usize,
    ) -> Result<(), KvError> {
        let token = self.backend.enqueue(Op::Route { count });
        let picks = self.backend.finish(token).picks;
        let picked = picks.len() / count;
        let mut rows: HashMap<BlockId, Vec<Pick>> = HashMap::new();
        let mut order = Vec::new();
        for rank in 0..picked {
            for row in 0..count {
                let expert = picks[row * picked + rank] as usize;
                let block = self.manifest.program.expert(index, expert);
                let entry = rows.entry(block).or_default();
                if entry.is_empty() {
                    order.push(block);
                }
                entry.push(Pick { row, rank });
            }
        }
        let cache = self.stager.experts().0;
        cache.routes.note(index, &picks, &order);
        cache.begin(&order);
        self.look_ahead(index + 1, class, count);
        loop {
            let (cache, counters) = self.stager.experts();
            match cache.next(counters)? {
                NextExpert::Leased(block, lease) => {
                    let picks = rows.remove(&block).expect("an expert is leased once");
                    self.expert(block, &lease, picks)?;
                }
                NextExpert::Busy => {
                    let finished = self.finish_oldest()?;
                    assert!(finished, "a frame is free when nothing runs");
                }
                NextExpert::End => break,
            }
        }
        let _ = self.backend.enqueue(Op::Combine { count });
        Ok(())
    }

    fn expert(
        &mut self,
        block: BlockId,
        lease: &ReadLease,
        picks: Vec<Pick>,
    ) -> Result<(), KvError> {
        let parts = &self.manifest.blocks[block.index()].parts;
        let [gate, up, down] = [0, 1, 2].map(|at| self.weight(lease, parts[at], at));
        let token = self.backend.enqueue(Op::Expert {
            gate,
            up,
            down,
            picks,
        });
        self.retire(token, Held::Weights(block))
    }

    /// Guesses what layer `index` will pick: for a few rows by its own router on the state of the
    /// layer before, for many rows every expert.
    fn look_ahead(&mut self, index: usize, class: Class, count: usize) {
        let program = &self.manifest.program;
        if index >= program.layers.len() {
            return;
        }
        if class == Class::Chunk {
            let all = (0..program.experts as usize).map(|expert| program.expert(index, expert));
            let experts = self.manifest.config.experts;
            let picks = experts.map_or(0, |experts| experts.picked * count);
            // A few rows leave many experts out.
            if picks < 2 * program.experts as usize {
                return;
            }
            self.stager.experts().0.guess(all);
            return;
        }
        let Some((norm, router)) = self.router(index) else {
            return;
        };
        let token = self.backend.enqueue(Op::Foresee {
            norm,
            router,
            count,
        });
        let picks = self.backend.finish(token).picks;
        let cache = self.stager.experts().0;
        let likely = cache.routes.likely(index, picks);
        let program = &self.manifest.program;
        let block = |expert| program.expert(index, expert as usize);
        cache.guess(likely.into_iter().map(block));
    }

    /// Norm and router of a layer, if they are on the fast tier now.
    fn router(&self, index: usize) -> Option<(Weight, Weight)> {
        let mut found = [None, None];
        let blocks = self.manifest.program.layers[index].attention.clone();
        for block in blocks.rev().map(BlockId::new) {
            let parts = &self.manifest.blocks[block.index()].parts;
            for (at, part) in parts.iter().enumerate() {
                let place = match self.manifest.tensors[part.tensor].role {
                    Role::FfnNorm => 0,
                    Role::Router => 1,
                    _ => continue,
                };
                // A router that was cut in two is left alone.
                if part.rows < self.manifest.tensors[part.tensor].rows {
                    return None;
                }
                let lease = self.stager.peek(block)?;
                found[place] = Some(self.weight(&lease, *part, at));
            }
            if let [Some(norm), Some(router)] = &found {
                return Some((norm.clone(), router.clone()));
            }
        }
        None
    }
}
