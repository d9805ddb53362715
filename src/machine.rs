//! What Linux tells of this machine: processor, cores, memory. None where it does not tell, as on other systems.

/// The text of `/proc/cpuinfo`; empty where there is none.
pub fn cpuinfo() -> String {
    std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default()
}

/// The text of `/proc/meminfo`; empty where there is none.
pub fn meminfo() -> String {
    std::fs::read_to_string("/proc/meminfo").unwrap_or_default()
}

/// Hardware threads that this process may use.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Bytes that this process may still take: what is available, or less where a container allows less.
pub fn available_memory() -> Option<u64> {
    let available = kibibytes(&meminfo(), "MemAvailable");
    match (available, memory_limit()) {
        (Some(available), Some(limit)) => Some(available.min(limit)),
        (available, limit) => available.or(limit),
    }
}

/// Makes the process's peak of resident memory (`VmHWM`) count from now on; where that cannot be done it goes on
/// counting from the start.
pub fn forget_peak_memory() {
    // Not allowed in some containers: the peak is then the whole process's, never too small.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The value of the first `key : value` line of Linux' cpuinfo.
fn field<'a>(block: &'a str, key: &str) -> Option<&'a str> {
    block.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

/// The processor as it calls itself.
pub fn cpu_model(cpuinfo: &str) -> Option<String> {
    ["model name", "Model", "Hardware"].iter().find_map(|key| field(cpuinfo, key)).map(String::from)
}

/// Distinct (package, core) pairs of Linux' cpuinfo.
pub fn cores(cpuinfo: &str) -> Option<usize> {
    let mut cores: Vec<(&str, &str)> = cpuinfo
        .split("\n\n")
        .filter_map(|block| Some((field(block, "physical id")?, field(block, "core id")?)))
        .collect();
    cores.sort_unstable();
    cores.dedup();
    (!cores.is_empty()).then_some(cores.len())
}

/// A `Name:   123 kB` line of Linux' meminfo, in bytes.
pub fn kibibytes(meminfo: &str, key: &str) -> Option<u64> {
    field(meminfo, key)?.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The memory limit of the control group, versions 2 and 1; None where there is none.
pub fn memory_limit() -> Option<u64> {
    ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok())
        // Version 1 writes a number near 2^63 for "no limit".
        .filter(|&bytes| bytes < 1 << 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPUINFO: &str = "processor\t: 0\nmodel name\t: Test CPU @ 2.0GHz\nphysical id\t: 0\ncore id\t\t: 0\n\n\
                           processor\t: 1\nmodel name\t: Test CPU @ 2.0GHz\nphysical id\t: 0\ncore id\t\t: 0\n\n\
                           processor\t: 2\nmodel name\t: Test CPU @ 2.0GHz\nphysical id\t: 0\ncore id\t\t: 1\n";

    #[test]
    fn reads_what_linux_tells() {
        assert_eq!(cpu_model(CPUINFO).as_deref(), Some("Test CPU @ 2.0GHz"));
        assert_eq!(cores(CPUINFO), Some(2), "two threads of one core are one core");
        let meminfo = "MemTotal:       16 kB\nMemAvailable:    4 kB\n";
        assert_eq!(kibibytes(meminfo, "MemAvailable"), Some(4096));
    }

    #[test]
    fn says_so_where_it_knows_nothing() {
        assert_eq!((cpu_model(""), cores(""), kibibytes("", "MemTotal")), (None, None, None));
        assert_eq!(kibibytes("MemTotal: lots", "MemTotal"), None);
    }
}
