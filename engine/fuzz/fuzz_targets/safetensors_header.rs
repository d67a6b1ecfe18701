//! Opens any bytes as a file of a model folder.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    larder::manifest::fuzz::safetensors_header(data);
});
