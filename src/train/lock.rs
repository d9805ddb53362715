//! One trainer a folder: an advisory lock on `DIR/lock`, which the system lets go of however the process ends.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// File name of the lock in a run folder.
pub const LOCK: &str = "lock";

/// Why the lock was not got.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another trainer has it.
    #[error("{}: another trainer{} is at work in this folder; wait for it, stop it, or choose another --out", folder.display(), holder(.process))]
    Held {
        /// The run folder.
        folder: PathBuf,
        /// Process number that the holder wrote down, where it could be read.
        process: Option<u32>,
    },
    /// The lock file cannot be made or locked.
    #[error("cannot lock {}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn holder(process: &Option<u32>) -> String {
    process.map(|id| format!(" (process {id})")).unwrap_or_default()
}

/// A held lock; dropping it lets go. The file stays: removing it would let two trainers lock two files of one name.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunLock {
    /// Takes the lock of a run folder, or says at once who has it.
    pub fn take(folder: &Path) -> Result<RunLock, LockError> {
        let path = folder.join(LOCK);
        let fail = |source| LockError::Io { path: path.clone(), source };
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let process =
                    file.take(20).read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(LockError::Held { folder: folder.into(), process });
            }
            Err(TryLockError::Error(source)) => return Err(fail(source)),
        }
        // The number is a courtesy to whoever is refused; a full disk must not stop the run here.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(RunLock { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_and_told_by_whom() {
        let folder = tempfile::tempdir().unwrap();
        let first = RunLock::take(folder.path()).unwrap();
        let refused = RunLock::take(folder.path()).unwrap_err();
        assert!(matches!(refused, LockError::Held { process: Some(id), .. } if id == std::process::id()));
        assert!(refused.to_string().contains("another trainer"));
        drop(first);
        RunLock::take(folder.path()).unwrap();
    }
}
