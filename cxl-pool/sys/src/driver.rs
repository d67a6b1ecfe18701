//! Which driver this host gets.

use crate::file::SourceFile;
use crate::io::Driver;
use crate::pread::PreadDriver;
use crate::space::Space;
use crate::uring::UringDriver;
use std::sync::Arc;

/// The fastest driver that this host allows: io_uring, else a few threads that call pread.
pub fn open_driver(files: Vec<Arc<SourceFile>>, memory: &Arc<Space>) -> Box<dyn Driver> {
    let files: Arc<[Arc<SourceFile>]> = files.into();
    match UringDriver::new(Arc::clone(&files), Arc::clone(memory)) {
        Ok(driver) => Box::new(driver),
        Err(error) => Box::new(PreadDriver::new(
            &files,
            vec![format!("no io_uring ({error}): pread threads")],
        )),
    }
}
