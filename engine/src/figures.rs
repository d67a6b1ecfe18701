//! Figures of earlier runs of a model: what its routers left to be missed, and how much its steps
//! reached of what memory gives and of what is expected of links.
//!
//! A file per model in the user's cache folder, `larder/figures/HASH.json`, with a version. It
//! holds no text and no picks. What cannot be read is as good as none, what cannot be written is
//! lost, and nobody is told: nothing but the guess of a plan depends on it.

use crate::bound::curve::MissCurve;
use crate::heat::model_hash;
use crate::manifest::Manifest;
use larder_pool::sys::newfile::NewFile;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

const VERSION: u32 = 1;
/// Bytes of the largest file that is read.
const FILE_MAX: u64 = 64 << 10;
/// A cache may miss so many times what the least recently used would; above is nonsense.
const OF_LRU_MAX: f64 = 4.0;

/// A step may reach so much of what was expected of memory or of links; anything else is nonsense.
const REACHED: std::ops::RangeInclusive<f64> = 0.1..=2.0;

/// Sets of links that are remembered; a further one is not.
const LINKS_MAX: usize = 64;

/// What runs of a model came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Runs behind them.
    pub runs: u64,
    /// Of a model with experts.
    pub misses: Option<Misses>,
    /// What steps that had everything in memory read, as a share of what a plain read of it
    /// usually gives.
    pub of_memory: Option<f64>,
    /// How fast steps that waited for links were, as a share of what the probes of the same run let
    /// expect: what links, kernels and nodes on one host take from each other no probe shows. By
    /// the links.
    pub of_links: BTreeMap<String, f64>,
}

/// What is missed of the experts that are picked.
#[derive(Clone, Debug, PartialEq)]
pub struct Misses {
    /// Misses of the least recently used in replays of the runs' routing.
    pub curve: MissCurve,
    /// Bytes of experts that came, as a share of what those misses would have brought.
    pub of_lru: f64,
}

/// Where figures are kept; nowhere if nobody says where caches are.
#[derive(Clone, Debug, Default)]
pub struct FigureStore {
    folder: Option<PathBuf>,
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Kept {
    larder_figures: u32,
    runs: u64,
    /// None of a dense model.
    #[serde(default)]
    misses: Vec<f64>,
    #[serde(default)]
    of_lru: f64,
    of_memory: Option<f64>,
    #[serde(default)]
    of_links: BTreeMap<String, f64>,
}

/// What our cache misses where the least recently used misses one, if no run has told: as measured
/// in `docs/PERFORMANCE.md`, on two models.
const OF_LRU_USUAL: f64 = 0.87;

impl Misses {
    /// Without any run: what is usual where `picked` of `experts` experts of a layer are picked.
    pub fn usual(experts: usize, picked: usize) -> Self {
        Self {
            curve: MissCurve::usual(experts, picked),
            of_lru: OF_LRU_USUAL,
        }
    }

    /// Share of the picked bytes that comes anew, with room for `room` of the experts.
    pub fn of(&self, room: f64) -> f64 {
        (self.curve.at(room) * self.of_lru).min(1.0)
    }

    fn mixed(&self, later: &Self) -> Self {
        Self {
            curve: self.curve.mixed(&later.curve),
            of_lru: f64::midpoint(self.of_lru, later.of_lru),
        }
    }
}

/// Half of each, or the one that there is.
fn halves<T: Clone>(one: Option<&T>, later: Option<&T>, mix: impl Fn(&T, &T) -> T) -> Option<T> {
    match (one, later) {
        (Some(one), Some(later)) => Some(mix(one, later)),
        (one, later) => later.or(one).cloned(),
    }
}

impl Figures {
    /// Half of these and half of `later`: the last runs count most.
    #[must_use]
    pub fn followed_by(&self, later: &Self) -> Self {
        let middle = |one: &f64, later: &f64| f64::midpoint(*one, *later);
        let mut of_links = self.of_links.clone();
        for (links, later) in &later.of_links {
            if of_links.len() < LINKS_MAX || of_links.contains_key(links) {
                let share = of_links.entry(links.clone()).or_insert(*later);
                *share = middle(share, later);
            }
        }
        Self {
            runs: self.runs.saturating_add(later.runs),
            misses: halves(self.misses.as_ref(), later.misses.as_ref(), Misses::mixed),
            of_memory: halves(self.of_memory.as_ref(), later.of_memory.as_ref(), middle),
            of_links,
        }
    }

    fn from_kept(kept: &Kept) -> Option<Self> {
        let makes_sense = kept.larder_figures == VERSION
            && (0.0..=OF_LRU_MAX).contains(&kept.of_lru)
            && kept.of_links.len() <= LINKS_MAX
            && (kept.of_links.values().chain(&kept.of_memory)).all(|share| REACHED.contains(share));
        let misses = match kept.misses.as_slice() {
            [] => None,
            shares => Some(Misses {
                curve: MissCurve::kept(shares)?,
                of_lru: kept.of_lru,
            }),
        };
        makes_sense.then_some(Self {
            runs: kept.runs,
            misses,
            of_memory: kept.of_memory,
            of_links: kept.of_links.clone(),
        })
    }

    fn to_kept(&self) -> Kept {
        let misses = self.misses.as_ref();
        let shares = misses.map(|misses| misses.curve.shares().map(rounded).to_vec());
        let in_range = |share: f64| rounded(share.clamp(*REACHED.start(), *REACHED.end()));
        let of_links = self.of_links.iter();
        Kept {
            larder_figures: VERSION,
            runs: self.runs,
            misses: shares.unwrap_or_default(),
            of_lru: misses.map_or(0.0, |misses| rounded(misses.of_lru.min(OF_LRU_MAX))),
            of_memory: self.of_memory.map(in_range),
            of_links: of_links
                .map(|(links, share)| (links.clone(), in_range(*share)))
                .collect(),
        }
    }
}

impl FigureStore {
    /// Under the folder for caches of a user.
    pub fn new(caches: Option<&Path>) -> Self {
        Self {
            folder: caches.map(|caches| caches.join("larder").join("figures")),
        }
    }

    /// What earlier runs of the model came to.
    pub fn get(&self, manifest: &Manifest) -> Option<Figures> {
        read(&self.path(manifest)?)
    }

    /// Keeps what one more run came to.
    pub fn add(&self, manifest: &Manifest, later: &Figures) {
        let Some(path) = self.path(manifest) else {
            return;
        };
        let figures = match read(&path) {
            Some(earlier) => earlier.followed_by(later),
            None => later.clone(),
        };
        // The next plan guesses a little worse, that is all.
        let _ = write(&path, &figures);
    }

    fn path(&self, manifest: &Manifest) -> Option<PathBuf> {
        let mut name = String::new();
        for word in model_hash(manifest) {
            let _ = write!(name, "{word:016x}");
        }
        Some(self.folder.as_ref()?.join(name + ".json"))
    }
}

/// To the digits that mean something.
fn rounded(figure: f64) -> f64 {
    (figure * 1e6).round() / 1e6
}

fn read(path: &Path) -> Option<Figures> {
    // A pipe would be waited for.
    std::fs::metadata(path)
        .ok()
        .filter(std::fs::Metadata::is_file)?;
    let mut text = String::new();
    let file = File::open(path).ok()?;
    file.take(FILE_MAX).read_to_string(&mut text).ok()?;
    Figures::from_kept(&serde_json::from_str(&text).ok()?)
}

fn write(path: &Path, figures: &Figures) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = NewFile::create(path)?;
    serde_json::to_writer(&mut file, &figures.to_kept())?;
    file.write_all(b"\n")?;
    file.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn misses(of_lru: f64) -> Misses {
        Misses {
            of_lru,
            ..Misses::usual(64, 8)
        }
    }

    fn figures(of_lru: f64) -> Figures {
        Figures {
            runs: 1,
            misses: Some(misses(of_lru)),
            ..Figures::default()
        }
    }

    #[test]
    fn misses_end_where_everything_has_room() {
        let misses = misses(1.5);
        assert_eq!((misses.of(0.0), misses.of(1.0)), (1.0, 0.0));
    }

    #[test]
    fn what_is_kept_comes_back_and_nonsense_does_not() {
        let folder = tempfile::tempdir().expect("temp folder");
        let path = folder.path().join("not/there/yet.json");
        assert!(read(&path).is_none());
        let kept = Figures {
            of_memory: Some(0.94),
            of_links: BTreeMap::from([("a".to_owned(), 0.75)]),
            ..figures(0.9)
        };
        write(&path, &kept).expect("written");
        let found = read(&path).expect("kept");
        assert_eq!((found.runs, found.of_memory), (1, Some(0.94)));
        assert_eq!(found.of_links, kept.of_links);
        let (found, kept) = (found.misses.expect("kept"), misses(0.9));
        assert_eq!(found.of_lru, 0.9);
        let shares = found.curve.shares().iter().zip(kept.curve.shares());
        assert!(
            shares
                .into_iter()
                .all(|(one, other)| (one - other).abs() < 1e-6)
        );

        let good = std::fs::read_to_string(&path).expect("text");
        for (from, to) in [
            ("\"larder_figures\":1", "\"larder_figures\":2"),
            ("\"of_lru\":0.9", "\"of_lru\":-1"),
            ("\"of_lru\":0.9", "\"of_lru\":1e300"),
            ("\"of_memory\":0.94", "\"of_memory\":0.0"),
            ("\"of_memory\":0.94", "\"of_memory\":7"),
            ("\"a\":0.75", "\"a\":0.0"),
            ("\"a\":0.75", "\"a\":[]"),
            ("[1.0,", "["),
            ("[1.0,", "[0.0,"),
            ("}", ""),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(bad, good, "{from}");
            std::fs::write(&path, bad).expect("written");
            assert!(read(&path).is_none(), "{from} to {to}");
        }
        assert!(read(folder.path()).is_none(), "a folder");
        assert!(write(&folder.path().join("not"), &figures(1.0)).is_err());
    }

    #[test]
    fn the_last_run_is_half_of_the_figures() {
        let both = figures(1.0)
            .followed_by(&figures(0.8))
            .followed_by(&figures(0.5));
        let misses = both.misses.as_ref().expect("of all");
        assert!((misses.of_lru - 0.7).abs() < 1e-12);
        assert_eq!((both.runs, both.of_memory), (3, None));
        // What a run does not tell stays as it was.
        let dense = |share: f64| Figures {
            runs: 1,
            of_memory: Some(share),
            of_links: BTreeMap::from([(format!("to {share}"), 0.5), ("all".to_owned(), share)]),
            ..Figures::default()
        };
        let both = both.followed_by(&dense(1.0)).followed_by(&dense(0.8));
        let share = both.of_memory.expect("of the last two");
        assert!((share - 0.9).abs() < 1e-12);
        assert_eq!(both.misses.map(|misses| misses.of_lru), Some(0.7));
        let shares: Vec<f64> = both.of_links.into_values().collect();
        assert!((shares[0] - 0.9).abs() < 1e-12 && shares[1..] == [0.5, 0.5]);
    }

    #[test]
    fn no_more_links_are_kept_than_are_read() {
        let folder = tempfile::tempdir().expect("temp folder");
        let path = folder.path().join("figures.json");
        let of = |at: usize| Figures {
            of_links: BTreeMap::from([(format!("{at}"), 0.5)]),
            ..Figures::default()
        };
        let all = (0..2 * LINKS_MAX).map(of);
        let all = all.fold(Figures::default(), |all, one| all.followed_by(&one));
        write(&path, &all).expect("written");
        assert_eq!(
            read(&path).map(|found| found.of_links.len()),
            Some(LINKS_MAX)
        );
    }

    #[test]
    fn figures_of_a_dense_model_and_of_older_files_are_read() {
        let folder = tempfile::tempdir().expect("temp folder");
        let path = folder.path().join("figures.json");
        let dense = Figures {
            runs: 2,
            of_memory: Some(0.9),
            ..Figures::default()
        };
        write(&path, &dense).expect("written");
        assert_eq!(read(&path), Some(dense));
        let old = "{\"larder_figures\":1,\"runs\":4,\"misses\":[],\"of_lru\":0.5}";
        std::fs::write(&path, old).expect("written");
        assert_eq!(
            read(&path).map(|found| (found.runs, found.of_memory)),
            Some((4, None))
        );
    }
}
