//! Sealed files: nothing opens but what was sealed, and contents that are read are written the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memoryrouter::keys::{Contents, Sealed};

fuzz_target!(|bytes: &[u8]| {
    let _ = Sealed::parse(bytes.to_vec());
    if let Ok(contents) = Contents::decode(bytes) {
        assert_eq!(&contents.encode()[..], bytes);
    }
});
