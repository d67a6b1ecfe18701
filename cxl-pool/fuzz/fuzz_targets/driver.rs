//! Answers any bytes to a client that reads.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    larder_pool::remote::fuzz::driver(data);
});
