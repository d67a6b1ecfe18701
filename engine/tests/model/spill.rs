//! KV that leaves the fast tier: the same bits, and a text that begins like one before.

use crate::support::{assets, generate, open, options, score_bits};
use larder::session::{LowerTier, SessionOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

fn spilling(folder: &Path, fast_bytes: u64) -> SessionOptions {
    SessionOptions {
        fast_bytes: Some(fast_bytes),
        lower: vec![LowerTier::Nvme {
            folder: folder.to_owned(),
            bytes: 64 << 20,
            limit: None,
        }],
        ..options()
    }
}

/// A copy of a model that says it was trained for a longer context.
fn with_context(model: &Path, folder: &Path, tokens: u32) -> std::path::PathBuf {
    let mut bytes = std::fs::read(model).expect("the model");
    let key = b"llama.context_length";
    let at = bytes.windows(key.len()).position(|found| found == key);
    // Behind the key stand the type of its value, a 32-bit number, and the value.
    let value = at.expect("the key") + key.len() + 4;
    bytes[value..value + 4].copy_from_slice(&tokens.to_le_bytes());
    let path = folder.join("long.gguf");
    std::fs::write(&path, bytes).expect("write");
    path
}

#[test]
fn ten_thousand_tokens_stream_through_a_tenth_of_their_kv() {
    let folder = tempfile::tempdir().expect("temp folder");
    let tokens = 10_000;
    let context = tokens + 64;
    let model = with_context(&assets().join("tiny/tiny-q8_0.gguf"), folder.path(), 16_384);
    let prompt: Vec<u32> = (0..tokens as u32)
        .map(|i| 3 + (i * 7 + i / 50) % 200)
        .collect();
    let long = |options| SessionOptions {
        context: Some(context),
        ..options
    };
    let mut free = open(&model, &long(options()));
    let made = generate(&mut free, &prompt, 32);
    let kv = free.layout().needs().kv.bytes_for(context);
    for is_device in [false, true] {
        let spill = folder.path().join(format!("spill-{is_device}"));
        let limited = SessionOptions {
            is_device,
            ..long(spilling(&spill, 1 << 30))
        };
        // The smallest tier holds the tails and two slices that stream: with those, a tenth.
        let session = open(&model, &limited);
        let needs = session.layout().needs();
        let tails = (needs.kv.layers as u64 + 2) * needs.kv.frame_bytes();
        let budget = needs.min_fast_bytes() - tails + kv / 10;
        drop(session);
        let fast_bytes = Some(budget);
        let mut session = open(
            &model,
            &SessionOptions {
                fast_bytes,
                ..limited
            },
        );
        assert!(
            generate(&mut session, &prompt, 32) == made,
            "device {is_device}"
        );
        assert!(session.space().peak_bytes() <= budget);
        let read = session.homes()[0].read;
        let bytes = session.path_use()[read.index()].bytes;
        // Every step reads nine tenths of it again.
        assert!(bytes > 20 * kv, "{bytes} of {kv}");
    }
}

#[test]
fn spilled_kv_changes_no_bit_under_any_budget() {
    for name in ["larder-story.gguf", "larder-story-moe.gguf"] {
        let folder = tempfile::tempdir().expect("temp folder");
        let model = assets().join(name);
        let prompt: Vec<u32> = (0..150).map(|i| 260 + (i * 11) % 240).collect();
        let mut free = open(&model, &options());
        let (scored, made) = (
            score_bits(&mut free, &prompt),
            generate(&mut free, &prompt, 40),
        );
        let spilling = |bytes| spilling(&folder.path().join("spill"), bytes);
        let least = open(&model, &spilling(1 << 30))
            .layout()
            .needs()
            .min_fast_bytes();
        for more in [0, 40, 200].map(|kib| kib << 10) {
            for prefill_rows in [Some(3), None] {
                for is_device in [false, true] {
                    let limited = SessionOptions {
                        is_device,
                        prefill_rows,
                        ..spilling(least + more)
                    };
                    let case = format!("{name} {more} {prefill_rows:?} {is_device}");
                    let mut session = open(&model, &limited);
                    assert!(score_bits(&mut session, &prompt) == scored, "score {case}");
                    // The second one begins like the first.
                    for _ in 0..2 {
                        assert!(
                            generate(&mut session, &prompt, 40) == made,
                            "generate {case}"
                        );
                    }
                    assert!(session.space().peak_bytes() <= least + more, "{case}");
                }
            }
        }
    }
}

#[test]
fn a_clean_stop_keeps_the_kv_of_prompts_and_a_kill_does_not() {
    let folder = tempfile::tempdir().expect("temp folder");
    let model = assets().join("larder-story.gguf");
    let prompt: Vec<u32> = (0..200).map(|i| 260 + (i * 11) % 240).collect();
    let spilling = spilling(folder.path(), 3 << 20);
    let reused = |prompt: &[u32], is_clean: bool| {
        let mut session = open(&model, &spilling);
        let options = larder::session::GenerateOptions {
            prompt,
            count: 20,
            stop: &[],
        };
        let pick = |row: &mut [f32]| Ok(larder::sample::argmax(row));
        let made = session
            .generate(&options, pick, |_| true)
            .expect("generates");
        if is_clean {
            session.close().expect("closes");
        }
        (made.reused, made.tokens)
    };
    let (none, tokens) = reused(&prompt, true);
    assert_eq!(none, 0);
    assert_eq!(
        reused(&prompt, true),
        (192, tokens.clone()),
        "the whole prompt"
    );
    let mut other = prompt.clone();
    other[100] = 5;
    assert_eq!(reused(&other, true).0, 64, "up to where they part");
    assert_eq!(
        reused(&prompt, false),
        (192, tokens.clone()),
        "several are kept"
    );
    assert_eq!(
        reused(&prompt, true),
        (0, tokens),
        "nobody said it was clean"
    );
}

#[test]
fn one_folder_serves_one_session() {
    let folder = tempfile::tempdir().expect("temp folder");
    let model = assets().join("larder-story.gguf");
    let options = spilling(folder.path(), 3 << 20);
    let _first = open(&model, &options);
    let manifest = std::sync::Arc::new(larder::manifest::Manifest::open(&model).expect("opens"));
    let Err(error) = larder::session::Session::open(manifest, &options) else {
        panic!("the folder is in use");
    };
    let pid = std::process::id().to_string();
    assert!(error.to_string().contains(&pid), "{error}");
}

/// A disk that gives other bytes, or those that stood there before, changes no token: KV that is
/// found damaged is computed again.
#[test]
fn a_spill_that_changes_under_the_run_changes_no_token() {
    let model = assets().join("larder-story.gguf");
    let prompt: Vec<u32> = (0..150).map(|i| 260 + (i * 11) % 240).collect();
    let mut free = open(&model, &options());
    let made = generate(&mut free, &prompt, 60).0;
    for is_old in [false, true] {
        let folder = tempfile::tempdir().expect("temp folder");
        let limited = spilling(folder.path(), 1 << 30);
        let least = open(&model, &limited).layout().needs().min_fast_bytes();
        let mut session = open(&model, &spilling(folder.path(), least));
        let file = folder.path().join("data");
        // What stands there is of another text.
        let other: Vec<u32> = (0..150).map(|i| 300 + (i * 5) % 200).collect();
        generate(&mut session, &other, 20);
        let old = std::fs::read(&file).expect("the spill");
        let (mut count, mut spoilt) = (0, 0);
        let options = larder::session::GenerateOptions {
            prompt: &prompt,
            count: 60,
            stop: &[],
        };
        let pick = |row: &mut [f32]| Ok(larder::sample::argmax(row));
        let told = session.generate(&options, pick, |_| {
            count += 1;
            if count == 10 || count == 30 {
                let now = std::fs::read(&file).expect("the spill");
                let disk = std::fs::OpenOptions::new().write(true).open(&file);
                let disk = disk.expect("the disk");
                let pages = now.chunks(4096).zip(old.chunks(4096)).enumerate();
                for (index, (page, old)) in pages.filter(|(_, (page, old))| page != old) {
                    spoilt += 1;
                    let mut wrong = page.to_vec();
                    wrong[100] ^= 4;
                    let bytes = if is_old { old } else { &wrong };
                    disk.write_all_at(bytes, index as u64 * 4096)
                        .expect("the disk");
                }
                disk.sync_all().expect("the disk");
            }
            true
        });
        let told = told.expect("generates");
        assert!(spoilt > 0, "old {is_old}");
        assert!(told.tokens == made, "old {is_old}");
        assert!(told.losses > 0 && told.recomputed > 0, "old {is_old}");
    }
}
