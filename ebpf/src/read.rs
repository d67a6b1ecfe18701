//! Reading what is counted, with descriptors that cannot write.

use aya::maps::{Map as AyaMap, MapData, RingBuf};
use larder_abi::{
    Event, HEAT_ARRAYS, HeatEntry, IoLatency, Plain, Region, Settings, TIERS, TierStats,
};
use larder_sys::bpf::{Access, Map};
use nix::errno::Errno;

use crate::error::ReadError;
use crate::pins::{Pins, heat_name};

/// Entries read of one array, at most.
const ENTRIES_MAX: u64 = 1 << 24;

/// How long a block device takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceLatency {
    pub major: u32,
    pub minor: u32,
    pub latency: IoLatency,
}

/// The pinned maps, opened for reading.
#[derive(Debug)]
pub struct Heat {
    pins: Pins,
    regions: Map,
    tiers: Map,
    latency: Map,
    settings: Map,
}

impl Heat {
    pub fn open(pins: &Pins) -> Result<Self, ReadError> {
        pins.check_version()?;
        let open = |name, bytes| pins.open(name, bytes, Access::Read);
        Ok(Self {
            pins: pins.clone(),
            regions: open("regions", Region::BYTES)?,
            tiers: open("tier_stats", TierStats::BYTES)?,
            latency: open("io_latency", IoLatency::BYTES)?,
            settings: open("settings", Settings::BYTES)?,
        })
    }

    pub fn settings(&self) -> Result<Settings, ReadError> {
        self.value("settings", &self.settings, 0)
    }

    /// Entries that each heat array has.
    pub fn capacity(&self) -> Result<u64, ReadError> {
        let map = self
            .pins
            .open(&heat_name(0), HeatEntry::BYTES, Access::Read)?;
        Ok(u64::from(map.info().entries))
    }

    /// Whether probes add to the maps. Who may not look into the folder of links is told that they
    /// do.
    pub fn is_counting(&self) -> bool {
        match std::fs::read_dir(self.pins.links()) {
            Ok(mut links) => links.next().is_some(),
            Err(error) => error.kind() == std::io::ErrorKind::PermissionDenied,
        }
    }

    /// All claims, by heat array; one that was never made is zero.
    pub fn regions(&self) -> Result<Vec<Region>, ReadError> {
        let regions = (0..HEAT_ARRAYS).map(|array| self.value("regions", &self.regions, array));
        regions.collect()
    }

    /// Entries of heat array `array` that its region has in use, whatever its owner wrote there.
    pub fn entries(&self, array: u32) -> Result<Vec<HeatEntry>, ReadError> {
        let region: Region = self.value("regions", &self.regions, array)?;
        let name = heat_name(array);
        let map = self.pins.open(&name, HeatEntry::BYTES, Access::Read)?;
        let count = region
            .block_count
            .min(u64::from(map.info().entries))
            .min(ENTRIES_MAX);
        let entries = (0..count as u32).map(|entry| self.value(&name, &map, entry));
        entries.collect()
    }

    /// Heat of the model with this manifest, summed over the arrays that its engines had, by block
    /// from `block_first` of the first of them on. Arrays with another cut are left out.
    pub fn of_model(&self, manifest: [u64; 4]) -> Result<Vec<HeatEntry>, ReadError> {
        let regions = self.regions()?;
        let mut merged: Vec<HeatEntry> = Vec::new();
        let mut cut = None;
        for (array, region) in (0..).zip(&regions) {
            let own = (region.block_first, region.block_count);
            if region.manifest != manifest || region.generation == 0 || cut.unwrap_or(own) != own {
                continue;
            }
            cut = Some(own);
            let entries = self.entries(array)?;
            merged.resize(entries.len(), HeatEntry::default());
            for (sum, entry) in merged.iter_mut().zip(entries) {
                let seen_ns = sum.seen_ns.max(entry.seen_ns);
                *sum = add(*sum, entry);
                sum.seen_ns = seen_ns;
            }
        }
        Ok(merged)
    }

    /// Counters of every tier, summed over processors.
    pub fn tiers(&self) -> Result<[TierStats; TIERS as usize], ReadError> {
        let processors = aya::util::nr_cpus().map_or(1, |count| count as u32);
        let mut sums = [TierStats::default(); TIERS as usize];
        for (tier, sum) in (0..TIERS).zip(&mut sums) {
            let mut bytes = vec![0; processors as usize * TierStats::BYTES];
            let key = tier.to_ne_bytes();
            let found = self.tiers.lookup(&key, &mut bytes, processors);
            found.map_err(|errno| self.error("tier_stats", errno))?;
            for own in bytes.chunks_exact(TierStats::BYTES).map(TierStats::get) {
                *sum = add(*sum, own);
            }
        }
        Ok(sums)
    }

    /// Histograms of all devices that were used.
    pub fn latency(&self) -> Result<Vec<DeviceLatency>, ReadError> {
        let mut devices = Vec::new();
        let mut key = [0; 4];
        let mut before: Option<[u8; 4]> = None;
        loop {
            let next = self
                .latency
                .next_key(before.as_ref().map(<[u8; 4]>::as_slice), &mut key);
            if !next.map_err(|errno| self.error("io_latency", errno))? {
                return Ok(devices);
            }
            let device = u32::from_ne_bytes(key);
            let latency = self.value("io_latency", &self.latency, device)?;
            devices.push(DeviceLatency {
                major: device >> 20,
                minor: device & 0xf_ffff,
                latency,
            });
            before = Some(key);
        }
    }

    fn value<T: Plain>(&self, name: &str, map: &Map, key: u32) -> Result<T, ReadError> {
        let mut bytes = vec![0; T::BYTES];
        let found = map.lookup(&key.to_ne_bytes(), &mut bytes, 1);
        found.map_err(|errno| self.error(name, errno))?;
        Ok(T::get(&bytes))
    }

    fn error(&self, name: &str, errno: Errno) -> ReadError {
        ReadError::Call {
            path: self.pins.map(name),
            errno,
        }
    }
}

/// Word by word; counters may wrap, sums of nonsense must not stop a reader.
fn add<T: Plain>(a: T, b: T) -> T {
    let mut sums = vec![0; T::BYTES];
    let (mut left, mut right) = (sums.clone(), sums.clone());
    a.put(&mut left);
    b.put(&mut right);
    for (sum, (a, b)) in sums
        .chunks_exact_mut(8)
        .zip(left.chunks(8).zip(right.chunks(8)))
    {
        u64::get(a).wrapping_add(u64::get(b)).put(sum);
    }
    T::get(&sums)
}

/// The ring buffer of rare events; it has one reader, so its pin belongs to the owner alone.
pub struct Events {
    ring: RingBuf<MapData>,
}

impl Events {
    pub fn open(pins: &Pins) -> Result<Self, ReadError> {
        pins.check_version()?;
        let path = pins.map("events");
        let foreign = || ReadError::Foreign { path: path.clone() };
        let map = Map::open(&path, Access::ReadWrite)
            .map_err(|errno| ReadError::of_open(path.clone(), errno))?;
        let data = MapData::from_fd(map.into_fd()).map_err(|_| foreign())?;
        let map = AyaMap::from_map_data(data).map_err(|_| foreign())?;
        let ring = RingBuf::try_from(map).map_err(|_| foreign())?;
        Ok(Self { ring })
    }
}

impl Iterator for Events {
    type Item = Event;

    /// The next event, if one has happened; it does not wait.
    fn next(&mut self) -> Option<Event> {
        let record = self.ring.next()?;
        let bytes: &[u8] = &record;
        (bytes.len() >= Event::BYTES).then(|| Event::get(&bytes[..Event::BYTES]))
    }
}
