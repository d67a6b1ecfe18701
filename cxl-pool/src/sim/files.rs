//! Files in memory, with what their places held before.

use crate::source::Source;
use larder_sys::file::FileError;
use larder_sys::io::{Errno, Seal};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Files that live in memory; clones share them.
#[derive(Clone, Debug)]
pub struct MemoryFiles(Arc<Mutex<Contents>>);

#[derive(Debug)]
struct Contents {
    files: Vec<Arc<Vec<u8>>>,
    /// What stood where something was written last, by file and offset.
    before: BTreeMap<(u32, u64), Vec<u8>>,
    /// Bytes that may still be written; `None` has no end.
    room: Option<u64>,
    /// What was sealed and not freed, by file and offset.
    sealed: BTreeMap<(u32, u64), Seal>,
    /// Times that it was told to forget something.
    freed: u64,
}

impl MemoryFiles {
    pub fn new(files: Vec<Vec<u8>>) -> Self {
        Self::shared(files.into_iter().map(Arc::new).collect())
    }

    /// Files that others have too; one that is written to becomes a copy.
    pub fn shared(files: Vec<Arc<Vec<u8>>>) -> Self {
        Self(Arc::new(Mutex::new(Contents {
            files,
            before: BTreeMap::new(),
            room: None,
            sealed: BTreeMap::new(),
            freed: 0,
        })))
    }

    /// A copy of `len` bytes of a file.
    pub fn bytes(&self, file: u32, offset: u64, len: u64) -> Vec<u8> {
        self.0.lock().files[file as usize][offset as usize..(offset + len) as usize].to_vec()
    }

    /// Lets `bytes` more be written; after that the tier is full.
    pub fn set_room(&self, bytes: u64) {
        self.0.lock().room = Some(bytes);
    }

    /// Changes one bit behind everybody's back.
    pub fn flip(&self, file: u32, offset: u64) {
        let mut contents = self.0.lock();
        Arc::make_mut(&mut contents.files[file as usize])[offset as usize] ^= 1;
    }

    /// What was sealed at `offset` and not freed since.
    pub fn sealed(&self, file: u32, offset: u64) -> Option<Seal> {
        self.0.lock().sealed.get(&(file, offset)).cloned()
    }

    /// Times that the tier was told to forget something, sealed or not.
    pub fn freed_count(&self) -> u64 {
        self.0.lock().freed
    }

    /// Objects that are sealed now.
    pub fn sealed_count(&self) -> usize {
        self.0.lock().sealed.len()
    }

    /// Bytes of a file from `offset` on.
    pub(super) fn len_behind(&self, file: u32, offset: u64) -> u64 {
        (self.0.lock().files[file as usize].len() as u64).saturating_sub(offset)
    }

    pub(super) fn read(&self, file: u32, offset: u64, target: &mut [u8]) {
        let contents = self.0.lock();
        let from = offset as usize;
        target.copy_from_slice(&contents.files[file as usize][from..from + target.len()]);
    }

    /// Reads what stood at `offset` before the last write there; `false` if nothing else did.
    pub(super) fn read_old(&self, file: u32, offset: u64, target: &mut [u8]) -> bool {
        let contents = self.0.lock();
        let Some(old) = contents.before.get(&(file, offset)) else {
            return false;
        };
        let from = offset as usize;
        let now = &contents.files[file as usize][from..from + target.len()];
        if old.len() < target.len() || &old[..target.len()] == now {
            return false;
        }
        target.copy_from_slice(&old[..target.len()]);
        true
    }

    /// How much of `len` bytes the tier has room for.
    pub(super) fn take_room(&self, len: usize) -> Result<usize, Errno> {
        let mut contents = self.0.lock();
        let Some(room) = contents.room.as_mut() else {
            return Ok(len);
        };
        if *room == 0 {
            return Err(Errno::ENOSPC);
        }
        let len = len.min(*room as usize);
        *room -= len as u64;
        Ok(len)
    }

    pub(super) fn write(&self, file: u32, offset: u64, bytes: &[u8]) {
        let mut contents = self.0.lock();
        let place = offset as usize..offset as usize + bytes.len();
        let old = contents.files[file as usize][place.clone()].to_vec();
        contents.before.insert((file, offset), old);
        Arc::make_mut(&mut contents.files[file as usize])[place].copy_from_slice(bytes);
    }

    pub(super) fn seal(&self, file: u32, offset: u64, seal: Seal) {
        self.0.lock().sealed.insert((file, offset), seal);
    }

    pub(super) fn free(&self, file: u32, offset: u64) {
        let mut contents = self.0.lock();
        contents.sealed.remove(&(file, offset));
        contents.freed += 1;
    }
}

impl Source for MemoryFiles {
    fn name(&self, file: u32) -> String {
        format!("simulated file {file}")
    }

    fn file_len(&self, file: u32) -> u64 {
        self.0.lock().files[file as usize].len() as u64
    }

    fn check(&self, _file: u32) -> Result<(), FileError> {
        Ok(())
    }
}
