//! The compiled kernels inside this binary, and which of them a device runs.
//!
//! `build.rs` compiles each `kernels/NAME.cu` into machine code (a cubin) for every architecture and into one PTX. A cubin
//! runs on devices of its own major version with the same or a higher minor one; PTX is compiled by the driver and runs on
//! all later devices.

include!(concat!(env!("OUT_DIR"), "/kernel_images.rs"));

/// The oldest device that any kernel is written for (Ampere: bf16 and asynchronous copies).
pub const OLDEST_DEVICE: (i32, i32) = (8, 0);

/// One kernel file compiled for one architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    /// Name of the source without `.cu`, as `recurrent_forward_lstm`.
    pub file: &'static str,
    /// `sm_90a` for a cubin, or `ptx`.
    pub arch: &'static str,
    /// What `cuModuleLoadData` takes: a fat binary that holds this one image, compressed.
    pub bytes: &'static [u8],
}

/// A fat binary begins with words of 8 bytes.
#[allow(dead_code)] // Not used in a binary without kernels.
#[repr(C, align(16))]
struct Aligned<const N: usize>([u8; N]);

impl Image {
    /// Whether this image has the instructions of thread block clusters. Where it has not, a cluster kernel traps.
    pub fn has_clusters(&self) -> bool {
        sm(self.arch).is_some_and(|(major, _)| major >= 9)
    }
}

/// Every image, in the order of file names; empty in a binary without kernels.
pub fn images() -> &'static [Image] {
    IMAGES
}

/// The version of nvcc that compiled the kernels, as `13.0.88`, or why this binary has none: a sentence's end, as in
/// "this binary has no CUDA kernels: it was built with SONGRNN_KERNELS=skip".
pub fn built() -> Result<&'static str, &'static str> {
    BUILT
}

/// The images for a device of compute capability `major.minor`, one a file. Error: a sentence saying why there are none.
pub fn for_device(major: i32, minor: i32) -> Result<Vec<&'static Image>, String> {
    if let Err(why) = built() {
        return Err(format!(
            "this binary has no CUDA kernels: {why}; scripts/cuda-toolkit.sh fetches a compiler, then build again"
        ));
    }
    let mut archs: Vec<&str> = images().iter().map(|image| image.arch).collect();
    archs.sort_unstable();
    archs.dedup();
    let arch = choose(&archs, major, minor)?;
    Ok(images().iter().filter(|image| image.arch == arch).collect())
}

/// The best of the architectures for a device: the highest cubin that runs there, else PTX.
fn choose<'a>(archs: &[&'a str], major: i32, minor: i32) -> Result<&'a str, String> {
    let device = format!("this device has compute capability {major}.{minor}");
    if (major, minor) < OLDEST_DEVICE {
        let (major, minor) = OLDEST_DEVICE;
        return Err(format!("{device}; the CUDA kernels need {major}.{minor} (Ampere) or newer"));
    }
    let runs = |arch: &str| match sm(arch) {
        // The `a` of sm_90a: for 9.0 and no other device.
        Some(of) if arch.ends_with('a') => of == (major, minor),
        Some((of_major, of_minor)) => of_major == major && of_minor <= minor,
        None => false,
    };
    let cubin = archs.iter().copied().filter(|arch| runs(arch)).max_by_key(|arch| sm(arch));
    let ptx = || archs.iter().copied().find(|arch| *arch == "ptx");
    cubin.or_else(ptx).ok_or_else(|| {
        format!("{device}; this binary was built with kernels for {} only (SONGRNN_ARCHS)", archs.join(", "))
    })
}

/// (9, 0) of `sm_90a`; None for `ptx`.
fn sm(arch: &str) -> Option<(i32, i32)> {
    let number: i32 = arch.strip_prefix("sm_")?.trim_end_matches('a').parse().ok()?;
    Some((number / 10, number % 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 7] = ["sm_80", "sm_86", "sm_89", "sm_90a", "sm_100", "sm_120", "ptx"];

    #[test]
    fn each_device_gets_its_best_image() {
        let expected = [
            ((8, 0), "sm_80"),
            ((8, 6), "sm_86"),
            ((8, 7), "sm_86"),
            ((8, 9), "sm_89"),
            ((9, 0), "sm_90a"),
            ((10, 0), "sm_100"),
            ((10, 3), "sm_100"),
            ((11, 0), "ptx"),
            ((12, 0), "sm_120"),
            ((12, 1), "sm_120"),
            ((13, 0), "ptx"),
        ];
        for ((major, minor), arch) in expected {
            assert_eq!(choose(&ALL, major, minor), Ok(arch), "{major}.{minor}");
        }
    }

    #[test]
    fn an_architecture_specific_image_runs_on_that_device_alone() {
        assert_eq!(choose(&["sm_90a", "ptx"], 9, 1), Ok("ptx"));
        assert!(choose(&["sm_90a"], 9, 1).is_err());
        assert!(choose(&["sm_90a"], 10, 0).is_err());
    }

    #[test]
    fn a_higher_minor_version_or_another_major_does_not_run() {
        assert!(choose(&["sm_86"], 8, 0).is_err());
        assert!(choose(&["sm_80"], 9, 0).is_err());
        assert!(choose(&["sm_120"], 10, 0).is_err());
    }

    #[test]
    fn errors_name_the_device_and_what_there_is() {
        let old = choose(&ALL, 7, 5).unwrap_err();
        assert!(old.contains("7.5") && old.contains("8.0"), "{old}");
        let restricted = choose(&["sm_80", "sm_89"], 9, 0).unwrap_err();
        assert!(restricted.contains("9.0") && restricted.contains("sm_80, sm_89"), "{restricted}");
    }

    #[test]
    fn clusters_exist_from_hopper_on() {
        let with = |arch| Image { file: "x", arch, bytes: &[] }.has_clusters();
        assert_eq!(ALL.map(with), [false, false, false, true, true, true, false]);
    }

    /// In a binary with kernels: every source has every architecture, and images are what they claim to be.
    #[test]
    fn images_are_complete() {
        let Ok(version) = built() else {
            assert!(images().is_empty());
            assert!(for_device(9, 0).unwrap_err().contains("no CUDA kernels"));
            return;
        };
        assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{version}");
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
        let mut sources: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter_map(|name| name.strip_suffix(".cu").map(str::to_string))
            .collect();
        sources.sort();
        for &arch in ALL.iter().filter(|arch| images().iter().any(|image| image.arch == **arch)) {
            let files: Vec<&str> = images().iter().filter(|i| i.arch == arch).map(|i| i.file).collect();
            assert_eq!(files, sources, "{arch}: kernels/*.cu changed since build.rs ran? touch build.rs");
        }
        for image in images() {
            assert!(
                image.bytes.starts_with(&0xba55_ed50_u32.to_le_bytes()),
                "{} is no fat binary",
                image.file
            );
            assert_eq!(image.bytes.as_ptr() as usize % 16, 0);
        }
    }
}
