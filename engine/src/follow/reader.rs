//! One process that maps the file, and what shows that it used a block.

use super::cut::Cut;
use super::mapped::Mapper;
use larder_ebpf::{Claim, ClaimError, HeatArray, Pins};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes of a page and of what `/proc/PID/pagemap` says of one.
const PAGE: u64 = 4096;
const ENTRY: u64 = 8;
/// The bit of an entry that says that the page is mapped.
const PRESENT: u8 = 1 << 7;
/// Bytes read of `pagemap` at once.
const PIECE: usize = 64 << 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) mapper: Mapper,
    source: Source,
    /// Per block: what the source said last.
    last: Vec<u64>,
}

#[derive(Debug)]
enum Source {
    /// Faults and samples that probes count.
    Probes(HeatArray),
    /// Pages that are in the process's page tables.
    Tables(File),
}

impl Reader {
    /// Lets probes count for `mapper` in a heat array of its own.
    pub(crate) fn by_probes(
        mapper: Mapper,
        cut: Cut,
        pins: &Pins,
        manifest: [u64; 4],
    ) -> Result<Self, (Mapper, ClaimError)> {
        let claim = Claim {
            manifest,
            block_first: 0,
            block_count: cut.count() as u64,
            ranges: cut.heat_ranges(&mapper.stretches).0,
        };
        let array = match HeatArray::claim_for(pins, mapper.pid, &claim) {
            Ok(array) => array,
            Err(error) => return Err((mapper, error)),
        };
        // What was counted before is of an earlier time.
        let last = (0..cut.count()).map(|entry| array.seen_by_probes(entry));
        Ok(Self {
            last: last.collect(),
            mapper,
            source: Source::Probes(array),
        })
    }

    /// Looks at the page tables of `mapper`, if they may be read.
    pub(crate) fn by_tables(mapper: Mapper, cut: Cut) -> std::io::Result<Self> {
        let tables = File::open(format!("/proc/{}/pagemap", mapper.pid))?;
        Ok(Self {
            mapper,
            source: Source::Tables(tables),
            last: vec![0; cut.count()],
        })
    }

    /// Name of what shows its uses.
    pub(crate) fn evidence(&self) -> String {
        match &self.source {
            Source::Probes(array) => match array.array() {
                Some(number) => format!("probes, block_heat_{number}"),
                None => "probes".to_owned(),
            },
            Source::Tables(_) => "page tables".to_owned(),
        }
    }

    pub(crate) fn is_by_probes(&self) -> bool {
        matches!(self.source, Source::Probes(_))
    }

    /// Whether the claim on an array still stands; page tables need none.
    pub(crate) fn is_held(&self) -> bool {
        match &self.source {
            Source::Probes(array) => array.is_held(),
            Source::Tables(_) => true,
        }
    }

    /// The process maps the file elsewhere now.
    pub(crate) fn moved(&mut self, mapper: Mapper, cut: Cut) {
        if let Source::Probes(array) = &self.source {
            array.set_ranges(&cut.heat_ranges(&mapper.stretches).0);
        }
        self.mapper = mapper;
    }

    /// Calls `touch` for each block that was used since the last call.
    pub(crate) fn collect(&mut self, cut: Cut, touch: impl FnMut(usize)) {
        let now: Vec<u64> = match &self.source {
            Source::Probes(array) => {
                let entries = 0..self.last.len();
                entries.map(|entry| array.seen_by_probes(entry)).collect()
            }
            Source::Tables(tables) => mapped_pages(tables, &self.mapper, cut),
        };
        grown(&self.last, &now).for_each(touch);
        self.last = now;
    }
}

/// Blocks of which there is more now than last.
fn grown<'a>(last: &'a [u64], now: &'a [u64]) -> impl Iterator<Item = usize> + 'a {
    let pairs = last.iter().zip(now).enumerate();
    pairs
        .filter(|(_, (last, now))| now > last)
        .map(|(block, _)| block)
}

/// Calls `touch` for each block that `mapper` has mapped pages of: what it used before anybody
/// looked. Whose page tables may not be read has none.
pub(crate) fn used_before(mapper: &Mapper, cut: Cut, touch: impl FnMut(usize)) {
    if let Ok(tables) = File::open(format!("/proc/{}/pagemap", mapper.pid)) {
        let now = mapped_pages(&tables, mapper, cut);
        grown(&vec![0; now.len()], &now).for_each(touch);
    }
}

/// Mapped pages per block. A process that has ended has none.
fn mapped_pages(tables: &File, mapper: &Mapper, cut: Cut) -> Vec<u64> {
    let mut pages = vec![0; cut.count()];
    let mut piece = vec![0; PIECE];
    for stretch in &mapper.stretches {
        let mut address = stretch.addresses.start;
        while address < stretch.addresses.end {
            let left = (stretch.addresses.end - address) / PAGE * ENTRY;
            let wanted = left.min(PIECE as u64) as usize;
            let at = address / PAGE * ENTRY;
            let read = tables.read_at(&mut piece[..wanted], at).unwrap_or(0);
            if read < ENTRY as usize {
                break;
            }
            let offset = stretch.offset + (address - stretch.addresses.start);
            for (index, entry) in piece[..read].chunks_exact(ENTRY as usize).enumerate() {
                // Entries are words of the machine, lowest byte first on all that we build for.
                if entry[7] & PRESENT != 0
                    && let Some(block) = cut.block(offset + index as u64 * PAGE)
                {
                    pages[block] += 1;
                }
            }
            address += (read as u64 / ENTRY) * PAGE;
        }
    }
    pages
}

#[cfg(test)]
mod tests {
    use super::super::cut::Stretch;
    use super::*;
    use std::fs;

    #[test]
    fn the_own_binary_is_mapped_in_part() {
        let path = fs::read_link("/proc/self/exe").expect("a link");
        let of = fs::metadata(&path).expect("a file");
        let file = super::super::mapped::Identity::new(&path, &of);
        let maps = fs::read_to_string("/proc/self/maps").expect("readable");
        let mapper = Mapper {
            pid: std::process::id(),
            started: 0,
            stretches: super::super::mapped::stretches(&maps, &file),
        };
        let cut = Cut::new(of.len(), 1 << 20);
        let mut used = Vec::new();
        used_before(&mapper, cut, |block| used.push(block));
        let mut reader = Reader::by_tables(mapper.clone(), cut).expect("the own tables");
        let mut again = Vec::new();
        reader.collect(cut, |block| again.push(block));
        assert!(!used.is_empty() && again.len() >= used.len());
        assert!(again.iter().all(|block| *block < cut.count()));
        // Nothing is mapped of a process that has ended, or where it has nothing.
        let nowhere = Mapper {
            stretches: vec![Stretch {
                addresses: 4096..1 << 20,
                offset: 0,
            }],
            ..mapper
        };
        reader.moved(nowhere, cut);
        reader.collect(cut, |block| panic!("block {block} of nowhere"));
    }
}
