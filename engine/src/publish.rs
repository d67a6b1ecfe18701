//! Publishing: a model's blocks become objects of a memory node, named by their content.
//!
//! What the node has already is not sent again. The model has its name only when all of it is
//! there, so a load that is broken off leaves nothing that could be run.

use crate::manifest::packed::folder::{check_blocks, places, read_root};
use crate::manifest::packed::{PackLayout, PackedObject, PackedRoot, heads, read_range};
use crate::manifest::{Container, Manifest, ModelError};
use larder_pool::block::{BlockSpec, Run};
use larder_pool::checksum::sums_of;
use larder_pool::remote::{Client, ObjectHash, PutContent, RemoteError};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
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

/// The packed bytes of a block, or of rows of the embedding.
#[derive(Debug)]
pub struct Image<'a> {
    pub bytes: &'a [u8],
    pub hash: ObjectHash,
}

/// Shows the image of every object of a model to `put`, in their order; the root that names them.
pub fn each_image<E: From<ModelError>>(
    container: &Container,
    mut put: impl FnMut(Image<'_>) -> Result<(), E>,
) -> Result<PackedRoot, E> {
    let manifest = Manifest::from_container(container)?;
    let layout = PackLayout::of(&manifest);
    let mut objects = Vec::new();
    let mut show = |bytes: &[u8], sums: Arc<[u32]>| -> Result<(), E> {
        let hash = ObjectHash::of(bytes);
        put(Image { bytes, hash })?;
        let len = bytes.len() as u64;
        objects.push(PackedObject { hash, len, sums });
        Ok(())
    };
    for (block, spec) in manifest.blocks.iter().zip(&layout.specs) {
        let image = pack(container, &block.spec, spec)?;
        show(&image, sums_of(spec, &image))?;
    }
    let embedding = manifest.embedding();
    for &(row0, rows) in &layout.extra {
        let path = &container.files[embedding.file as usize].path;
        let offset = embedding.offset + row0 as u64 * embedding.row_bytes();
        let bytes = rows as u64 * embedding.row_bytes();
        let image = read_range(container, path, offset, bytes)?;
        show(&image, Arc::default())?;
    }
    let found = heads(container)?;
    Ok(PackedRoot {
        entry: found.entry,
        heads: found.heads,
        objects,
    })
}

/// Objects on their way to a node.
struct Sender<'a> {
    client: &'a Client,
    bytes: u64,
    sent_bytes: u64,
}

impl Sender<'_> {
    fn put(&mut self, hash: ObjectHash, image: &[u8]) -> Result<(), RemoteError> {
        let len = image.len() as u64;
        self.bytes += len;
        if self.client.put_named(hash, image)? == PutContent::Sent {
            self.sent_bytes += len;
        }
        Ok(())
    }

    /// Names the model, now that all of it is there.
    fn name(&self, name: &str, root: &PackedRoot) -> Result<Published, RemoteError> {
        let hash = self.client.put_object(&root.encode())?;
        let members: Vec<ObjectHash> = root.objects.iter().map(|object| object.hash).collect();
        self.client.set_name(name, hash, &members)?;
        Ok(Published {
            hash,
            objects: members.len() + 1,
            bytes: self.bytes,
            sent_bytes: self.sent_bytes,
        })
    }
}

/// Stores a model on a node under `name`; `step` hears of the bytes of each object.
pub fn publish(
    container: &Container,
    client: &Client,
    name: &str,
    mut step: impl FnMut(u64),
) -> Result<Published, PublishError> {
    let mut sender = Sender {
        client,
        bytes: 0,
        sent_bytes: 0,
    };
    let root = each_image(container, |image| -> Result<(), PublishError> {
        sender.put(image.hash, image.bytes)?;
        step(image.bytes.len() as u64);
        Ok(())
    })?;
    Ok(sender.name(name, &root)?)
}

/// As [`publish`], of a packed folder, whose objects are there already.
pub fn publish_packed(
    folder: &Path,
    client: &Client,
    name: &str,
    mut step: impl FnMut(u64),
) -> Result<Published, PublishError> {
    let root = read_root(folder)?;
    let (starts, len) = places(&root);
    let path = check_blocks(folder, len)?;
    let fail = |error| ModelError::io(&path, error);
    let file = File::open(&path).map_err(fail)?;
    let mut sender = Sender {
        client,
        bytes: 0,
        sent_bytes: 0,
    };
    let mut image = Vec::new();
    for (object, start) in root.objects.iter().zip(starts) {
        image.resize(object.len as usize, 0);
        file.read_exact_at(&mut image, start).map_err(fail)?;
        if ObjectHash::of(&image) != object.hash {
            let detail = format!("object {} is damaged; pack the model again", object.hash);
            return Err(ModelError::Packed { path, detail }.into());
        }
        sender.put(object.hash, &image)?;
        step(object.len);
    }
    Ok(sender.name(name, &root)?)
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
