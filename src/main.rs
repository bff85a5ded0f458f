//! The `memoryrouter` binary.

fn main() -> std::process::ExitCode {
    memoryrouter::cli::run()
}
