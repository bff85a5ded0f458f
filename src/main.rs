//! The `memoryrouter` binary.

#![forbid(unsafe_code)]

/// The system's allocator maps and unmaps the buffers of large bodies anew each time: 512 KiB of body cost up to three
/// quarters more CPU with it, 1 KiB a twentieth.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    memoryrouter::cli::run()
}
