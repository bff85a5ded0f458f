//! Configuration files: no text panics, and every refusal names a line.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use memoryrouter::config::Config;

fuzz_target!(|text: &str| {
    if let Err(error) = Config::parse(text, Path::new("memoryrouter.toml"), Path::new("/data")) {
        let said = error.to_string();
        assert!(said.contains("memoryrouter.toml:"), "{said}");
    }
});
