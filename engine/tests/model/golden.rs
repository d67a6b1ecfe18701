//! Every model of the repository against the outputs of our own PyTorch reference.

use crate::support::{Golden, generate, models, open, options, score_bits};
use larder::session::SessionOptions;
use larder_cpu::{Isa, KvType};

/// Largest and root mean square difference of the logits of every position.
fn apart(found: &[u32], golden: &[f32]) -> (f64, f64) {
    assert_eq!(found.len(), golden.len());
    let (mut most, mut squares) = (0.0f64, 0.0);
    for (&bits, &golden) in found.iter().zip(golden) {
        let apart = f64::from(f32::from_bits(bits) - golden).abs();
        most = most.max(apart);
        squares += apart * apart;
    }
    (most, (squares / golden.len() as f64).sqrt())
}

#[test]
fn reference_kernels_give_the_golden_logits_and_ids() {
    let on_both = |(name, path)| [(name, path, false), (name, path, true)];
    let models = models();
    for (name, path, is_device) in models.iter().flat_map(|(name, path)| on_both((name, path))) {
        let golden = Golden::read(name);
        let mut options = options();
        (options.isa, options.kv_type) = (Isa::Reference, Some(KvType::F32));
        options.is_device = is_device;
        let mut session = open(path, &options);
        let (most, _) = apart(&score_bits(&mut session, &golden.prompt), &golden.logits);
        println!(
            "{name} {is_device}: reference {most:.1e} of {:.1e}",
            golden.tolerance
        );
        assert!(most <= golden.tolerance, "{name}: {most}");
        let (ids, _) = generate(&mut session, &golden.prompt, golden.greedy.len());
        let decided = golden.decided(golden.tolerance);
        assert_eq!(&ids[..decided.len()], decided, "{name}");
    }
}

#[test]
fn every_fast_kernel_stays_within_its_tolerance() {
    for isa in Isa::available()
        .into_iter()
        .filter(|&isa| isa != Isa::Reference)
    {
        for (name, path) in models() {
            let golden = Golden::read(name);
            let mut session = open(&path, &SessionOptions { isa, ..options() });
            let (most, rms) = apart(&score_bits(&mut session, &golden.prompt), &golden.logits);
            let (allowed, allowed_rms) = golden.tolerance_fast;
            println!(
                "{name} {}: {most:.1e} of {allowed:.1e}, rms {rms:.1e}",
                isa.name()
            );
            // KV in float16 adds its own rounding to models whose weights are not float32.
            let kv = if name == "tiny-f32" || name == "tiny-folder" {
                0.0
            } else {
                4e-3
            };
            assert!(
                most <= allowed + kv && rms <= allowed_rms + kv,
                "{name}: {most} {rms}"
            );
            let (ids, _) = generate(&mut session, &golden.prompt, golden.greedy.len());
            let decided = golden.decided(allowed + kv);
            assert_eq!(&ids[..decided.len()], decided, "{name} {}", isa.name());
        }
    }
}

/// Each KV type against float32 KV, on naive kernels so that nothing else differs.
#[test]
fn another_kv_type_changes_little() {
    for (name, path) in models() {
        let golden = Golden::read(name);
        for (kv_type, allowed) in [(KvType::F16, 0.02), (KvType::Q8, 0.3)] {
            let options = SessionOptions {
                isa: Isa::Reference,
                kv_type: Some(kv_type),
                ..options()
            };
            let manifest =
                std::sync::Arc::new(larder::manifest::Manifest::open(&path).expect("opens"));
            match larder::session::Session::open(manifest, &options) {
                Ok(mut session) => {
                    let bits = score_bits(&mut session, &golden.prompt);
                    let (most, _) = apart(&bits, &golden.logits);
                    assert!(
                        most > 0.0 && most < allowed,
                        "{name} {}: {most}",
                        kv_type.name()
                    );
                }
                // Heads of 16 elements are no whole blocks of 32.
                Err(error) => assert!(error.to_string().contains("32"), "{name}: {error}"),
            }
        }
    }
}
