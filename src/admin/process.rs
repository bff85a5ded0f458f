//! What the system says of this process: descriptors and memory, from `/proc`. Nought where it does not say.

use std::fs;

use nix::sys::resource::{Resource, getrlimit};

/// Open descriptors, the one that counts them left out.
pub(super) fn descriptors() -> u64 {
    let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    (open as u64).saturating_sub(1)
}

/// How many it may have open.
pub(super) fn descriptors_max() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft)
}

/// Memory in use.
pub(super) fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
