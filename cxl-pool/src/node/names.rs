//! Names of content, and what each keeps.

use crate::wire::ObjectHash;
use crate::wire::header::BODY_MAX;
use crate::wire::reply::{NamedModel, Refusal};
use std::collections::BTreeMap;
use std::ops::Bound;

/// Names, and places that all of them keep, at most.
const NAMES_MAX: usize = 4096;
const KEPT_MAX: usize = 1 << 20;
/// Bytes of an entry in a reply besides its name.
const ENTRY_BYTES: usize = 1 + 32 + 8;

#[derive(Debug)]
struct Name {
    root: ObjectHash,
    /// Places of the root and of everything held, each once.
    kept: Vec<u32>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Names {
    names: BTreeMap<String, Name>,
    kept: usize,
}

impl Names {
    /// Sets a name; what its old meaning kept comes back. A refusal gives `kept` back.
    pub(super) fn set(
        &mut self,
        name: String,
        root: ObjectHash,
        kept: Vec<u32>,
    ) -> Result<Vec<u32>, (Vec<u32>, Refusal)> {
        let (limit, is_new) = (NAMES_MAX as u64, !self.names.contains_key(&name));
        if is_new && self.names.len() == NAMES_MAX {
            return Err((kept, Refusal::Limit { limit }));
        }
        if self.kept + kept.len() > KEPT_MAX {
            let limit = KEPT_MAX as u64;
            return Err((kept, Refusal::Limit { limit }));
        }
        self.kept += kept.len();
        let old = self.names.insert(name, Name { root, kept });
        let old = old.map(|name| name.kept).unwrap_or_default();
        self.kept -= old.len();
        Ok(old)
    }

    /// Removes a name; what it kept comes back.
    pub(super) fn remove(&mut self, name: &str) -> Option<Vec<u32>> {
        let kept = self.names.remove(name)?.kept;
        self.kept -= kept.len();
        Some(kept)
    }

    pub(super) fn get(&self, name: &str) -> Option<ObjectHash> {
        self.names.get(name).map(|name| name.root)
    }

    /// Names behind `after` that fit one reply; `bytes` says how much places hold.
    pub(super) fn list(&self, after: &str, bytes: impl Fn(&[u32]) -> u64) -> Vec<NamedModel> {
        let range = (Bound::Excluded(after), Bound::Unbounded);
        let mut room = BODY_MAX as usize;
        self.names
            .range::<str, _>(range)
            .take_while(|(name, _)| {
                let entry = ENTRY_BYTES + name.len();
                let fits = entry <= room;
                room = room.saturating_sub(entry);
                fits
            })
            .map(|(name, kept)| NamedModel {
                name: name.clone(),
                hash: kept.root,
                bytes: bytes(&kept.kept),
            })
            .collect()
    }
}
