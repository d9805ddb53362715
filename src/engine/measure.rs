//! What measuring needs of the host: a clock, and this process's memory.

use std::sync::OnceLock;
use std::time::Instant;

use super::MemoryUse;

/// Nanoseconds since the first call.
pub fn host_nanoseconds() -> u64 {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    BEGIN.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// Resident memory of this process as Linux counts it; None elsewhere.
pub fn process_memory() -> Option<MemoryUse> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').split_whitespace().next()?.parse().ok()
    };
    Some(MemoryUse { of: "process", now: 1024 * kib("VmRSS")?, peak: 1024 * kib("VmHWM")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_runs_and_memory_is_counted() {
        let before = host_nanoseconds();
        if let Some(memory) = process_memory() {
            assert!(memory.peak >= memory.now / 2 && memory.now > 1 << 20, "{memory:?}");
        }
        assert!(host_nanoseconds() > before);
    }
}
