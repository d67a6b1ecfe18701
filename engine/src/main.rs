//! The `larder` binary.
#![forbid(unsafe_code)]
use larder::session::*;
use std::sync::Arc;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let m = Arc::new(
        larder::manifest::Manifest::open(std::path::Path::new(&a[1]))
            .unwrap_or_else(|e| panic!("{e}")),
    );
    let prompt: Vec<u32> = a[2].split(',').map(|x| x.parse().expect("id")).collect();
    let fast = a.get(4).map(|x| x.parse().expect("n"));
    let isa = if a.get(5).map(|x| x == "ref").unwrap_or(false) {
        larder_cpu::Isa::Reference
    } else {
        larder_cpu::Isa::detect()
    };
    let mut s = Session::open(
        m,
        &SessionOptions {
            fast_bytes: fast,
            context: Some(a.get(6).map_or(256, |x| x.parse().expect("n"))),
            kv_type: None,
            isa,
            threads: 2,
            origin_limit: None,
        },
    )
    .unwrap_or_else(|e| panic!("{e}"));
    println!(
        "min {} space {} frames {}x{}",
        s.layout().needs().min_fast_bytes(),
        s.layout().space_bytes,
        s.layout().frames,
        s.layout().frame_bytes
    );
    let g = s
        .generate(
            &GenerateOptions {
                prompt: &prompt,
                count: a[3].parse().expect("n"),
                stop: &[],
            },
            |l| {
                Ok(l.iter()
                    .enumerate()
                    .fold(
                        (0, f32::MIN),
                        |b, (i, &v)| if v > b.1 { (i as u32, v) } else { b },
                    )
                    .0)
            },
            |_| true,
        )
        .unwrap_or_else(|e| panic!("{e}"));
    println!("{:?}", g);
    println!(
        "{:?} peak {} moved {}",
        s.stager().counters(),
        s.space().peak_bytes(),
        s.mover()
            .counters()
            .bytes
            .load(std::sync::atomic::Ordering::Relaxed)
    );
}
