//! The `memoryrouter` binary.

fn main() {}
