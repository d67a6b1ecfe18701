//! Opens any bytes as the configuration of a model folder.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    larder::manifest::fuzz::config_json(data);
});
