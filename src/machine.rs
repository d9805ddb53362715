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

/// Makes this process's peak of resident memory (`VmHWM`) count from now on; where that cannot be done it goes on
/// counting from the start.
pub fn forget_peak_memory() {
    forget_peak_memory_of(std::process::id());
}

/// The same of another process of this user.
pub fn forget_peak_memory_of(process: u32) {
    // Not allowed in some containers: the peak is then the whole process's, never too small.
    let _ = std::fs::write(format!("/proc/{process}/clear_refs"), "5");
}

/// Bytes of a process's peak of resident memory.
pub fn peak_memory_of(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    kibibytes(&status, "VmHWM")
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

/// How much of the processors' time other processes take, from its making on.
#[derive(Debug, Clone)]
pub struct Others {
    own: Vec<u32>,
    begun: Option<Ticks>,
}

/// Clock ticks of all processors since the system started, and of some processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticks {
    total: u64,
    busy: u64,
    own: u64,
}

/// Fewer ticks than these tell nothing.
const FEWEST_TICKS: u64 = 20;

impl Others {
    /// Begins to count; this process and those of `own` are not others.
    pub fn than(own: &[u32]) -> Others {
        let mut own = own.to_vec();
        own.push(std::process::id());
        let begun = Ticks::now(&own);
        Others { own, begun }
    }

    /// Their share since then, 0 to 1; None where the system does not tell or too little time has gone by.
    pub fn share(&self) -> Option<f64> {
        Ticks::now(&self.own)?.others_since(&self.begun?)
    }
}

impl Ticks {
    fn now(own: &[u32]) -> Option<Ticks> {
        let read = |path: String| std::fs::read_to_string(path).ok();
        let (total, busy) = processors(&read("/proc/stat".into())?)?;
        let own = own.iter().map(|pid| process(&read(format!("/proc/{pid}/stat"))?));
        Some(Ticks { total, busy, own: own.sum::<Option<u64>>()? })
    }

    fn others_since(&self, then: &Ticks) -> Option<f64> {
        let total = self.total.checked_sub(then.total).filter(|&ticks| ticks >= FEWEST_TICKS)?;
        let own = self.own.checked_sub(then.own)?;
        let others = self.busy.checked_sub(then.busy)?.saturating_sub(own);
        Some((others as f64 / total as f64).min(1.0))
    }
}

/// Ticks of all processors, and those of them that were neither idle nor waiting, from `/proc/stat`.
fn processors(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are in user already.
    let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|word| word.parse().ok()).collect();
    let total: u64 = ticks.iter().sum();
    (ticks.len() >= 5).then(|| (total, total - ticks[3] - ticks[4]))
}

/// Ticks in which a process ran, all of its threads, from its `stat`. Its name, in brackets, may hold anything.
fn process(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_what_is_busy_and_not_ours() {
        let stat = "cpu  10 1 4 100 5 2 3 1 7 0\ncpu0 1 2 3 4 5\n";
        assert_eq!(processors(stat), Some((126, 21)));
        assert_eq!(processors("intr 5\n"), None);
        assert_eq!(process("12 (a) b) R 1 2 3 4 5 6 7 8 9 10 40 2 0"), Some(42));
        let ticks = |total, busy, own| Ticks { total, busy, own };
        assert_eq!(ticks(300, 190, 150).others_since(&ticks(100, 20, 10)), Some(0.15));
        assert_eq!(ticks(300, 190, 250).others_since(&ticks(100, 20, 10)), Some(0.0));
        assert_eq!(ticks(110, 25, 10).others_since(&ticks(100, 20, 10)), None);
        let none = Others { own: vec![], begun: None };
        assert_eq!(none.share(), None);
        assert!(Others::than(&[]).begun.is_some() || cfg!(not(target_os = "linux")));
    }

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
