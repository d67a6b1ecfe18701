//! One check for every file of a disk tier.

use super::*;
use crate::mapping::Mapping;
use crate::space::Space;

const LEN: u64 = 5 << 20;

#[test]
fn what_is_written_is_read_by_several_threads() {
    let folder = tempfile::tempdir().expect("temp folder");
    let unnamed = || tempfile::tempfile_in(folder.path()).expect("temp file");
    let (best, notes) = open(folder.path()).expect("opens");
    if best.name() == "pread" {
        println!("skipped: io_uring refused here ({notes:?})");
    }
    let files: [Box<dyn TierFile>; 2] = [best, Box::new(plain::PlainFile::new(unnamed()))];
    let space = Space::mapped(Mapping::new(16 * LEN).expect("memory"));
    let scratch = || Scratch::new(space.alloc_low(LEN).expect("room"));
    for file in &files {
        std::thread::scope(|scope| {
            for index in 0..4u64 {
                let scratch = &scratch;
                scope.spawn(move || {
                    let mut object = scratch();
                    for (at, byte) in object.bytes_mut().iter_mut().enumerate() {
                        *byte = (at as u64 * (index + 3) / 7) as u8;
                    }
                    let object = Arc::new(object);
                    let write = file.write(index * LEN, Arc::clone(&object));
                    write.expect("written");
                    let (back, outcome) = file.read(index * LEN, scratch());
                    outcome.expect("read");
                    assert!(back.bytes() == object.bytes());
                    assert_eq!(Arc::strong_count(&object), 1, "nothing keeps the source");
                });
            }
        });
        let (_, outcome) = file.read(100 * LEN, scratch());
        assert!(outcome.is_err(), "there is nothing");
    }
    assert_eq!(space.used_bytes(), 0);
}
