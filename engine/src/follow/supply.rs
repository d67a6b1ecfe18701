//! The followed file's pages: which are there, bringing those that are wanted, keeping them.

use super::cut::Cut;
use super::error::FollowError;
use super::hot::ranges;
use super::room::Room;
use larder_pool::sys::cached::{CachedFile, PAGE};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Blocks that are asked about at once; one by one if not all of them are there.
const TOGETHER: usize = 256;
/// What is gone sooner after it came was taken because there is no room.
const SOON: Duration = Duration::from_secs(2);
/// What was asked for and is not there after this time has come and gone, and is asked for again:
/// the kernel takes read-ahead in as fast as the disk is, so little is still on its way.
const AGAIN: Duration = Duration::from_secs(1);
/// Bytes read ahead in one go, so that a stop, or a change of the file, is noticed in time.
const AT_ONCE: u64 = 256 << 20;

/// Bytes of all blocks together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) brought: u64,
    pub(crate) lost: u64,
}

/// What is known of the pages of a block.
#[derive(Clone, Copy, Debug, Default)]
struct Pages {
    resident: u64,
    /// When all of them were there, after not having been.
    came: Option<Duration>,
    /// When it was asked for, until all of them are there.
    asked: Option<Duration>,
    is_kept: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Supply {
    path: PathBuf,
    cached: CachedFile,
    cut: Cut,
    room: Room,
    blocks: Vec<Pages>,
    totals: Totals,
    /// Totals at the start of this window.
    before: Totals,
    keeps: bool,
    /// Why nothing is kept any more.
    refusal: Option<String>,
}

impl Supply {
    pub(crate) fn new(
        path: &Path,
        file: File,
        cut: Cut,
        budget: u64,
        keeps: bool,
    ) -> Result<Self, FollowError> {
        let of_file = cut.bytes(&(0..cut.count()));
        let cached = CachedFile::new(file, of_file.end);
        let supply = Self {
            path: path.to_path_buf(),
            cached: cached.map_err(|source| FollowError::Cache {
                path: path.to_path_buf(),
                source,
            })?,
            cut,
            room: Room::new(budget),
            blocks: vec![Pages::default(); cut.count()],
            totals: Totals::default(),
            before: Totals::default(),
            keeps,
            refusal: None,
        };
        // Whether it may be seen at all shows now, not when a reader comes.
        supply.resident(&(0..1))?;
        Ok(supply)
    }

    /// Bytes that may be wanted now.
    pub(crate) fn room(&self) -> u64 {
        self.room.bytes()
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    pub(crate) fn file(&self) -> &File {
        self.cached.file()
    }

    /// What its user should know: less room than given, nothing kept.
    pub(crate) fn notes(&self) -> Vec<String> {
        let short = "the kernel takes what was brought within seconds: there is no room for the \
                     whole budget, so less is brought";
        let short = self.room.is_short().then(|| short.to_owned());
        short.into_iter().chain(self.refusal.clone()).collect()
    }

    /// Bytes of `chosen` blocks that are there, and of those that are kept.
    pub(crate) fn resident_and_kept(&self, chosen: &[bool]) -> (u64, u64) {
        let mut sums = (0, 0);
        for (block, pages) in self.blocks.iter().enumerate() {
            sums.0 += if chosen[block] { pages.resident } else { 0 };
            sums.1 += if pages.is_kept { self.bytes(block) } else { 0 };
        }
        sums
    }

    /// Looks at the pages of the `wanted` blocks; calls `taken` for those that lack the most of
    /// theirs.
    pub(crate) fn look(
        &mut self,
        wanted: &[bool],
        now: Duration,
        mut taken: impl FnMut(usize),
    ) -> Result<(), FollowError> {
        for range in ranges(wanted) {
            for start in range.clone().step_by(TOGETHER) {
                let blocks = start..range.end.min(start + TOGETHER);
                let is_whole = self.resident(&blocks)? >= self.whole(&blocks);
                for block in blocks {
                    let bytes = self.bytes(block);
                    let resident = if is_whole {
                        bytes
                    } else {
                        self.resident(&(block..block + 1))?.min(bytes)
                    };
                    self.saw(block, resident, now);
                    if resident * 2 <= bytes {
                        taken(block);
                    }
                }
            }
        }
        Ok(())
    }

    fn saw(&mut self, block: usize, resident: u64, now: Duration) {
        let bytes = self.bytes(block);
        let pages = &mut self.blocks[block];
        if resident >= bytes {
            pages.came = pages.came.or(Some(now));
            pages.asked = None;
        } else if let Some(came) = pages.came.take()
            && now < came + SOON
        {
            self.totals.lost += bytes - resident;
        }
        pages.resident = resident;
    }

    /// Reads ahead what is missing of the `chosen` blocks, and keeps them, and no others, if asked.
    pub(crate) fn bring(&mut self, chosen: &[bool], now: Duration) -> Result<(), FollowError> {
        let mut asked = 0;
        for block in ranges(chosen).into_iter().flatten() {
            let missing = self.bytes(block) - self.blocks[block].resident;
            let before = self.blocks[block].asked;
            if missing == 0 || asked >= AT_ONCE || before.is_some_and(|at| now < at + AGAIN) {
                continue;
            }
            if before.is_some_and(|at| now < at + SOON) {
                self.totals.lost += missing;
            }
            let bytes = self.cut.bytes(&(block..block + 1));
            let brought = self.cached.bring(bytes);
            brought.map_err(|error| self.error(error))?;
            self.blocks[block].asked = Some(now);
            asked += missing;
        }
        self.totals.brought += asked;
        if self.keeps {
            self.keep(chosen);
        }
        Ok(())
    }

    /// Locks what is chosen and there, unlocks what is not chosen.
    fn keep(&mut self, chosen: &[bool]) {
        let change = |block: usize, pages: &Pages, is_chosen: bool| {
            let is_there = pages.resident >= self.bytes(block);
            pages.is_kept != is_chosen && (is_there || pages.is_kept)
        };
        let changes: Vec<bool> = (0..self.blocks.len())
            .map(|block| change(block, &self.blocks[block], chosen[block]))
            .collect();
        for blocks in ranges(&changes) {
            for block in blocks {
                let bytes = self.cut.bytes(&(block..block + 1));
                let done = if chosen[block] {
                    self.cached.keep(bytes)
                } else {
                    self.cached.release(bytes)
                };
                match done {
                    Ok(()) => self.blocks[block].is_kept = chosen[block],
                    Err(error) => {
                        let next = "what is hot is brought, not kept; raise ulimit -l";
                        self.refusal = Some(format!("lock hot blocks in memory: {error}; {next}"));
                        self.keeps = false;
                        return;
                    }
                }
            }
        }
    }

    pub(crate) fn close_window(&mut self) {
        let brought = self.totals.brought - self.before.brought;
        let lost = self.totals.lost - self.before.lost;
        self.room.close_window(brought, lost);
        self.before = self.totals;
    }

    fn resident(&self, blocks: &Range<usize>) -> Result<u64, FollowError> {
        let bytes = self.cut.bytes(blocks);
        let found = self.cached.resident_bytes(bytes);
        found.map_err(|error| self.error(error))
    }

    /// Bytes of the block in whole pages, as they are counted.
    fn bytes(&self, block: usize) -> u64 {
        self.whole(&(block..block + 1))
    }

    fn whole(&self, blocks: &Range<usize>) -> u64 {
        let bytes = self.cut.bytes(blocks);
        (bytes.end - bytes.start).next_multiple_of(PAGE)
    }

    fn error(&self, source: std::io::Error) -> FollowError {
        FollowError::Cache {
            path: self.path.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const BLOCK: u64 = 64 << 10;

    fn supply(keeps: bool) -> Supply {
        let mut file = tempfile::tempfile().expect("a file");
        let bytes = 4 * BLOCK + 5000;
        file.write_all(&vec![7; bytes as usize]).expect("written");
        let cut = Cut::new(bytes, 64);
        Supply::new(Path::new("f"), file, cut, 1 << 20, keeps).expect("may be seen")
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn what_was_written_is_there_and_can_be_kept() {
        let mut supply = supply(true);
        let chosen = [true, true, false, false, true];
        let taken = |block| panic!("{block} is there");
        supply.look(&chosen, seconds(1), taken).expect("seen");
        supply.bring(&chosen, seconds(1)).expect("nothing missing");
        assert_eq!(supply.totals(), Totals::default());
        let bytes = 2 * BLOCK + 8192;
        assert_eq!(supply.resident_and_kept(&chosen), (bytes, bytes));
        supply
            .bring(&[false; 5], seconds(1))
            .expect("nothing chosen");
        assert_eq!(supply.resident_and_kept(&chosen), (bytes, 0));
        assert!(supply.notes().is_empty());
    }

    #[test]
    fn what_goes_soon_after_it_came_is_lost() {
        let mut supply = supply(false);
        for (block, resident, at) in [
            (0, BLOCK, 1),
            (0, 0, 2),
            (1, BLOCK, 1),
            (1, 0, 9),
            (2, 0, 1),
            (2, 0, 2),
        ] {
            supply.saw(block, resident, seconds(at));
        }
        assert_eq!(supply.totals().lost, BLOCK, "block 0 only");
        for _ in 0..2 {
            supply.totals.lost += BLOCK;
            supply.close_window();
        }
        assert_eq!(supply.room(), 1 << 20, "never below the least");
        supply.bring(&[true; 5], seconds(3)).expect("advised");
        assert!(supply.totals().brought >= 2 * BLOCK);
    }
    #[test]
    fn what_does_not_come_is_asked_for_again_later_and_is_lost() {
        let mut supply = supply(false);
        let chosen = [true, false, false, false, false];
        let mut told = |at: f64, resident: u64| {
            let now = Duration::from_secs_f64(at);
            supply.saw(0, resident, now);
            supply.bring(&chosen, now).expect("advised");
            let Totals { brought, lost } = supply.totals();
            (brought / BLOCK, lost / BLOCK)
        };
        assert_eq!(told(1.0, 0), (1, 0));
        assert_eq!(told(1.5, 0), (1, 0), "it may be on its way");
        assert_eq!(told(2.0, 0), (2, 1));
        assert_eq!(told(2.5, BLOCK), (2, 1));
        assert_eq!(told(3.0, 0), (3, 2), "it came and went");
        assert_eq!(told(9.0, 0), (4, 2), "gone for other reasons");
    }
}
