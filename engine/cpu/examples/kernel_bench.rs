//! Speeds of the kernels, each as a share of a plain read of memory in the same run.
//!
//! `cargo run --release -p larder-cpu --example kernel_bench -- [threads] [isa]`
//!
//! Probe and kernel alternate over the same buffer, so that a busy neighbour slows both; the
//! ratio is of the medians.
#![expect(unsafe_code, reason = "madvise on the buffer")]

use half::f16;
use larder_cpu::{
    AttnRow, AttnShape, Class, Isa, KV_TOKENS, Kernels, KvShape, KvType, Matrix, Mode, Out, Pool,
    Rows, WeightType, isa,
};
use std::sync::Arc;
use std::time::Instant;

/// Bytes of weights per pass: larger than any cache here.
const BUFFER: usize = 512 << 20;
const COLS: usize = 4096;
const HUGE_PAGE: usize = 2 << 20;

/// A buffer on huge pages.
struct Buffer {
    bytes: Vec<u8>,
    first: usize,
}

impl Buffer {
    fn new(len: usize) -> Self {
        let mut bytes: Vec<u8> = Vec::with_capacity(len + HUGE_PAGE);
        let first = bytes.as_ptr().align_offset(HUGE_PAGE);
        // SAFETY: advice on memory of our own that nothing has touched yet.
        unsafe {
            let start = bytes.as_mut_ptr().add(first);
            libc::madvise(start.cast(), len, libc::MADV_HUGEPAGE);
        }
        bytes.resize(len + HUGE_PAGE, 0);
        Self { bytes, first }
    }

    fn bytes(&self, len: usize) -> &[u8] {
        &self.bytes[self.first..][..len]
    }

    /// Fills it with small valid numbers of `ty`.
    fn fill(&mut self, ty: WeightType) {
        let bytes = &mut self.bytes[self.first..];
        match ty {
            WeightType::F32 => bytes
                .as_chunks_mut::<4>()
                .0
                .iter_mut()
                .enumerate()
                .for_each(|(i, out)| *out = ((i % 251) as f32 / 251.0 - 0.5).to_le_bytes()),
            WeightType::F16 | WeightType::Bf16 => {
                let value = |i: usize| 0x3000_u16 + (i % 1021) as u16;
                let out = bytes.as_chunks_mut::<2>().0.iter_mut().enumerate();
                out.for_each(|(i, out)| *out = value(i).to_le_bytes());
            }
            WeightType::Q4K => {
                let scale = f16::from_f32(0.001).to_le_bytes();
                for (i, block) in bytes.as_chunks_mut::<144>().0.iter_mut().enumerate() {
                    *block = std::array::from_fn(|j| (i * 7 + j * 13) as u8);
                    block[..2].copy_from_slice(&scale);
                    block[2..4].copy_from_slice(&scale);
                }
            }
            WeightType::Q8_0 => {
                let scale = f16::from_f32(0.01).to_le_bytes();
                for (i, block) in bytes.as_chunks_mut::<34>().0.iter_mut().enumerate() {
                    *block = std::array::from_fn(|j| (i * 7 + j * 13) as u8);
                    block[..2].copy_from_slice(&scale);
                }
            }
        }
    }
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// CPU time that `f` took on all threads: what a busy neighbour cannot inflate.
fn cpu_seconds(f: impl FnOnce()) -> f64 {
    let now = || {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the kernel writes one timespec.
        unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
        time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
    };
    let start = now();
    f();
    now() - start
}

/// Times of one operation: by the clock, and on all threads together.
#[derive(Default)]
struct Samples {
    clock: Vec<f64>,
    cpu: Vec<f64>,
}

impl Samples {
    fn add(&mut self, f: impl FnOnce()) {
        let start = Instant::now();
        self.cpu.push(cpu_seconds(f));
        self.clock.push(start.elapsed().as_secs_f64());
    }

    fn medians(self) -> (f64, f64) {
        (median(self.clock), median(self.cpu))
    }
}

/// Quantised rows at an aligned address.
fn quantise(kernels: &Kernels, x: &[f32], cols: usize) -> (Vec<u8>, usize) {
    let len = x.len() / cols * Kernels::quantised_bytes(cols);
    let mut bytes = vec![0; len + 64];
    let first = bytes.as_ptr().align_offset(64);
    kernels.quantise(x, cols, &mut bytes[first..][..len]);
    (bytes, first)
}

/// Floats at an aligned address, as an engine's activation buffers are.
struct Floats {
    data: Vec<f32>,
    first: usize,
}

impl std::ops::Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.data[self.first..][..self.data.len() - 16]
    }
}

fn wave(count: usize) -> Floats {
    let mut data = vec![0.0; count + 16];
    let first = data.as_ptr().align_offset(64);
    for (i, x) in data[first..].iter_mut().enumerate() {
        *x = (i as f32 * 0.37).sin();
    }
    Floats { data, first }
}

fn step(kernels: &Kernels, buffer: &mut Buffer, ty: WeightType) {
    buffer.fill(ty);
    let row_bytes = ty.row_bytes(COLS);
    let rows = BUFFER / row_bytes;
    let bytes = buffer.bytes(rows * row_bytes);
    let matrix = Matrix::new(ty, rows, COLS, bytes).expect("whole rows");
    for m in [1, 2, 4, 8, 16] {
        let f32 = wave(m * COLS);
        let (q8, first) = quantise(kernels, &f32, COLS);
        let x = Rows {
            f32: &f32,
            q8: Some(&q8[first..][..q8.len() - 64]),
            rows: m,
            cols: COLS,
        };
        let mut y = vec![0.0; m * rows];
        let (mut probes, mut times) = (Samples::default(), Samples::default());
        for _ in 0..if m == 1 { 25 } else { 9 } {
            probes.add(|| {
                std::hint::black_box(kernels.read_probe(&[bytes]));
            });
            let mut out = Out {
                data: &mut y,
                stride: rows,
                col0: 0,
                mode: Mode::Store,
            };
            times.add(|| kernels.matmul(Class::Step, &matrix, &x, None, &mut out));
        }
        let ((probe, probe_cpu), (time, time_cpu)) = (probes.medians(), times.medians());
        let gb = bytes.len() as f64 / 1e9;
        println!(
            "step  {:5} m={m:<3} {:6.2} GB/s  probe {:6.2} GB/s  share {:.3}, of CPU time {:.3}",
            ty.name(),
            gb / time,
            gb / probe,
            probe / time,
            probe_cpu / time_cpu
        );
    }
}

fn chunk(kernels: &Kernels, buffer: &mut Buffer, ty: WeightType) {
    buffer.fill(ty);
    let rows = 4096;
    for cols in [2048, 4096, 11008] {
        let bytes = buffer.bytes(rows * ty.row_bytes(cols));
        let matrix = Matrix::new(ty, rows, cols, bytes).expect("whole rows");
        for m in [32, 128, 512] {
            let f32 = wave(m * cols);
            let (q8, first) = quantise(kernels, &f32, cols);
            let q8 = Some(&q8[first..][..q8.len() - 64]);
            let x = Rows {
                f32: &f32,
                q8,
                rows: m,
                cols,
            };
            let mut y = vec![0.0; m * rows];
            let samples = (0..5).map(|_| {
                let mut out = Out {
                    data: &mut y,
                    stride: rows,
                    col0: 0,
                    mode: Mode::Store,
                };
                cpu_seconds(|| kernels.matmul(Class::Chunk, &matrix, &x, None, &mut out))
            });
            let samples: Vec<f64> = samples.collect();
            let best = samples.iter().copied().fold(f64::MAX, f64::min);
            let flop = 2.0 * (m * rows * cols) as f64 / 1e9;
            println!(
                "chunk {:5} k={cols:<5} m={m:<3} {:6.1} GFLOP per CPU second (median {:6.1})",
                ty.name(),
                flop / best,
                flop / median(samples)
            );
        }
    }
}

fn attention_shape(kv: KvShape) -> AttnShape<'static> {
    AttnShape {
        heads: 32,
        kv,
        scale: 0.1,
        window: None,
        sinks: None,
    }
}

fn attention(kernels: &Kernels, ty: KvType, count: usize) {
    let kv = KvShape::new(8, 128, ty).expect("valid");
    let tokens = 4096;
    let slices: Vec<Vec<u8>> = (0..tokens / KV_TOKENS)
        .map(|_| vec![0; kv.slice_bytes()])
        .collect();
    let seq: Vec<&[u8]> = slices.iter().map(Vec::as_slice).collect();
    let shape = attention_shape(kv);
    let rows: Vec<AttnRow> = (tokens - count..tokens)
        .map(|position| AttnRow { seq: 0, position })
        .collect();
    let q = wave(count * 32 * 128);
    let mut out = vec![0.0; q.len()];
    let class = if count > 16 {
        Class::Chunk
    } else {
        Class::Step
    };
    let samples: Vec<f64> = (0..9)
        .map(|_| cpu_seconds(|| kernels.attention(class, &shape, &rows, &q, &[&seq], &mut out)))
        .collect();
    let best = samples.iter().copied().fold(f64::MAX, f64::min);
    let bytes = slices.len() * kv.slice_bytes();
    let flop = 4.0 * (count * tokens * 32 * 128) as f64;
    println!(
        "attn  {:5} m={count:<3} {:7.3} CPU ms; per CPU second {:6.2} GB of kv, {:6.1} GFLOP",
        ty.name(),
        best * 1e3,
        bytes as f64 / best / 1e9,
        flop / best / 1e9
    );
}

/// One step of a long text: KV of many layers, in slices as an engine keeps them, from memory.
fn long_attention(kernels: &Kernels, buffer: &Buffer, ty: KvType) {
    const LAYERS: usize = 16;
    for dim in [64, 128] {
        let kv = KvShape::new(8, dim, ty).expect("valid");
        let bytes = buffer.bytes(BUFFER);
        let slices: Vec<&[u8]> = bytes.chunks_exact(kv.slice_bytes()).collect();
        let of_layer = |layer| -> Vec<&[u8]> {
            let own = slices.iter().skip(layer).step_by(LAYERS);
            own.copied().take(slices.len() / LAYERS).collect()
        };
        let layers: Vec<Vec<&[u8]>> = (0..LAYERS).map(of_layer).collect();
        let position = layers[0].len() * KV_TOKENS - 1;
        let shape = attention_shape(kv);
        let q = wave(32 * dim);
        let mut out = vec![0.0; q.len()];
        let (mut probes, mut times) = (Samples::default(), Samples::default());
        for _ in 0..9 {
            probes.add(|| {
                std::hint::black_box(kernels.read_probe(&[bytes]));
            });
            times.add(|| {
                for layer in &layers {
                    let rows = [AttnRow { seq: 0, position }];
                    kernels.attention(Class::Step, &shape, &rows, &q, &[layer], &mut out);
                }
            });
        }
        let ((probe, _), (time, _)) = (probes.medians(), times.medians());
        println!(
            "attn  {:5} head of {dim:3}, {:5} tokens from memory {:6.2} GB/s  probe {:6.2} GB/s  \
             share {:.3}",
            ty.name(),
            position + 1,
            bytes.len() as f64 / time / 1e9,
            bytes.len() as f64 / probe / 1e9,
            probe / time
        );
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let threads = args.next().and_then(|arg| arg.parse().ok()).unwrap_or(2);
    let wanted = args.next().unwrap_or_default();
    let only = args.next().unwrap_or_default();
    let isa = Isa::ALL
        .into_iter()
        .find(|isa| isa.name() == wanted)
        .unwrap_or_else(Isa::detect);
    let kernels = Kernels::new(isa, Arc::new(Pool::new(threads))).expect("the CPU has it");
    println!(
        "{} with {threads} threads on {}",
        isa.name(),
        isa::cpu_flags()
    );
    let mut buffer = Buffer::new(BUFFER);
    for ty in [
        WeightType::Q8_0,
        WeightType::Q4K,
        WeightType::F16,
        WeightType::Bf16,
        WeightType::F32,
    ] {
        if only.is_empty() || only == "step" {
            step(&kernels, &mut buffer, ty);
        }
        if only.is_empty() || only == "chunk" {
            chunk(&kernels, &mut buffer, ty);
        }
    }
    if only.is_empty() || only == "attn" {
        for ty in [KvType::F32, KvType::F16, KvType::Q8] {
            for count in [1, 4, 128] {
                attention(&kernels, ty, count);
            }
            long_attention(&kernels, &buffer, ty);
        }
    }
}
