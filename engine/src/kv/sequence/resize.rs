//! Less or more room for KV in the middle of a text; `session::pressure` says why.

use super::Sequence;
use crate::kv::KvError;

impl Sequence {
    /// KV may take `capacity` frames from now on, `stream` of them to stream what is at home;
    /// between two steps. Slices leave for their homes until it is so; those that no home takes
    /// stay.
    pub fn resize(&mut self, capacity: usize, stream: usize) -> Result<(), KvError> {
        if self.stream.frames() == 0 {
            // Nothing could come back.
            return Ok(());
        }
        if stream < self.stream.frames() {
            self.stream.clear(&self.homes, &self.layout)?;
        }
        self.stream.set_frames(stream);
        self.capacity = capacity;
        self.capacity_most = self.capacity_most.max(capacity);
        self.harvest();
        while self.frames() > self.limit() {
            match self.make_room() {
                Ok(()) => {}
                Err(KvError::Full { .. } | KvError::HomesFull { .. }) => {
                    self.capacity = self.frames() + self.stream.frames();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
