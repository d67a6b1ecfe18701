//! Publishing: a model's blocks become objects of a memory node, named by their content.
//!
//! What the node has already is not sent again. The model has its name only when all of it is
//! there, so a load that is broken off leaves nothing that could be run.

use crate::manifest::packed::{PackLayout, PackedObject, PackedRoot, heads, read_range};
use crate::manifest::{Container, Manifest, ModelError};
use larder_pool::block::{BlockSpec, Run};
use larder_pool::checksum::sums_of;
use larder_pool::remote::{Client, ObjectHash, PutContent, RemoteError};
use std::sync::Arc;

/// A model could not be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

/// What came of a publication.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// Name of the root by its content.
    pub hash: ObjectHash,
    pub objects: usize,
    /// Bytes of all objects, and of those that the node did not have.
    pub bytes: u64,
    pub sent_bytes: u64,
}

/// Stores a model on a node under `name`; `step` hears of the bytes of each object.
pub fn publish(
    container: &Container,
    client: &Client,
    name: &str,
    mut step: impl FnMut(u64),
) -> Result<Published, PublishError> {
    let manifest = Manifest::from_container(container)?;
    let layout = PackLayout::of(&manifest);
    let mut objects = Vec::new();
    let (mut bytes, mut sent_bytes) = (0, 0);
    let mut put = |image: &[u8], sums: Arc<[u32]>| -> Result<(), PublishError> {
        let hash = ObjectHash::of(image);
        let len = image.len() as u64;
        bytes += len;
        if client.put_named(hash, image)? == PutContent::Sent {
            sent_bytes += len;
        }
        objects.push(PackedObject { hash, len, sums });
        step(len);
        Ok(())
    };
    for (block, spec) in manifest.blocks.iter().zip(&layout.specs) {
        let image = pack(container, &block.spec, spec)?;
        put(&image, sums_of(spec, &image))?;
    }
    let embedding = manifest.embedding();
    for &(row0, rows) in &layout.extra {
        let path = &container.files[embedding.file as usize].path;
        let offset = embedding.offset + row0 as u64 * embedding.row_bytes();
        let bytes = rows as u64 * embedding.row_bytes();
        let image = read_range(container, path, offset, bytes)?;
        put(&image, Arc::default())?;
    }
    let found = heads(container)?;
    let root = PackedRoot {
        entry: found.entry,
        heads: found.heads,
        objects,
    };
    let hash = client.put_object(&root.encode())?;
    let members: Vec<ObjectHash> = root.objects.iter().map(|object| object.hash).collect();
    client.set_name(name, hash, &members)?;
    Ok(Published {
        hash,
        objects: members.len() + 1,
        bytes,
        sent_bytes,
    })
}

/// The packed image of a block.
fn pack(
    container: &Container,
    stored: &BlockSpec,
    packed: &BlockSpec,
) -> Result<Vec<u8>, ModelError> {
    let mut image = vec![0; packed.runs[0].len as usize];
    for (from, to) in stored.parts.iter().zip(&packed.parts) {
        let Run { file, offset, .. } = stored.runs[usize::from(from.run)];
        let path = &container.files[file as usize].path;
        let part = &mut image[to.offset as usize..(to.offset + to.len) as usize];
        let read = container
            .source
            .read_exact_at(path, part, offset + from.offset);
        read.map_err(|e| ModelError::io(path, e))?;
    }
    Ok(image)
}
