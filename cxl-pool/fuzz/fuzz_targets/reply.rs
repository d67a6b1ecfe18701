//! Reads any bytes as a frame of a node.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut data = data.to_vec();
    larder_pool::wire::fuzz::mend(&mut data);
    larder_pool::wire::fuzz::reply(&data);
});
