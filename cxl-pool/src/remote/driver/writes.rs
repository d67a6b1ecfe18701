//! Writes into lent memory, and the calls around them: grant, seal, free.

use super::job::{Job, WriteJob};
use super::{FRAME, RemoteDriver};
use crate::remote::table::Located;
use crate::wire::capability::Capability;
use crate::wire::reply::Reply;
use crate::wire::request::{Kind, Request};
use larder_sys::io::{Errno, Op, Verb};
use larder_sys::lease::ReadPiece;
use larder_sys::net::{Message, Outgoing};
use std::sync::Arc;

impl RemoteDriver {
    pub(super) fn start_write(&mut self, op: &Op, piece: ReadPiece) {
        let (len, tag) = (piece.len() as u64, op.tag);
        let located = self.objects.begin_write(op.file, op.offset, len);
        let (located, start, offset) = match located {
            Ok(found) => found,
            Err(errno) => return self.finish(tag, Verb::Write(piece), Err(errno)),
        };
        let id = self.add(Job::Write(WriteJob {
            tag,
            unanswered: piece.len().div_ceil(FRAME),
            piece: Arc::new(piece),
            offset,
            unsent: 0,
            error: None,
        }));
        match located {
            Located::Open(capability) => self.put(id, capability),
            Located::Whole(..) => unreachable!("a sealed object is not written"),
            Located::Asked => self.waiting.entry(start).or_default().push(id),
            Located::Expected(len) => {
                self.waiting.entry(start).or_default().push(id);
                let grant = self.add(Job::Grant { start });
                let kind = Kind::Lent;
                self.ask(grant, &Request::Grant { len, kind });
            }
        }
    }

    /// Sends the frames of a write whose object has been granted.
    pub(super) fn put(&mut self, id: u64, capability: Capability) {
        let Some(Job::Write(job)) = self.jobs.get_mut(&id) else {
            return;
        };
        job.unsent = job.unanswered;
        let (piece, first) = (Arc::clone(&job.piece), job.offset);
        for start in (0..piece.len()).step_by(FRAME) {
            let end = (start + FRAME).min(piece.len());
            let offset = first + start as u64;
            let head = Request::Put { capability, offset }.encode(id, (end - start) as u32);
            let data = Outgoing::Piece(Arc::clone(&piece), start..end);
            self.send(id, Message::from_iter([Outgoing::Owned(head), data]));
        }
    }

    /// A seal or a free: one call about the object that starts at the offset.
    pub(super) fn start_call(&mut self, op: Op) {
        let (tag, start, verb) = (op.tag, op.offset, op.verb);
        let request = match &verb {
            Verb::Seal(seal) => {
                let capability = self.objects.begin_seal(op.file, start, seal.len);
                let crcs = seal.crcs.to_vec();
                capability.map(|capability| Some(Request::Commit { capability, crcs }))
            }
            _ => self
                .objects
                .take(op.file, start)
                .map(|capability| capability.map(|capability| Request::Free { capability })),
        };
        match request {
            Ok(Some(request)) => {
                let id = self.add(Job::Call { tag, verb, start });
                self.ask(id, &request);
            }
            Ok(None) => self.finish(tag, verb, Ok(0)),
            Err(errno) => self.finish(tag, verb, Err(errno)),
        }
    }

    pub(super) fn granted(&mut self, start: u64, reply: &Reply, error: Option<Errno>) {
        let waiting = self.waiting.remove(&start).unwrap_or_default();
        if let Reply::Granted(capability) = reply {
            self.objects.granted(start, Some(*capability));
            for id in waiting {
                self.put(id, *capability);
            }
            return;
        }
        self.objects.granted(start, None);
        for id in waiting {
            if let Some(Job::Write(job)) = self.jobs.get_mut(&id) {
                job.error = error.or(Some(Errno::EPROTO));
                job.unanswered = 0;
                self.end_write(id);
            }
        }
    }

    pub(super) fn called(&mut self, id: u64, reply: &Reply, error: Option<Errno>) {
        let Some(Job::Call { tag, verb, start }) = self.jobs.remove(&id) else {
            return;
        };
        let outcome = match (&verb, reply, error) {
            (Verb::Seal(_), Reply::Committed(capability), None) => {
                self.objects.sealed(start, *capability);
                Ok(0)
            }
            (Verb::Free, Reply::Done, None) | (Verb::Free, _, Some(Errno::ESTALE)) => Ok(0),
            (_, _, error) => Err(error.unwrap_or(Errno::EPROTO)),
        };
        self.finish(tag, verb, outcome);
    }

    pub(super) fn end_write(&mut self, id: u64) {
        let is_done = matches!(self.jobs.get(&id),
            Some(Job::Write(job)) if job.unanswered == 0 && job.unsent == 0);
        if is_done && let Some(Job::Write(job)) = self.jobs.remove(&id) {
            let piece = Arc::into_inner(job.piece).expect("the channel gave the piece back");
            let outcome = job.error.map_or(Ok(piece.len()), Err);
            self.finish(job.tag, Verb::Write(piece), outcome);
        }
    }
}
