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
        let mut sequence = self.sequence(tokens.len())?;
        let border = self.layout.kv_border(tokens.len());
        let rows = self.layout.prefill_rows(tokens.len(), border, usize::MAX);
        let aside = self.enter_prefill(rows, rows, tokens.len())?;
        let full = tokens.len().div_ceil(rows) as u64;
        self.stager.expect(Passes { body: 0, full })?;
        let mut logits = vec![0.0; self.manifest.config.vocab];
        for (index, chunk) in tokens.chunks(rows).enumerate() {
            self.step(&mut sequence, Class::Chunk, chunk, LogitRows::All)?;
            for row in 0..chunk.len() {
                self.backend.download(Buf::Logits, row, &mut logits);
                each(index * rows + row, &logits)?;
            }
        }
        self.leave_prefill(aside, tokens.len())?;
        Ok(())
    }
}
