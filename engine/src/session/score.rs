//! Scoring: the logits of every position of a text.

use crate::backend::work::Buf;
use crate::graph::LogitRows;
use crate::session::{Session, SessionError};
use crate::stager::Passes;
use larder_cpu::Class;

impl Session {
    /// Runs `tokens` and hands the logits of each position, in order, to `each`.
    pub fn score(
        &mut self,
        tokens: &[u32],
        mut each: impl FnMut(usize, &[f32]) -> Result<(), SessionError>,
    ) -> Result<(), SessionError> {
        self.check_tokens(tokens)?;
        self.end_warm()?;
        let prefill = self.prefill_of(tokens.len(), usize::MAX);
        let mut sequence = self.sequence(tokens.len(), &prefill, false);
        let aside = self.enter_prefill(&prefill)?;
        let passes = prefill.passes();
        let full = passes.len() as u64;
        sequence.plan(self.layout.kv_frames(prefill.work_bytes), full)?;
        self.stager.expect(Passes { body: 0, full })?;
        let mut logits = vec![0.0; self.manifest.config.vocab];
        for rows in passes {
            let first = sequence.len();
            let chunk = &tokens[first..][..rows];
            sequence.reserve(sequence.len() + chunk.len())?;
            self.step(&mut sequence, Class::Chunk, chunk, LogitRows::All)?;
            for row in 0..chunk.len() {
                self.backend.download(Buf::Logits, row, &mut logits);
                each(first + row, &logits)?;
            }
        }
        self.put_back(aside);
        self.leave_prefill(&mut sequence, 0)?;
        Ok(())
    }
}
