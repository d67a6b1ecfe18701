//! Figures of earlier runs of a model with experts: what its routers left to be missed.
//!
//! A file per model in the user's cache folder, `larder/figures/HASH.json`, with a version. It
//! holds no text and no picks. What cannot be read is as good as none, what cannot be written is
//! lost, and nobody is told: nothing but the guess of a plan depends on it.

use crate::bound::curve::MissCurve;
use crate::heat::model_hash;
use crate::manifest::Manifest;
use larder_pool::sys::newfile::NewFile;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

const VERSION: u32 = 1;
/// Bytes of the largest file that is read.
const FILE_MAX: u64 = 64 << 10;
/// A cache may miss so many times what the least recently used would; above is nonsense.
const OF_LRU_MAX: f64 = 4.0;

/// What runs of a model came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// Runs behind them.
    pub runs: u64,
    /// Misses of the least recently used in replays of their routing.
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
    misses: Vec<f64>,
    of_lru: f64,
}

/// What our cache misses where the least recently used misses one, if no run has told: as measured
/// in `docs/PERFORMANCE.md`, on two models.
const OF_LRU_USUAL: f64 = 0.87;

impl Figures {
    /// Without any run: what is usual where `picked` of `experts` experts of a layer are picked.
    pub fn usual(experts: usize, picked: usize) -> Self {
        Self {
            runs: 0,
            curve: MissCurve::usual(experts, picked),
            of_lru: OF_LRU_USUAL,
        }
    }

    /// Share of the picked bytes that comes anew, with room for `room` of the experts.
    pub fn missed(&self, room: f64) -> f64 {
        (self.curve.at(room) * self.of_lru).min(1.0)
    }

    /// Half of these and half of `later`: the last runs count most.
    #[must_use]
    pub fn followed_by(&self, later: &Self) -> Self {
        Self {
            runs: self.runs.saturating_add(later.runs),
            curve: self.curve.mixed(&later.curve),
            of_lru: f64::midpoint(self.of_lru, later.of_lru),
        }
    }

    fn from_kept(kept: &Kept) -> Option<Self> {
        let makes_sense =
            kept.larder_figures == VERSION && (0.0..=OF_LRU_MAX).contains(&kept.of_lru);
        let curve = MissCurve::kept(&kept.misses).filter(|_| makes_sense)?;
        Some(Self {
            runs: kept.runs,
            curve,
            of_lru: kept.of_lru,
        })
    }

    fn to_kept(&self) -> Kept {
        Kept {
            larder_figures: VERSION,
            runs: self.runs,
            misses: self.curve.shares().map(rounded).to_vec(),
            of_lru: rounded(self.of_lru.min(OF_LRU_MAX)),
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

    fn figures(of_lru: f64) -> Figures {
        Figures {
            runs: 1,
            curve: MissCurve::usual(64, 8),
            of_lru,
        }
    }

    #[test]
    fn misses_end_where_everything_has_room() {
        let figures = figures(1.5);
        assert_eq!((figures.missed(0.0), figures.missed(1.0)), (1.0, 0.0));
    }

    #[test]
    fn what_is_kept_comes_back_and_nonsense_does_not() {
        let folder = tempfile::tempdir().expect("temp folder");
        let path = folder.path().join("not/there/yet.json");
        assert!(read(&path).is_none());
        let kept = figures(0.9);
        write(&path, &kept).expect("written");
        let found = read(&path).expect("kept");
        assert_eq!((found.runs, found.of_lru), (1, 0.9));
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
        assert!((both.of_lru - 0.7).abs() < 1e-12);
        assert_eq!(both.runs, 3);
    }
}
