//! Reads: cut into ranges, asked for as the window has room, checked when they have come whole.

use super::job::{Job, ReadJob};
use super::{FRAME, RemoteDriver};
use crate::remote::table::Located;
use crate::wire::CREDITS;
use crate::wire::request::{Check, GetRange, Request};
use larder_sys::io::{Errno, Op, Verb};
use larder_sys::lease::FillPiece;

impl RemoteDriver {
    pub(super) fn start_read(&mut self, op: &Op, piece: FillPiece) {
        let located = self.objects.locate(op.file, op.offset);
        let (capability, offset) = match located {
            Ok(Located::Whole(capability, offset)) => (capability, offset),
            Ok(_) => return self.finish(op.tag, Verb::Read(piece), Err(Errno::ENOENT)),
            Err(errno) => return self.finish(op.tag, Verb::Read(piece), Err(errno)),
        };
        let left = capability.length.saturating_sub(offset);
        let due = left.min(piece.len() as u64) as usize;
        if due == 0 {
            return self.finish(op.tag, Verb::Read(piece), Ok(0));
        }
        let id = self.add(Job::Read(ReadJob {
            tag: op.tag,
            piece: Some(piece),
            offset,
            due,
            answered: 0,
            error: None,
        }));
        for start in (0..due).step_by(FRAME) {
            self.ranges.push_back(GetRange {
                id,
                capability,
                offset: offset + start as u64,
                len: (due - start).min(FRAME) as u32,
                check: self.check,
            });
        }
    }

    /// Asks for the ranges that the window has room for.
    pub(super) fn ask_ranges(&mut self) {
        let (mut some, window) = (Vec::new(), self.line.window(self.window));
        while some.len() < CREDITS && self.asked < window {
            let Some(range) = self.ranges.pop_front() else {
                break;
            };
            self.asked += range.len as usize;
            some.push(range);
        }
        if !some.is_empty() {
            self.ask(0, &Request::Get(some));
        }
    }

    /// The next part of a read has been answered, one way or the other.
    pub(super) fn part_answered(&mut self, id: u64) {
        let Some(Job::Read(job)) = self.jobs.get_mut(&id) else {
            return;
        };
        let len = job.part(job.answered).len();
        job.answered += 1;
        if job.is_answered() {
            self.arrived.push(id);
        }
        self.asked = self.asked.saturating_sub(len);
        self.ask_ranges();
    }

    /// Takes the data of the next part. What comes next is asked for before the part is checked,
    /// and it is checked before the next one arrives, while it is hot in the cache.
    pub(super) fn part_arrived(&mut self, id: u64, crcs: &[u32]) {
        let Some(Job::Read(job)) = self.jobs.get(&id) else {
            return;
        };
        let index = job.answered;
        self.part_answered(id);
        if self.check == Check::Nothing {
            return;
        }
        self.line.flush();
        if let Some(Job::Read(job)) = self.jobs.get_mut(&id)
            && !job.is_sound(index, crcs)
        {
            job.error = job.error.or(Some(Errno::EBADMSG));
        }
    }

    /// Completes reads that have come whole.
    pub(super) fn finish_reads(&mut self) {
        for id in std::mem::take(&mut self.arrived) {
            let Some(Job::Read(job)) = self.jobs.remove(&id) else {
                continue;
            };
            let piece = job.piece.expect("the channel gave the piece back");
            let outcome = job.error.map_or(Ok(job.due), Err);
            self.finish(job.tag, Verb::Read(piece), outcome);
        }
    }
}
