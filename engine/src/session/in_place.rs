//! What a session reads in place: the memory of nodes on this host.

use crate::home::Home;
use crate::manifest::{Manifest, Origin};
use crate::session::nodes::Nodes;
use crate::session::{Session, SessionError, SessionOptions};
use larder_pool::remote::Placed;
use std::sync::Arc;

/// The model in the memory of a node on this host, if kernels may read it there: a device does not
/// reach it, and a limit stands for a link that would have to carry it.
pub(super) fn place(
    manifest: &Manifest,
    options: &SessionOptions,
    nodes: &Nodes,
) -> Result<Option<Arc<Placed>>, SessionError> {
    let Origin::Objects(hashes) = &manifest.origin else {
        return Ok(None);
    };
    let is_limited = options.origin_limit.or(options.fast_limit).is_some();
    if options.is_device || is_limited {
        return Ok(None);
    }
    for link in nodes.origins.iter().map(|&node| &nodes.links[node]) {
        if link.limit.is_some() {
            continue;
        }
        let source = link.client.source(hashes)?;
        if let Some(placed) = link.client.place(&source)? {
            return Ok(Some(placed));
        }
    }
    Ok(None)
}

impl Session {
    /// Bytes of weights that homes keep where kernels read them.
    pub fn placed_room(&self) -> u64 {
        let kv = self.layout.needs().kv.bytes_for(self.resolved.context);
        let placed = self.homes.list.iter().filter(|home| home.is_placed);
        placed.map(|home| home.placed_room(kv)).sum()
    }

    /// What the fast tier does not hold is read in place, all of it once it has gone home.
    pub fn reads_all_in_place(&self) -> bool {
        let room = self.placed_room();
        let streamed = self.layout.streamed();
        let bytes = streamed.map(|block| self.stager.supply().bytes(block));
        self.layout.needs().is_placed || (room > 0 && bytes.sum::<u64>() <= room)
    }

    /// Steps wait for no link.
    pub fn streams_nothing(&self) -> bool {
        self.layout.all_stay() || self.reads_all_in_place()
    }

    /// What is read of a home comes over its link.
    pub(super) fn is_linked(&self, home: &Home) -> bool {
        let kv = &self.layout.needs().kv;
        let slices = kv.blocks_for(self.resolved.context) * kv.layers;
        let kv_may_leave = slices > self.layout.kv_frames(0);
        !home.is_origin && (!home.is_placed || kv_may_leave)
    }
}
