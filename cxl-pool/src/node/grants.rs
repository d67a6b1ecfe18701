//! What a connection has been granted and not committed: where data may still be written.

use super::store::Grant;
use crate::wire::capability::Capability;
use crate::wire::reply::Refusal;
use larder_sys::lease::Scratch;
use std::collections::{BTreeMap, HashMap};

/// Grants of one connection at a time.
const GRANTS_MAX: usize = 1024;
/// Separate ranges of one grant that have been written; neighbours join.
const RANGES_MAX: usize = 1024;

#[derive(Debug, PartialEq, Eq, Hash, Clone, Copy)]
pub(super) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    pub(super) const fn of(capability: &Capability) -> Self {
        Self {
            index: capability.extent,
            generation: capability.generation,
        }
    }
}

/// A grant without the memory that a receive in flight owns.
struct Open {
    grant: Option<Grant>,
    filled: Filled,
}

/// See the module.
#[derive(Default)]
pub(super) struct Grants(HashMap<Key, Open>);

impl Grants {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn check_room(&self) -> Result<(), Refusal> {
        if self.0.len() < GRANTS_MAX {
            return Ok(());
        }
        let limit = GRANTS_MAX as u64;
        Err(Refusal::Limit { limit })
    }

    pub(super) fn insert(&mut self, capability: &Capability, grant: Grant) {
        let open = Open {
            grant: Some(grant),
            filled: Filled::default(),
        };
        self.0.insert(Key::of(capability), open);
    }

    /// Takes the memory of a grant for `len` bytes at `offset`, each of which is written once.
    pub(super) fn begin_put(
        &mut self,
        capability: &Capability,
        offset: u64,
        len: u64,
    ) -> Result<Grant, Refusal> {
        let open = self.0.get_mut(&Key::of(capability));
        let open = open.ok_or(Refusal::Stale)?;
        let grant = open.grant.as_ref().ok_or(Refusal::Misuse)?;
        let end = offset.checked_add(len).ok_or(Refusal::Misuse)?;
        if end > grant.len || !open.filled.add(offset, end) {
            return Err(Refusal::Misuse);
        }
        let mut grant = open.grant.take().ok_or(Refusal::Misuse)?;
        grant.put_at = offset;
        Ok(grant)
    }

    /// Puts the memory of a grant back after a receive.
    pub(super) fn end_put(&mut self, key: Key, mut grant: Grant, scratch: Scratch) {
        grant.scratch = Some(scratch);
        if let Some(open) = self.0.get_mut(&key) {
            open.grant = Some(grant);
        }
    }

    /// Takes a grant whose every byte has been written.
    pub(super) fn take_whole(&mut self, capability: &Capability) -> Result<Grant, Refusal> {
        let key = Key::of(capability);
        let open = self.0.get(&key).ok_or(Refusal::Stale)?;
        let grant = open.grant.as_ref().ok_or(Refusal::Misuse)?;
        if !open.filled.is_whole(grant.len) {
            return Err(Refusal::Mismatch);
        }
        self.take(capability)
    }

    /// Takes a grant as it is.
    pub(super) fn take(&mut self, capability: &Capability) -> Result<Grant, Refusal> {
        let open = self.0.remove(&Key::of(capability)).ok_or(Refusal::Stale)?;
        open.grant.ok_or(Refusal::Misuse)
    }

    /// Takes everything, at the end of the connection.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Grant> {
        self.0.drain().filter_map(|(_, open)| open.grant)
    }
}

/// Ranges that have been written, by start.
#[derive(Debug, Default)]
struct Filled(BTreeMap<u64, u64>);

impl Filled {
    /// Adds a range; `false` if it overlaps one, or if there are too many.
    fn add(&mut self, start: u64, end: u64) -> bool {
        let before = self.0.range(..end).next_back().map(|(&s, &e)| (s, e));
        if before.is_some_and(|(_, end_before)| end_before > start) || self.0.len() == RANGES_MAX {
            return false;
        }
        let (mut start, mut end) = (start, end);
        if let Some((start_before, end_before)) = before
            && end_before == start
        {
            self.0.remove(&start_before);
            start = start_before;
        }
        if let Some(end_behind) = self.0.remove(&end) {
            end = end_behind;
        }
        self.0.insert(start, end);
        true
    }

    fn is_whole(&self, len: u64) -> bool {
        self.0.len() == 1 && self.0.get(&0) == Some(&len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_and_never_overlap() {
        let mut filled = Filled::default();
        assert!(filled.add(10, 20) && filled.add(0, 10) && filled.add(30, 40));
        assert!(!filled.add(5, 6) && !filled.add(15, 25) && !filled.add(39, 50));
        assert!(!filled.add(0, 100) && !filled.is_whole(40));
        assert!(filled.add(20, 30) && filled.is_whole(40));
        for at in 0..RANGES_MAX as u64 - 1 {
            assert!(filled.add(100 + 2 * at, 101 + 2 * at));
        }
        assert!(!filled.add(10_000, 10_001));
    }
}
