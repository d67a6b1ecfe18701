//! Says any bytes to a node.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    larder_pool::node::fuzz::session(data);
});
