//! What a run leaves behind for the next plan of its model, and the time of a step that both are
//! about.

use crate::bound::curve::MissCurve;
use crate::bound::replay::Record;
use crate::bound::step::{StepTime, computing};
use crate::bound::{PathBound, at_once};
use crate::cli::pressure::PressureReport;
use crate::figures::{FigureStore, Figures};
use crate::session::{Forecast, Generated, Session};

/// Steps below which a run says nothing about the next.
const STEPS_MIN: usize = 16;

/// Figures of earlier runs, or what is usual; `None` of a dense model.
pub(in crate::cli) fn expected(figures: &FigureStore, session: &Session) -> Option<Figures> {
    let manifest = session.manifest();
    let experts = manifest.config.experts?;
    let usual = || Figures::usual(experts.count, experts.picked);
    Some(figures.get(manifest).unwrap_or_else(usual))
}

/// Keeps what a run showed of the model's routers, if it was not disturbed.
pub(in crate::cli) fn learn(
    figures: &FigureStore,
    session: &Session,
    prompt: usize,
    made: &Generated,
) {
    let shrunk = PressureReport::of(session).is_some_and(|pressure| pressure.shrunk > 0);
    let is_disturbed = shrunk || session.shaken().is_some() || made.losses > 0;
    if is_disturbed || made.decode_steps < STEPS_MIN {
        return;
    }
    if let Some(learned) = figures_of(session, prompt, made) {
        figures.add(session.manifest(), &learned);
    }
}

fn figures_of(session: &Session, prompt: usize, made: &Generated) -> Option<Figures> {
    let manifest = session.manifest();
    let (prefill, decode) = session.stager().record()?;
    let experts = manifest.blocks.len() - manifest.program.dense_blocks();
    let config = manifest.config.experts?;
    let usual = Figures::usual(config.count, config.picked);
    let curve = MissCurve::of(&Record { prefill, decode }, experts)?;
    let forecast = session.forecast(prompt + made.decode_steps / 2);
    let inward = session.inward();
    let arrived = inward
        .iter()
        .map(|path| made.decode_paths[path.path.index()].bytes);
    let arrived = arrived.sum::<u64>() as f64 / made.decode_steps as f64;
    let came = (arrived - forecast.all_streamed()).max(0.0);
    let replayed = curve.at(forecast.expert_room) * forecast.all_picked();
    Some(Figures {
        runs: 1,
        curve,
        of_lru: if replayed > 0.0 {
            came / replayed
        } else {
            usual.of_lru
        },
    })
}

/// Time of a step that reads `read` bytes of a memory that usually gives `memory` per second, and
/// misses a share of the experts it picks; a share of the host's processors, `load`, is busy while something comes over `paths`.
pub(in crate::cli) fn step_time(
    forecast: &Forecast,
    missed: f64,
    (paths, load): (&[PathBound], f64),
    (read, memory): (u64, f64),
) -> StepTime {
    let longest = |bytes: &[f64]| {
        let each = bytes.iter().zip(paths);
        let times = each.map(|(bytes, path)| bytes / path.alone);
        let all: f64 = bytes.iter().sum();
        times.fold(all / at_once(paths), f64::max)
    };
    StepTime {
        ahead: longest(&forecast.streamed),
        late: longest(&forecast.picked) * missed,
        computing: computing(read, memory),
        load,
    }
}
