//! Writing a set of tunes: all files or none, and never over somebody's file unless told so.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{Formats, Judged};

/// Why a set was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A file of that name is there.
    #[error("{} is there already and is not overwritten; name another folder with --out", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot {action} {}{}", path.display(), hint(source))]
    System {
        /// What was being done.
        action: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            " (the disk is full: free some space there, or choose another folder)"
        }
        io::ErrorKind::PermissionDenied => " (no permission: choose another folder)",
        _ => "",
    }
}

fn system(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WriteError {
    let path = path.to_path_buf();
    move |source| WriteError::System { action, path, source }
}

/// How many files of each kind were written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// `.txt`.
    pub txt: usize,
    /// `.abc`, the tunebook not counted.
    pub abc: usize,
    /// `.mid`.
    pub mid: usize,
    /// Whether a tunebook was written.
    pub tunebook: bool,
}

/// The tunebook's file name.
pub const TUNEBOOK: &str = "tunebook.abc";

/// The file name of tune `number` of a set of `tunes`: `tune-001.abc`.
pub fn file_name(number: usize, tunes: usize, extension: &str) -> String {
    let width = tunes.to_string().len().max(3);
    format!("tune-{number:0width$}.{extension}")
}

/// A file of the set that stands in `folder` already, if any: looked for before the work is done.
pub fn first_collision(folder: &Path, tunes: usize, formats: Formats) -> Option<PathBuf> {
    let kinds = [(formats.txt, "txt"), (formats.abc, "abc"), (formats.mid, "mid")];
    let book = formats.abc.then(|| TUNEBOOK.to_owned());
    (1..=tunes)
        .flat_map(|number| {
            kinds.iter().filter(|(on, _)| *on).map(move |(_, kind)| file_name(number, tunes, kind))
        })
        .chain(book)
        .map(|name| folder.join(name))
        .find(|path| path.symlink_metadata().is_ok())
}

/// Writes a set into `folder` (made where it is missing): per tune `tune-001.txt` exactly as sampled, `tune-001.abc`,
/// `tune-001.mid` where the tune can be played, and `tunebook.abc` with all of them.
///
/// All files or none: they are written and synced in a hidden folder inside `folder`, then renamed. An existing file
/// is an error, or replaced where `overwrite`.
pub fn write_set(
    folder: &Path,
    tunes: &[Judged],
    formats: Formats,
    overwrite: bool,
) -> Result<Written, WriteError> {
    if !overwrite && let Some(path) = first_collision(folder, tunes.len(), formats) {
        return Err(WriteError::Exists { path });
    }
    let made = make_folders(folder)?;
    let result = Staging::new(folder).and_then(|staging| staging.write(tunes, formats, overwrite));
    if result.is_err() {
        // Only what this call made, the innermost first; a folder that somebody else has used stays.
        for folder in made.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
    }
    result
}

/// Makes `folder` and the missing ones above it; which ones were made, outermost first.
fn make_folders(folder: &Path) -> Result<Vec<PathBuf>, WriteError> {
    let missing: Vec<&Path> = folder
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && path.symlink_metadata().is_err())
        .collect();
    fs::create_dir_all(folder).map_err(system("make the folder", folder))?;
    Ok(missing.into_iter().rev().map(Path::to_path_buf).collect())
}

/// The hidden folder in which a set is written before its files get their names.
struct Staging<'a> {
    folder: &'a Path,
    hidden: PathBuf,
}

impl<'a> Staging<'a> {
    fn new(folder: &'a Path) -> Result<Staging<'a>, WriteError> {
        let mut number = 0u32;
        loop {
            let hidden = folder.join(format!(".tunes.{}-{number}.tmp", std::process::id()));
            match fs::create_dir(&hidden) {
                Ok(()) => return Ok(Staging { folder, hidden }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1000 => number += 1,
                Err(error) => return Err(system("write into", folder)(error)),
            }
        }
    }

    fn write(&self, tunes: &[Judged], formats: Formats, overwrite: bool) -> Result<Written, WriteError> {
        let mut files: Vec<(String, &[u8])> = Vec::new();
        let mut written = Written::default();
        for (i, tune) in tunes.iter().enumerate() {
            let name = |kind| file_name(i + 1, tunes.len(), kind);
            if formats.txt {
                files.push((name("txt"), tune.text.as_bytes()));
                written.txt += 1;
            }
            if formats.abc {
                files.push((name("abc"), tune.abc.as_bytes()));
                written.abc += 1;
            }
            if let (true, Some(midi)) = (formats.mid, &tune.midi) {
                files.push((name("mid"), midi));
                written.mid += 1;
            }
        }
        let book = tunebook(tunes);
        if formats.abc {
            files.push((TUNEBOOK.into(), book.as_bytes()));
            written.tunebook = true;
        }
        // Syncing waits for the disk, not for a core: many at once.
        files.par_iter().try_for_each(|(name, bytes)| {
            let sync = || {
                let mut file = File::create_new(self.hidden.join(name))?;
                file.write_all(bytes)?;
                file.sync_all()
            };
            sync().map_err(system("write", &self.folder.join(name)))
        })?;
        let mut new: Vec<PathBuf> = Vec::new();
        for (name, _) in &files {
            let path = self.folder.join(name);
            let stood = path.symlink_metadata().is_ok();
            let result = if stood && !overwrite {
                Err(WriteError::Exists { path: path.clone() })
            } else {
                fs::rename(self.hidden.join(name), &path).map_err(system("write", &path))
            };
            if let Err(error) = result {
                // What was replaced cannot be brought back, but it is whole; what is new goes.
                new.iter().for_each(|path| drop(fs::remove_file(path)));
                return Err(error);
            }
            if !stood {
                new.push(path);
            }
        }
        // Some file systems cannot sync a folder; the files' contents are safe either way.
        let _ = File::open(self.folder).and_then(|folder| folder.sync_all());
        Ok(written)
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.hidden);
    }
}

/// All tunes with a blank line between them, as ABC wants it.
fn tunebook(tunes: &[Judged]) -> String {
    let mut book = String::new();
    for tune in tunes {
        if !book.is_empty() {
            book.push('\n');
        }
        book.push_str(tune.abc.trim_end_matches('\n'));
        book.push('\n');
    }
    book
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tune(text: &str, midi: bool) -> Judged {
        Judged {
            text: text.into(),
            abc: format!("X:1\n{text}\n"),
            midi: midi.then(|| b"MThd".to_vec()),
            ..Judged::default()
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_set_has_its_files() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b");
        let tunes = [tune("K:C\nABC", true), tune("K:", false)];
        let written = write_set(&folder, &tunes, Formats::ALL, false).unwrap();
        assert_eq!(written, Written { txt: 2, abc: 2, mid: 1, tunebook: true });
        let all =
            ["tune-001.abc", "tune-001.mid", "tune-001.txt", "tune-002.abc", "tune-002.txt", "tunebook.abc"];
        assert_eq!(names(&folder), all);
        assert_eq!(fs::read_to_string(folder.join("tune-001.txt")).unwrap(), "K:C\nABC", "no byte more");
        assert_eq!(fs::read_to_string(folder.join(TUNEBOOK)).unwrap(), "X:1\nK:C\nABC\n\nX:1\nK:\n");
    }

    #[test]
    fn nothing_is_overwritten_unasked() {
        let root = tempfile::tempdir().unwrap();
        let mine = root.path().join("tune-002.txt");
        fs::write(&mine, "mine").unwrap();
        let tunes = [tune("a", true), tune("b", true)];
        let error = write_set(root.path(), &tunes, Formats::ALL, false).unwrap_err();
        assert!(error.to_string().contains("tune-002.txt"), "{error}");
        assert_eq!(names(root.path()), ["tune-002.txt"]);
        assert_eq!(fs::read_to_string(&mine).unwrap(), "mine");
        let only_abc = Formats { abc: true, txt: false, mid: false };
        write_set(root.path(), &tunes, only_abc, false).unwrap();
        write_set(root.path(), &tunes, Formats::ALL, true).unwrap();
        assert_eq!(fs::read_to_string(&mine).unwrap(), "b");
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let root = tempfile::tempdir().unwrap();
        // Found only when it comes to the last renaming: no file replaces a folder.
        fs::create_dir(root.path().join(TUNEBOOK)).unwrap();
        assert!(write_set(root.path(), &[tune("a", true)], Formats::ALL, true).is_err());
        assert_eq!(names(root.path()), [TUNEBOOK]);
        fs::write(root.path().join("file"), "").unwrap();
        assert!(write_set(&root.path().join("file/x"), &[tune("a", true)], Formats::ALL, false).is_err());
        assert_eq!(names(root.path()), ["file", TUNEBOOK]);
    }

    #[test]
    fn names_sort_as_numbers() {
        assert_eq!(file_name(7, 64, "abc"), "tune-007.abc");
        assert_eq!(file_name(7, 1000, "mid"), "tune-0007.mid");
    }
}
