//! Opens any bytes as a GGUF file.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    larder::manifest::fuzz::gguf(data);
});
