//! Sealed files: nothing opens but what was sealed, and contents that are written are read the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memoryrouter::keys::{Contents, Sealed};

fuzz_target!(|bytes: &[u8]| {
    let _ = Sealed::parse(bytes.to_vec());
    if let Ok(contents) = Contents::decode(bytes) {
        // A token's end is cut to its last four characters, and everything else is written as it was read.
        let written = contents.encode();
        assert!(written.len() <= bytes.len());
        assert_eq!(Contents::decode(&written), Ok(contents));
    }
});
