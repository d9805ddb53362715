//! Files that are whole or not there: written under a temporary name in the same folder, synced, renamed.
//!
//! Every file that a user made or gets goes through here, so that a full disk, a crash or `kill -9` leaves the old
//! file (or none), never half of the new one.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Something about a file went wrong; the cause is the error's source.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}{}", path.display(), hint(source))]
pub struct FileError {
    /// What was being done: `create`, `write`, `rename`, ...
    pub action: &'static str,
    /// The file (the one asked for, not its temporary name).
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl FileError {
    /// `action` on `path` failed with `source`.
    pub fn new(action: &'static str, path: &Path, source: io::Error) -> FileError {
        FileError { action, path: path.to_path_buf(), source }
    }
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            " (the disk is full: free some space there, or choose another folder)"
        }
        io::ErrorKind::FileTooLarge => " (larger than this system or its limits allow)",
        io::ErrorKind::PermissionDenied => " (no permission)",
        _ => "",
    }
}

/// Leftovers of a killed writer are removed once they are this old: a live writer's file is younger.
const STALE: Duration = Duration::from_secs(60);

/// A file being written under a temporary name in its own folder. Dropped without [`AtomicFile::commit`], it is
/// removed and the file of that name, if any, stays as it was.
#[derive(Debug)]
pub struct AtomicFile {
    file: Option<File>,
    temporary: PathBuf,
    path: PathBuf,
    committed: bool,
}

impl AtomicFile {
    /// Begins a file that will stand at `path`; a symbolic link there is followed. Refuses a path where something
    /// other than a regular file stands (a folder, a device, a pipe).
    pub fn create(path: &Path) -> Result<AtomicFile, FileError> {
        let path = match fs::symlink_metadata(path) {
            Ok(meta) if meta.file_type().is_symlink() => {
                fs::canonicalize(path).map_err(|e| FileError::new("follow the link", path, e))?
            }
            _ => path.to_path_buf(),
        };
        if let Ok(meta) = fs::metadata(&path)
            && !meta.is_file()
        {
            let what = if meta.is_dir() { "it is a folder" } else { "it is a device or a pipe, not a file" };
            return Err(FileError::new("write", &path, io::Error::other(what)));
        }
        let name = path.file_name().map(OsString::from).ok_or_else(|| {
            FileError::new("write", &path, io::Error::new(io::ErrorKind::InvalidInput, "no file name"))
        })?;
        let folder = folder_of(&path);
        sweep(&folder, &name);
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let mut hidden = OsString::from(".");
            hidden.push(&name);
            hidden.push(format!(".{}-{number}.tmp", std::process::id()));
            let temporary = folder.join(hidden);
            match OpenOptions::new().read(true).write(true).create_new(true).open(&temporary) {
                Ok(file) => {
                    return Ok(AtomicFile { file: Some(file), temporary, path, committed: false });
                }
                // A leftover of an older process with this number.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(FileError::new("create", &path, e)),
            }
        }
    }

    /// The file, open for reading and writing.
    pub fn file(&mut self) -> &mut File {
        self.file.as_mut().expect("open until committed or dropped")
    }

    /// Where it will stand.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends bytes at the file's position.
    pub fn write_all(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let result = self.file().write_all(bytes);
        result.map_err(|e| FileError::new("write", &self.path, e))
    }

    /// Syncs, renames onto the final name, syncs the folder.
    pub fn commit(mut self) -> Result<(), FileError> {
        let result = self.file().sync_all();
        result.map_err(|e| FileError::new("write", &self.path, e))?;
        // Closed first: some systems do not rename an open file.
        self.file = None;
        fs::rename(&self.temporary, &self.path).map_err(|e| FileError::new("rename", &self.path, e))?;
        self.committed = true;
        sync_folder(&folder_of(&self.path)).map_err(|e| FileError::new("sync the folder of", &self.path, e))
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.committed {
            self.file = None;
            // Nothing to be done where even this fails; the next writer sweeps.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Writes a whole file: temporary name, write, sync, rename, sync the folder.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes)?;
    file.commit()
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // Some file systems cannot sync a folder; the rename itself stands.
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        other => other,
    }
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// Removes temporary files of the same target that a killed process left behind.
fn sweep(folder: &Path, name: &OsString) {
    if !Path::new("/proc/self").exists() {
        return; // No way to tell whether their writer lives.
    }
    let Some(name) = name.to_str() else { return };
    let prefix = format!(".{name}.");
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let found = entry.file_name();
        let Some(rest) = found.to_str().and_then(|f| f.strip_prefix(&prefix)) else { continue };
        let Some((pid, number)) = rest.strip_suffix(".tmp").and_then(|r| r.split_once('-')) else { continue };
        if pid.parse::<u32>().is_err() || number.parse::<u64>().is_err() {
            continue;
        }
        let old = entry
            .metadata()
            .and_then(|m| m.modified())
            .is_ok_and(|m| m.elapsed().is_ok_and(|age| age > STALE));
        if old && !Path::new("/proc").join(pid).exists() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn replaces_whole_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(folder.path()), ["a.txt"]);
    }

    #[test]
    fn abandoned_file_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write_atomic(&path, b"one").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(names(folder.path()), ["a.txt"]);
    }

    #[test]
    fn refuses_folders_devices_and_missing_folders() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write_atomic(folder.path(), b"").is_err());
        let missing = folder.path().join("no/such");
        let error = write_atomic(&missing, b"").unwrap_err();
        assert!(error.to_string().contains("no/such"), "{error}");
        #[cfg(unix)]
        assert!(write_atomic(Path::new("/dev/full"), b"x").is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn leftovers_of_dead_writers_are_swept_and_those_of_live_ones_kept() {
        let folder = tempfile::tempdir().unwrap();
        let old = std::time::SystemTime::now() - Duration::from_secs(3600);
        for leftover in [".a.txt.999999999-0.tmp", ".a.txt.1-0.tmp", ".b.txt.999999999-0.tmp"] {
            let file = File::create(folder.path().join(leftover)).unwrap();
            file.set_modified(old).unwrap();
        }
        File::create(folder.path().join(".a.txt.999999999-7.tmp")).unwrap(); // young
        write_atomic(&folder.path().join("a.txt"), b"x").unwrap();
        let mut left = names(folder.path());
        left.sort();
        assert_eq!(left, [".a.txt.1-0.tmp", ".a.txt.999999999-7.tmp", ".b.txt.999999999-0.tmp", "a.txt"]);
    }
}
