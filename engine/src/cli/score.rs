//! `larder score`: logits of every position, perplexity.

use super::error::CliError;
use super::npy::NpyWriter;
use super::options::ScoreOptions;
use super::progress::Progress;
use super::prompt::{OpenModel, read_text};
use super::size::parse_ids;
use super::table::print;
use crate::sample::{nll, top};
use crate::session::SessionError;
use serde::Serialize;

/// What `score --json` prints.
#[derive(Debug, Serialize)]
struct ScoreReport {
    tokens: usize,
    /// Sum over the tokens after the first, in nats.
    nll: f64,
    perplexity: Option<f64>,
    /// Highest logits of the last position.
    top5: Vec<(u32, f32)>,
    fast_bytes: u64,
}

pub(super) fn score(options: &ScoreOptions) -> Result<(), CliError> {
    let engine = options.engine.resolve()?;
    let model = OpenModel::open(&options.model, &engine)?;
    let (model, tokens) = match (&options.prompt_tokens, &options.file) {
        (Some(ids), _) => (model, parse_ids(ids).map_err(CliError::Usage)?),
        (None, Some(file)) => model.encode(&read_text(file)?)?,
        (None, None) => unreachable!("one of the two is required"),
    };
    let mut session = model.session(&engine)?;
    let vocab = model.manifest.config.vocab;
    let mut writer = match &options.logits {
        Some(path) => Some(NpyWriter::create(path, tokens.len(), vocab)?),
        None => None,
    };
    let mut progress = Progress::new(("score", "tokens"), tokens.len() as u64, false);
    let (mut sum, mut best) = (0.0, Vec::new());
    let mut failure = None;
    let outcome = session.score(&tokens, |position, logits| {
        progress.step();
        if logits.iter().any(|logit| logit.is_nan()) {
            return Err(SessionError::NotANumber { position });
        }
        match tokens.get(position + 1) {
            Some(&next) => sum += nll(logits, next),
            None => best = top(logits, 5),
        }
        if let Some(Err(error)) = writer.as_mut().map(|writer| writer.row(logits)) {
            let told = SessionError::Output(error.to_string());
            failure = Some(error);
            return Err(told);
        }
        Ok(())
    });
    drop(progress);
    if let Some(error) = failure {
        return Err(error);
    }
    outcome?;
    if let Some(writer) = writer {
        writer.finish()?;
    }
    let fast_bytes = session.space().peak_bytes();
    session.close()?;
    let scored = tokens.len() - 1;
    let report = ScoreReport {
        tokens: tokens.len(),
        nll: sum,
        perplexity: (scored > 0).then(|| (sum / scored as f64).exp()),
        top5: best,
        fast_bytes,
    };
    print(options.json, &report, || {
        let perplexity = report
            .perplexity
            .map_or("-".to_owned(), |value| format!("{value:.4}"));
        format!(
            "tokens {}\nnll {:.4}\nperplexity {perplexity}",
            report.tokens, report.nll
        )
    })
}
