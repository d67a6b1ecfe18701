//! Models whose bytes are known: what every leased block is compared with.

use larder::layout::Needs;
use larder::manifest::Manifest;
use larder::manifest::packed::PackLayout;
use larder::session::{SessionOptions, resolve};
use larder_cpu::Isa;
use larder_pool::block::BlockSpec;
use larder_pool::checksum::sums_of;
use std::path::Path;
use std::sync::Arc;

/// Context of the simulated requests, in tokens.
const CONTEXT: usize = 512;

/// See the module.
pub(crate) struct Model {
    pub(crate) manifest: Manifest,
    pub(crate) needs: Needs,
    /// Bytes of its files.
    pub(crate) files: Vec<Arc<Vec<u8>>>,
    /// What leased blocks are compared with: the same bytes.
    truth: Vec<Arc<Vec<u8>>>,
    /// Each block as an object: what it is made of, and its bytes.
    pub(crate) packed: Vec<Arc<BlockSpec>>,
    pub(crate) objects: Vec<Arc<Vec<u8>>>,
    /// Checksums of each block.
    pub(crate) sums: Vec<Arc<[u32]>>,
}

impl Model {
    /// Opens a model of the repository.
    pub(crate) fn open(name: &str) -> Self {
        let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
        let path = assets.join(name);
        let manifest = Manifest::open(&path).expect("the model opens");
        let options = SessionOptions {
            fast_bytes: Some(1 << 30),
            context: Some(manifest.config.context.min(CONTEXT)),
            ..SessionOptions::plain(Isa::Reference, 1)
        };
        let (_, needs) = resolve(&manifest, &options).expect("it resolves");
        let files = vec![Arc::new(std::fs::read(&path).expect("it can be read"))];
        let packed = PackLayout::of(&manifest).specs;
        let mut model = Self {
            needs,
            truth: files.clone(),
            files,
            packed: packed.into_iter().map(Arc::new).collect(),
            objects: Vec::new(),
            sums: Vec::new(),
            manifest,
        };
        let blocks = 0..model.manifest.blocks.len();
        model.objects = blocks
            .clone()
            .map(|at| Arc::new(model.object(at)))
            .collect();
        model.sums = blocks
            .map(|at| sums_of(&model.packed[at], &model.objects[at]))
            .collect();
        model
    }

    /// Makes the truth a lie, one bit of every 4 KiB: a run that does not fail now never fails.
    pub(crate) fn spoil(&mut self) {
        for file in &mut self.truth {
            for page in Arc::make_mut(file).chunks_mut(4096) {
                page[page.len() / 2] ^= 1;
            }
        }
    }

    /// Parts of a block.
    pub(crate) fn parts(&self, block: usize) -> usize {
        self.manifest.blocks[block].spec.parts.len()
    }

    /// Bytes of a part.
    pub(crate) fn part(&self, block: usize, part: usize) -> &[u8] {
        let spec = &self.manifest.blocks[block].spec;
        let range = spec.parts[part];
        let run = spec.runs[usize::from(range.run)];
        let start = (run.offset + range.offset) as usize;
        &self.truth[run.file as usize][start..start + range.len as usize]
    }

    fn object(&self, block: usize) -> Vec<u8> {
        let spec = &self.packed[block];
        let mut bytes = vec![0; spec.runs[0].len as usize];
        for (part, range) in spec.parts.iter().enumerate() {
            let start = range.offset as usize;
            bytes[start..start + range.len as usize].copy_from_slice(self.part(block, part));
        }
        bytes
    }
}
