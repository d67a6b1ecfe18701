//! The experts of a layer: rows pick, experts run as they come, their outputs are summed by rank.

use super::{Held, Machine};
use crate::backend::{Op, Pick, Weight};
use crate::kv::KvError;
use crate::manifest::Role;
use crate::stager::{NextExpert, Routes};
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
        cache.begin(&order, self.manifest.program.expert(index + 1, 0));
        self.look_ahead(index, class, count);
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

    /// Guesses what the layers behind `index` will pick: for a few rows by their own routers on
    /// the state of this one, for many rows every expert of the next.
    fn look_ahead(&mut self, index: usize, class: Class, count: usize) {
        if !self.stager.experts().0.wants_guesses() {
            return;
        }
        let guess = if class == Class::Chunk {
            self.every_expert(index + 1, count)
        } else {
            let mut guess = Vec::new();
            for ahead in 1..=Routes::AHEAD {
                guess.extend(self.foresee(index + ahead, ahead, count));
            }
            guess
        };
        self.stager.experts().0.guess(guess);
    }

    /// The experts of layer `index`, if `count` rows leave few of them out.
    fn every_expert(&self, index: usize, count: usize) -> Vec<BlockId> {
        let program = &self.manifest.program;
        let experts = self.manifest.config.experts;
        let picks = experts.map_or(0, |experts| experts.picked * count);
        if index >= program.layers.len() || picks < 2 * program.experts as usize {
            return Vec::new();
        }
        let experts = 0..program.experts as usize;
        experts
            .map(|expert| program.expert(index, expert))
            .collect()
    }

    /// What the router of layer `index` makes of the state `ahead` layers before it, as far as it
    /// is worth fetching.
    fn foresee(&mut self, index: usize, ahead: usize, count: usize) -> Vec<BlockId> {
        if index >= self.manifest.program.layers.len() {
            return Vec::new();
        }
        let Some((norm, router)) = self.router(index) else {
            return Vec::new();
        };
        let token = self.backend.enqueue(Op::Foresee {
            norm,
            router,
            count,
        });
        let picks = self.backend.finish(token).picks;
        let routes = &mut self.stager.experts().0.routes;
        let likely = routes.likely(index, ahead, picks).into_iter();
        let block = |expert| self.manifest.program.expert(index, expert as usize);
        likely.map(block).collect()
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
