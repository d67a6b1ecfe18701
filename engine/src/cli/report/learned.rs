//! What a run leaves behind for the next plan of its model, and the time of a step that both are
//! about.

use super::links::have_changed;
use super::{Probes, demand, path_bounds};
use crate::bound::curve::MissCurve;
use crate::bound::replay::Record;
use crate::bound::step::{REACHED_USUAL, StepTime};
use crate::bound::{PathBound, at_once};
use crate::cli::pressure::PressureReport;
use crate::figures::{FigureStore, Figures, Misses};
use crate::session::{Forecast, Generated, Inward, Session};
use larder_pool::units::BytesPerSec;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Steps below which a run says nothing about the next.
const STEPS_MIN: usize = 16;

/// A run brought less than this share of what its steps read: all the rest was in memory.
const BROUGHT: f64 = 0.01;

/// Figures of earlier runs, and what is usual where there are none.
pub(in crate::cli) fn expected(figures: &FigureStore, session: &Session) -> Figures {
    let manifest = session.manifest();
    let found = figures.get(manifest).unwrap_or_default();
    let experts = manifest.config.experts;
    // What is read in place is missed nowhere.
    let experts = experts.filter(|_| !session.layout().needs().is_placed);
    let usual = experts.map(|experts| Misses::usual(experts.count, experts.picked));
    // Of a dense model nothing is missed, whatever a file says.
    let misses = usual.map(|usual| found.misses.unwrap_or(usual));
    Figures { misses, ..found }
}

/// Keeps what a run showed of the model, if it was not disturbed.
pub(in crate::cli) fn learn(
    figures: &FigureStore,
    session: &Session,
    (prompt, made): (usize, &Generated),
    probes: &Probes,
) {
    let shrunk = PressureReport::of(session).is_some_and(|pressure| pressure.shrunk > 0);
    let is_disturbed = shrunk || session.shaken().is_some() || made.losses > 0;
    if is_disturbed || made.decode_steps < STEPS_MIN {
        return;
    }
    let inward = session.inward();
    let arrived = inward
        .iter()
        .map(|path| made.decode_paths[path.path.index()].bytes);
    let arrived = arrived.sum::<u64>() as f64 / made.decode_steps as f64;
    let position = prompt + made.decode_steps / 2;
    let forecast = session.forecast(position);
    let misses = misses(session, &forecast, arrived);
    let read = demand(session).read_bytes(position as u64);
    let seconds = made.decode.as_secs_f64() / made.decode_steps as f64;
    let all_in_memory = arrived < BROUGHT * read as f64;
    let memory = probes.memory.map(|memory| memory.usual);
    let paths = path_bounds(&inward, &probes.before, &probes.after);
    let has_links = !all_in_memory && !have_changed(&paths, &probes.before, &probes.after);
    let of_links = memory.filter(|_| has_links).and_then(|memory| {
        let reached = figures.get(session.manifest());
        let reached = reached.and_then(|figures| figures.of_memory);
        let missed = misses.as_ref();
        let missed = missed.map_or(0.0, |misses| misses.of(forecast.expert_room));
        let load = probes.before.load.unwrap_or(0.0);
        let memory = memory * reached.unwrap_or(REACHED_USUAL);
        let expected = step_time(&forecast, missed, (&paths, load), (read, memory));
        let share = expected.seconds() / seconds;
        expected.waits().then(|| (links(&forecast, &inward), share))
    });
    let learned = Figures {
        runs: 1,
        misses,
        of_memory: memory
            .filter(|_| all_in_memory)
            .map(|memory| read as f64 / seconds / memory),
        of_links: BTreeMap::from_iter(of_links),
    };
    if learned
        != (Figures {
            runs: 1,
            ..Figures::default()
        })
    {
        figures.add(session.manifest(), &learned);
    }
}

/// The links that `forecast` expects something of: what moves it, and how fast it may be.
pub(in crate::cli) fn links(forecast: &Forecast, inward: &[Inward]) -> String {
    let mut links = String::new();
    for (at, path) in inward.iter().enumerate() {
        if forecast.streamed[at] + forecast.picked[at] > 0.0 {
            let limit = path.limit.map_or(0.0, BytesPerSec::get);
            let _ = write!(links, "{} {} {limit};", path.name, path.driver);
        }
    }
    links
}

/// What a run missed whose steps brought `arrived` bytes each.
fn misses(session: &Session, forecast: &Forecast, arrived: f64) -> Option<Misses> {
    if session.layout().needs().is_placed {
        return None;
    }
    let manifest = session.manifest();
    let (prefill, decode) = session.stager().record()?;
    let experts = manifest.blocks.len() - manifest.program.dense_blocks();
    let config = manifest.config.experts?;
    let curve = MissCurve::of(&Record { prefill, decode }, experts)?;
    let came = (arrived - forecast.all_streamed()).max(0.0);
    let replayed = curve.at(forecast.expert_room) * forecast.all_picked();
    let of_lru = if replayed > 0.0 {
        came / replayed
    } else {
        Misses::usual(config.count, config.picked).of_lru
    };
    Some(Misses { curve, of_lru })
}

/// Time of a step that reads `read` bytes of memory, `memory` per second, and misses a share of the
/// experts it picks; of the host's processors the share `load` is busy while something comes.
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
        computing: read as f64 / memory,
        load,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_pool::units::PathId;

    #[test]
    fn links_are_known_by_what_brings_something() {
        let path = |n: usize, limit| Inward {
            path: PathId::new(n),
            name: format!("{n}>dram"),
            driver: "tcp",
            limit: BytesPerSec::new(limit),
            capacity: u64::MAX,
        };
        let inward = [path(0, 0.0), path(1, 3e9), path(2, 0.0)];
        let mut forecast = Forecast {
            streamed: vec![5.0, 0.0, 0.0],
            picked: vec![0.0, 2.0, 0.0],
            expert_room: 1.0,
        };
        assert_eq!(
            links(&forecast, &inward),
            "0>dram tcp 0;1>dram tcp 3000000000;"
        );
        forecast.streamed[0] = 0.0;
        assert_eq!(links(&forecast, &inward), "1>dram tcp 3000000000;");
    }
}
