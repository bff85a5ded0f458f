//! The `memoryrouter` binary.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    memoryrouter::cli::run()
}
