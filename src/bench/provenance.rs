//! Where and when a measurement was made: the first columns of a speed record.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::engine::EngineInfo;
use crate::machine;

/// Where and when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance {
    /// Today (UTC), `2026-11-25`.
    pub date: String,
    /// Short hash of the checkout that the program is run in, `-dirty` behind it where files differ; empty elsewhere.
    pub commit: String,
    /// The name given, or one made of the processor's.
    pub machine: String,
}

impl Provenance {
    /// Of this run. `SONGRNN_COMMIT` stands in the place of what git says.
    pub fn here(machine: Option<&str>) -> Provenance {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Provenance {
            date: date(seconds),
            commit: std::env::var("SONGRNN_COMMIT").ok().or_else(commit).unwrap_or_default(),
            machine: machine.map_or_else(machine_name, String::from),
        }
    }
}

/// The version of NVIDIA's kernel driver, where an engine runs on a GPU; empty elsewhere.
pub fn driver_version(info: &EngineInfo) -> String {
    if info.name != "cuda" || info.device.name.starts_with("emulated") {
        return String::new();
    }
    std::fs::read_to_string("/sys/module/nvidia/version")
        .map_or(String::new(), |text| text.trim().to_string())
}

/// Only of this program's own repository: another one's commit would mislead.
fn commit() -> Option<String> {
    let git = |arguments: &[&str]| -> Option<String> {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    let top = git(&["rev-parse", "--show-toplevel"])?;
    let manifest = std::fs::read_to_string(std::path::Path::new(&top).join("Cargo.toml")).ok()?;
    if !manifest.contains("name = \"songrnn-fast\"") {
        return None;
    }
    let hash = git(&["rev-parse", "--short", "HEAD"])?;
    let differs =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
    Some(if differs { hash + "-dirty" } else { hash })
}

/// `intel-xeon-processor-2c`: the processor's model and how many threads may be used.
fn machine_name() -> String {
    slug(&machine::cpu_model(&machine::cpuinfo()).unwrap_or("unknown".into()), machine::threads())
}

fn slug(model: &str, threads: usize) -> String {
    let model = model.to_lowercase().replace("(r)", " ").replace("(tm)", " ");
    let kept = model.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let words: Vec<&str> = kept.take_while(|word| *word != "with").collect();
    format!("{}-{threads}c", words.join("-"))
}

/// A day of the Gregorian calendar from seconds since 1970 (Howard Hinnant, "chrono-compatible low-level date
/// algorithms": eras of 400 years that begin in March).
fn date(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted() {
        for (seconds, day) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_735_689_599, "2024-12-31"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(date(seconds), day);
        }
    }

    #[test]
    fn a_processor_has_a_name_for_a_folder() {
        assert_eq!(slug("AMD EPYC 7B13 64-Core Processor", 2), "amd-epyc-7b13-64-core-processor-2c");
        assert_eq!(slug("Intel(R) Xeon(R) Processor", 2), "intel-xeon-processor-2c");
        let name = machine_name();
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{name}");
    }
}
