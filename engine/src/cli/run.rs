//! `larder run`: text after a prompt.

use super::error::CliError;
use super::options::RunOptions;
use super::progress::Progress;
use super::prompt::{OpenModel, STDIN};
use super::report::{Probes, RunReport, learn};
use super::words::headline;
use super::{plot, trace};
use crate::figures::FigureStore;
use crate::sample::Sampler;
use crate::session::{GenerateOptions, Generated, Session, SessionError, SessionOptions};
use crate::timeline::Watcher;
use crate::tokenizer::StreamDecoder;
use larder_pool::sys::limits::resident_bytes;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Instant;

/// Tokens between two looks at the memory of the process.
const LOOK_EVERY: usize = 8;

pub(super) fn run(options: &RunOptions, figures: &FigureStore) -> Result<(), CliError> {
    let sampling = options.sampling.resolve()?;
    let mut engine = options.engine.resolve()?;
    engine.may_shrink = options.pressure.is_wanted();
    let model = OpenModel::open(&options.model, &engine)?;
    if options.trace.is_some() {
        trace::check(&model.manifest)?;
    }
    let awaits =
        options.warm.warm.is_some() && options.prompt.file.as_deref() == Some(Path::new(STDIN));
    let (model, prompt, (mut session, mut probes, watched)) = if awaits {
        let (mut session, probes, watched) = ready(options, &engine, &model)?;
        session.begin_warm().map_err(SessionError::from)?;
        let (model, prompt) = model.prompt(&options.prompt)?;
        (model, prompt, (session, probes, watched))
    } else {
        let (model, prompt) = model.prompt(&options.prompt)?;
        let session = ready(options, &engine, &model)?;
        (model, prompt, session)
    };
    let start = Instant::now();
    let watcher = options.plot.as_ref().map(|_| session.watched().watch());
    let watcher = watcher.transpose().map_err(SessionError::Threads)?;
    let mut output = Output::new(options, &model, prompt.len());
    let stop: &[u32] = if options.ignore_eos { &[] } else { model.eos() };
    let generate = GenerateOptions {
        prompt: &prompt,
        count: options.count,
        stop,
    };
    let mut sampler = Sampler::new(sampling);
    sampler.remember(&prompt);
    let mut failure = None;
    let made = session.generate(
        &generate,
        |logits| {
            sampler
                .sample(logits)
                .map_err(|error| SessionError::Output(error.to_string()))
        },
        |token| match output.token(token) {
            Ok(()) => true,
            Err(error) => {
                failure = Some(error);
                false
            }
        },
    )?;
    let timeline = watcher.map(Watcher::finish);
    if let Some(error) = failure {
        return Err(error);
    }
    let text = output.finish()?;
    let peak = output.peak;
    drop(output);
    probes.end(&mut session, start.elapsed())?;
    let mut report = RunReport::new(&session, prompt.len(), &made, text, &probes, peak);
    report.notes.extend(watched);
    learn(figures, &session, (prompt.len(), &made), &probes);
    print(options, &session, &made, &report)?;
    if let Some(path) = &options.trace {
        trace::write(path, &session, made.decode_steps)?;
    }
    if let Some((path, timeline)) = options.plot.as_ref().zip(timeline) {
        let first = made.first_token.as_secs_f64();
        plot::write(path, &headline(&options.model, &session), &timeline, first)?;
    }
    Ok(session.close()?)
}

/// A session that waits for a prompt, and what its paths carry.
fn ready(
    options: &RunOptions,
    engine: &SessionOptions,
    model: &OpenModel,
) -> Result<(Session, Probes, Option<String>), CliError> {
    let mut session = model.session(engine)?;
    if let Some(seed) = options.shake {
        session.shake(seed);
    }
    let watched = options.pressure.watch(&mut session)?;
    session.set_heat(options.warm.heat(&model.manifest));
    if !options.json {
        let _ = writeln!(std::io::stderr(), "{}", headline(&options.model, &session));
    }
    let probes = Probes::begin(&mut session)?;
    Ok((session, probes, watched))
}

fn print(
    options: &RunOptions,
    session: &Session,
    made: &Generated,
    report: &RunReport,
) -> Result<(), CliError> {
    if options.json {
        return super::table::print(true, report, String::new);
    }
    let (budget, weights) = (session.resolved().budget, session.manifest().weight_bytes());
    let mut error = std::io::stderr().lock();
    let _ = writeln!(error, "\n{}", report.table(budget, weights).trim_end());
    if made.stop == crate::session::StopReason::Context {
        let _ = writeln!(
            error,
            "the context is full; give a larger --context for more"
        );
    }
    Ok(())
}

/// Whether what is written goes where nobody watches it come.
fn is_regular_file(output: BorrowedFd<'_>) -> bool {
    let file = output.try_clone_to_owned().map(std::fs::File::from);
    file.and_then(|file| file.metadata())
        .is_ok_and(|metadata| metadata.is_file())
}

/// Text as it comes, or collected for the JSON object.
struct Output<'a> {
    stream: Option<StreamDecoder<'a>>,
    text: String,
    is_json: bool,
    progress: Progress,
    count: usize,
    peak: u64,
}

impl<'a> Output<'a> {
    fn new(options: &RunOptions, model: &'a OpenModel, prompt: usize) -> Self {
        // Behind a begin token alone, the text starts here.
        let is_start = prompt <= 1;
        let is_shown = !options.json && !is_regular_file(std::io::stdout().as_fd());
        Self {
            stream: model
                .tokenizer()
                .map(|tokenizer| tokenizer.stream(is_start)),
            text: String::new(),
            is_json: options.json,
            progress: Progress::new(("generate", "tokens"), options.count as u64, is_shown),
            count: 0,
            peak: 0,
        }
    }

    fn token(&mut self, token: u32) -> Result<(), CliError> {
        if self.count.is_multiple_of(LOOK_EVERY) {
            self.peak = self.peak.max(resident_bytes());
        }
        self.count += 1;
        self.progress.step();
        let piece = match &mut self.stream {
            Some(stream) => stream.push(token),
            None => format!("{}{token}", if self.count > 1 { "," } else { "" }),
        };
        self.show(&piece)
    }

    fn show(&mut self, piece: &str) -> Result<(), CliError> {
        if self.is_json {
            self.text.push_str(piece);
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        out.write_all(piece.as_bytes())
            .and_then(|()| out.flush())
            .map_err(CliError::output)
    }

    /// What was still pending; the whole text if the model has a tokenizer.
    fn finish(&mut self) -> Result<Option<String>, CliError> {
        self.peak = self.peak.max(resident_bytes());
        let has_text = self.stream.is_some();
        let rest = self
            .stream
            .as_mut()
            .map(StreamDecoder::finish)
            .unwrap_or_default();
        self.show(&rest)?;
        if !self.is_json {
            let mut out = std::io::stdout().lock();
            writeln!(out).map_err(CliError::output)?;
        }
        Ok(has_text.then(|| std::mem::take(&mut self.text)))
    }
}
