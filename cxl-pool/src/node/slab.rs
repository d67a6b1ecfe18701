//! The table of objects: places with generations.

use crate::wire::ObjectHash;
use crate::wire::reply::Refusal;
use crate::wire::sums::Sums;
use larder_sys::lease::Scratch;
use larder_sys::space::Extent;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Objects that a node holds at most; their records are small, but not nothing.
const OBJECTS_MAX: usize = 1 << 17;

/// Who may free an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Content(ObjectHash),
    Lent { connection: u64 },
}

/// An object that can be read.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) len: u64,
    pub(super) sums: Arc<Sums>,
    pub(super) owner: Owner,
    pub(super) memory: Option<Arc<Scratch>>,
    pub(super) disk: Option<Arc<Extent>>,
    /// Names that keep it.
    pub(super) holders: u32,
    /// When it was used last, in uses of the table.
    pub(super) used: u64,
}

#[derive(Debug)]
enum Use {
    Free,
    Granted,
    Stored(Box<Object>),
}

#[derive(Debug)]
struct Place {
    generation: u32,
    holds: Use,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Slab {
    places: Vec<Place>,
    free: Vec<u32>,
    by_hash: HashMap<ObjectHash, u32>,
    /// Stored objects by last use.
    by_age: BTreeSet<(u64, u32)>,
    clock: u64,
    lent: u64,
}

impl Slab {
    /// A place for an object to come.
    pub(super) fn reserve(&mut self) -> Result<(u32, u32), Refusal> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.places.len() == OBJECTS_MAX => {
                let limit = OBJECTS_MAX as u64;
                return Err(Refusal::Limit { limit });
            }
            None => {
                self.places.push(Place {
                    generation: 1,
                    holds: Use::Free,
                });
                self.places.len() as u32 - 1
            }
        };
        let place = &mut self.places[index as usize];
        place.holds = Use::Granted;
        Ok((index, place.generation))
    }

    /// Stores the object for which the place was reserved.
    pub(super) fn fill(&mut self, index: u32, mut object: Object) {
        self.clock += 1;
        object.used = self.clock;
        self.by_age.insert((object.used, index));
        match object.owner {
            Owner::Content(hash) => {
                self.by_hash.insert(hash, index);
            }
            Owner::Lent { .. } => self.lent += 1,
        }
        let place = &mut self.places[index as usize];
        debug_assert!(matches!(place.holds, Use::Granted), "filled once");
        place.holds = Use::Stored(Box::new(object));
    }

    /// Frees a place; its capabilities are stale from now on.
    pub(super) fn release(&mut self, index: u32) {
        let place = &mut self.places[index as usize];
        if let Use::Stored(object) = std::mem::replace(&mut place.holds, Use::Free) {
            self.by_age.remove(&(object.used, index));
            match object.owner {
                Owner::Content(hash) => {
                    self.by_hash.remove(&hash);
                }
                Owner::Lent { .. } => self.lent -= 1,
            }
        }
        // A place whose generations are used up is not used again.
        if let Some(next) = place.generation.checked_add(1) {
            place.generation = next;
            self.free.push(index);
        }
    }

    pub(super) fn find(&self, hash: &ObjectHash) -> Option<u32> {
        self.by_hash.get(hash).copied()
    }

    /// The object at a place that is known to hold one, with the generation of the place.
    pub(super) fn object(&self, index: u32) -> (u32, &Object) {
        let place = &self.places[index as usize];
        let Use::Stored(object) = &place.holds else {
            unreachable!("names and hashes point at stored objects");
        };
        (place.generation, object)
    }

    pub(super) fn object_mut(&mut self, index: u32) -> &mut Object {
        let Use::Stored(object) = &mut self.places[index as usize].holds else {
            unreachable!("names and hashes point at stored objects");
        };
        object
    }

    /// The object of a capability, used now; `None` if it is no longer there.
    pub(super) fn touch(&mut self, index: u32, generation: u32) -> Option<&mut Object> {
        let place = self.places.get_mut(index as usize)?;
        let Use::Stored(object) = &mut place.holds else {
            return None;
        };
        if place.generation != generation {
            return None;
        }
        self.by_age.remove(&(object.used, index));
        self.clock += 1;
        object.used = self.clock;
        self.by_age.insert((object.used, index));
        Some(object)
    }

    /// The object used longest ago among those in memory that nobody reads and that `fit`.
    pub(super) fn oldest(&self, fit: impl Fn(&Object) -> bool) -> Option<u32> {
        let indices = self.by_age.iter().map(|&(_, index)| index);
        let mut idle = indices.filter(|&index| {
            let (_, object) = self.object(index);
            let is_idle = object
                .memory
                .as_ref()
                .is_some_and(|memory| Arc::strong_count(memory) == 1);
            is_idle && fit(object)
        });
        idle.next()
    }

    /// Places of what a connection lent.
    pub(super) fn lent_by(&self, connection: u64) -> Vec<u32> {
        if self.lent == 0 {
            return Vec::new();
        }
        let indices = self.by_age.iter().map(|&(_, index)| index);
        indices
            .filter(|&index| self.object(index).1.owner == Owner::Lent { connection })
            .collect()
    }

    /// Objects with a content name, and without.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.by_hash.len() as u64, self.lent)
    }
}
