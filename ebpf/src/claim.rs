//! An engine's heat array: claimed, mapped, added to without a system call.
//!
//! 1. A claim is a compare-and-swap of the region's first word from no owner, or a dead one, to the
//!    calling process. Whoever wins owns the array; nobody waits.
//! 2. An array of the same model is taken first and keeps its heat; then one that was never used;
//!    then any without a living owner, emptied.
//! 3. The winner writes the rest of the region, `generation` being odd meanwhile.
//! 4. Dropping gives the word back. The region and the heat stay, for the next of the same model.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use larder_abi::{HEAT_ARRAYS, HeatEntry, Plain, RANGES, Range, Region};
use larder_sys::bpf::{Access, ArrayWords};
use larder_sys::usdt::block_touch;

use crate::error::{ClaimError, ReadError};
use crate::pins::{Pins, heat_name};
use crate::process::Owner;

const WORD_BYTES: usize = 8;
const ENTRY_WORDS: usize = HeatEntry::BYTES / WORD_BYTES;

/// Words of a region: the owner, the generation, then what the owner writes.
const OWNER: usize = 0;
const GENERATION: usize = 1;
const BODY: usize = 2;

/// Words of an entry that only probes add to.
const FAULTS: usize = 2;
const SAMPLES: usize = 3;

/// What an engine wants an array for.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Blake3 of the manifest.
    pub manifest: [u64; 4],
    /// Block of the first entry.
    pub block_first: u64,
    pub block_count: u64,
    /// Where blocks are in memory, at most `RANGES`.
    pub ranges: Vec<Range>,
}

/// One entry per block that this process adds to.
#[derive(Debug)]
pub struct HeatArray {
    words: Words,
    entries: usize,
}

#[derive(Debug)]
enum Words {
    /// A pinned array, which the probes add to as well.
    Shared {
        heat: ArrayWords,
        regions: ArrayWords,
        array: usize,
        owner: Owner,
        is_kept: bool,
    },
    /// Memory of this process: the same code without privileges.
    Private {
        words: Vec<AtomicU64>,
        /// What marks name: the first word of the manifest, and the block of the first entry.
        manifest: u64,
        block_first: u64,
    },
}

impl HeatArray {
    /// Claims a pinned array.
    pub fn claim(pins: &Pins, claim: &Claim) -> Result<Self, ClaimError> {
        Self::claim_as(pins, claim, Owner::current())
    }

    /// Claims a pinned array in the name of process `pid`, whose faults and samples probes then
    /// count there, though it knows nothing of it. One that somebody claimed so before is shared.
    pub fn claim_for(pins: &Pins, pid: u32, claim: &Claim) -> Result<Self, ClaimError> {
        let owner = Owner::of(pid).ok_or(ClaimError::NoProcess { pid })?;
        Self::claim_as(pins, claim, owner)
    }

    fn claim_as(pins: &Pins, claim: &Claim, owner: Owner) -> Result<Self, ClaimError> {
        pins.check_version()?;
        if !Owner::are_numbers_global() {
            return Err(ClaimError::PidNamespace);
        }
        let regions = words(pins, "regions", Region::BYTES)?;
        for candidate in candidates(&regions, claim, owner) {
            let heat = words(pins, &heat_name(candidate.array as u32), HeatEntry::BYTES)?;
            if claim.block_count > heat.entries() as u64 {
                return Err(ClaimError::Small {
                    wanted: claim.block_count,
                    entries: heat.entries() as u32,
                });
            }
            let region = regions.entry(candidate.array);
            // Acquire pairs with the release of the owner before; release with the next one's.
            let taken =
                region[OWNER].compare_exchange(candidate.word, owner.word(), AcqRel, Acquire);
            if taken.is_err() {
                continue;
            }
            // Only now: others may have had it since the candidates were listed.
            let is_kept = is_of_model(region, claim);
            // Without ranges at first, so that no probe counts by those of the owner before.
            write_body(region, claim);
            if !is_kept {
                clear(&heat);
            }
            let own = Self {
                entries: claim.block_count as usize,
                words: Words::Shared {
                    heat,
                    regions,
                    array: candidate.array,
                    owner,
                    is_kept,
                },
            };
            own.set_ranges(&claim.ranges);
            return Ok(own);
        }
        Err(ClaimError::Full {
            arrays: HEAT_ARRAYS,
        })
    }

    /// Claims a pinned array; where none can be had, gives one of its own and the reason, which is
    /// to be said once.
    pub fn claim_or_private(pins: &Pins, claim: &Claim) -> (Self, Option<ClaimError>) {
        match Self::claim(pins, claim) {
            Ok(array) => (array, None),
            Err(error) => (Self::private(claim), Some(error)),
        }
    }

    /// An array in this process's own memory, which no probe adds to. Touches pass the mark
    /// `larder:block_touch`, so that a probe there counts them for an engine of the same model.
    pub fn private(claim: &Claim) -> Self {
        let entries = claim.block_count as usize;
        let words = (0..entries * ENTRY_WORDS).map(|_| AtomicU64::new(0));
        Self {
            words: Words::Private {
                words: words.collect(),
                manifest: claim.manifest[0],
                block_first: claim.block_first,
            },
            entries,
        }
    }

    /// Number of the pinned array; `None` for a private one.
    pub fn array(&self) -> Option<u32> {
        match &self.words {
            Words::Shared { array, .. } => Some(*array as u32),
            Words::Private { .. } => None,
        }
    }

    /// Whether it came with the heat of an earlier engine of the same model.
    pub fn is_heat_kept(&self) -> bool {
        matches!(self.words, Words::Shared { is_kept: true, .. })
    }

    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Adds `uses` to the touches of `entry`, which exists.
    #[inline]
    pub fn touch(&self, entry: usize, uses: u64) {
        // Relaxed: counts order nothing; touches are the first word of an entry.
        self.entry_words(entry)[0].fetch_add(uses, Relaxed);
        if let Words::Private {
            manifest,
            block_first,
            ..
        } = &self.words
        {
            block_touch(*manifest, block_first.wrapping_add(entry as u64), uses);
        }
    }

    /// Sets the touches of `entry`, which exists, to what is known from elsewhere; no use of it is
    /// told to anybody.
    pub fn set_touches(&self, entry: usize, touches: u64) {
        self.entry_words(entry)[0].store(touches, Relaxed);
    }

    /// The entry as it is now, each field by itself.
    pub fn get(&self, entry: usize) -> HeatEntry {
        let mut bytes = [0; HeatEntry::BYTES];
        let words = self
            .entry_words(entry)
            .iter()
            .zip(bytes.chunks_exact_mut(WORD_BYTES));
        for (word, bytes) in words {
            word.load(Relaxed).put(bytes);
        }
        HeatEntry::get(&bytes)
    }

    /// Faults and samples that probes counted in `entry`, which exists; samples by their weight.
    pub fn seen_by_probes(&self, entry: usize) -> u64 {
        let words = self.entry_words(entry);
        // Relaxed: counts order nothing.
        let [faults, samples] = [FAULTS, SAMPLES].map(|word| words[word].load(Relaxed));
        faults.wrapping_add(samples)
    }

    /// Whether the claim stands: its process may have ended, or whoever shared it given it back.
    pub fn is_held(&self) -> bool {
        match &self.words {
            Words::Shared {
                regions,
                array,
                owner,
                ..
            } => regions.entry(*array)[OWNER].load(Acquire) == owner.word() && owner.is_alive(),
            Words::Private { .. } => true,
        }
    }

    /// Tells the probes where the blocks are now. At most `RANGES`; does nothing if private.
    pub fn set_ranges(&self, ranges: &[Range]) {
        assert!(ranges.len() <= RANGES, "{RANGES} ranges at most");
        if let Words::Shared { regions, array, .. } = &self.words {
            let mut bytes = [0; RANGES * Range::BYTES];
            for (range, bytes) in ranges.iter().zip(bytes.chunks_exact_mut(Range::BYTES)) {
                range.put(bytes);
            }
            let region = regions.entry(*array);
            let ranges = &region[region.len() - bytes.len() / WORD_BYTES..];
            write_between(&region[GENERATION], ranges, &bytes);
        }
    }

    fn entry_words(&self, entry: usize) -> &[AtomicU64] {
        assert!(entry < self.entries, "an entry of the array");
        match &self.words {
            Words::Shared { heat, .. } => heat.entry(entry),
            Words::Private { words, .. } => &words[entry * ENTRY_WORDS..][..ENTRY_WORDS],
        }
    }
}

impl Drop for HeatArray {
    fn drop(&mut self) {
        if let Words::Shared {
            regions,
            array,
            owner,
            ..
        } = &self.words
        {
            let word = &regions.entry(*array)[OWNER];
            // Another process may have written there: then the word is not ours to give back.
            let _ = word.compare_exchange(owner.word(), 0, Release, Relaxed);
        }
    }
}

struct Candidate {
    array: usize,
    /// What stood in its first word.
    word: u64,
}

/// Arrays without a living owner, in the order in which to try them; before them one of the same
/// blocks that `owner` has already, unless it is an engine's own.
fn candidates(regions: &ArrayWords, claim: &Claim, owner: Owner) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for array in 0..regions.entries() {
        let region = regions.entry(array);
        let word = region[OWNER].load(Acquire);
        let is_shared = owner != Owner::current() && word == owner.word();
        if Owner::from_word(word).is_some_and(Owner::is_alive)
            && !(is_shared && is_of_model(region, claim))
        {
            continue;
        }
        let rank = if is_of_model(region, claim) {
            0
        } else if region[GENERATION].load(Relaxed) == 0 {
            1
        } else {
            2
        };
        candidates.push((rank, Candidate { array, word }));
    }
    candidates.sort_by_key(|(rank, candidate)| (*rank, candidate.array));
    candidates
        .into_iter()
        .map(|(_, candidate)| candidate)
        .collect()
}

/// Whether the array holds heat of the same model, cut into the same blocks. An owner that died
/// while writing leaves an odd generation: nothing there is certain.
fn is_of_model(region: &[AtomicU64], claim: &Claim) -> bool {
    let generation = region[GENERATION].load(Relaxed);
    let [a, b, c, d] = claim.manifest;
    let model = [a, b, c, d, claim.block_first, claim.block_count];
    let mut words = model.iter().zip(&region[BODY..]);
    let is_same = words.all(|(want, word)| *want == word.load(Relaxed));
    generation != 0 && generation.is_multiple_of(2) && is_same
}

fn clear(heat: &ArrayWords) {
    for entry in 0..heat.entries() {
        for word in heat.entry(entry) {
            word.store(0, Relaxed);
        }
    }
}

/// Writes whose blocks they are, without ranges.
fn write_body(words: &[AtomicU64], claim: &Claim) {
    let region = Region {
        manifest: claim.manifest,
        block_first: claim.block_first,
        block_count: claim.block_count,
        ..Region::default()
    };
    let mut bytes = [0; Region::BYTES];
    region.put(&mut bytes);
    write_between(
        &words[GENERATION],
        &words[BODY..],
        &bytes[BODY * WORD_BYTES..],
    );
}

/// Writes `bytes` over `words` while `generation` is odd.
fn write_between(generation: &AtomicU64, words: &[AtomicU64], bytes: &[u8]) {
    let even = generation.load(Relaxed) & !1;
    generation.store(even | 1, Release);
    for (word, bytes) in words.iter().zip(bytes.chunks_exact(WORD_BYTES)) {
        word.store(u64::get(bytes), Relaxed);
    }
    // Release: who reads the even number reads what was written before.
    generation.store(even.wrapping_add(2), Release);
}

fn words(pins: &Pins, name: &str, value_bytes: usize) -> Result<ArrayWords, ReadError> {
    let map = pins.open(name, value_bytes, Access::ReadWrite)?;
    map.words().map_err(|errno| ReadError::Call {
        path: pins.map(name),
        errno,
    })
}
