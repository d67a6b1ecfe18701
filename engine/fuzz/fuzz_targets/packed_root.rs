//! Opens any bytes as the root object of a packed model.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    larder::manifest::fuzz::packed_root(data);
});
