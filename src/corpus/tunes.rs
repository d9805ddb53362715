//! Which files hold tunes, and where in a text each tune begins and ends.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::CorpusError;

/// What a user should be told about the data, one sentence each.
pub type Notes = Vec<String>;

/// The most bytes of one tune (and of a stretch between tunes), as UTF-8.
pub const MAX_TUNE: usize = 16 << 20;

/// How deep folders are followed.
const MAX_DEPTH: usize = 64;

/// How a file marks its tunes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marks {
    /// An ABC tunebook: from an `X:` line to the next blank line or `X:` line.
    Abc,
    /// Between lines that are exactly `<start>` and `<end>`.
    StartEnd,
}

/// What the cutting of a text met besides tunes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// Tunes with text.
    pub tunes: u64,
    /// Tunes without (in ABC: nothing but an `X:` line).
    pub empty: u64,
    /// `<start>` without `<end>`: the tune ends where the next one starts.
    pub unclosed: u64,
}

/// Refuses a path that does not exist or is neither a regular file nor a folder's entry that can be read as one.
pub fn check_regular(path: &Path) -> Result<u64, CorpusError> {
    let meta = metadata(path)?;
    if meta.is_dir() {
        return Err(CorpusError::NotRegular { path: path.to_path_buf(), found: "a folder" });
    }
    if !meta.is_file() {
        return Err(CorpusError::NotRegular {
            path: path.to_path_buf(),
            found: "a device, a pipe or a socket",
        });
    }
    Ok(meta.len())
}

fn metadata(path: &Path) -> Result<fs::Metadata, CorpusError> {
    fs::metadata(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => CorpusError::Missing { path: path.to_path_buf() },
        _ => CorpusError::Unreadable { path: path.to_path_buf(), source },
    })
}

/// The files of DATA: files as given, folders as the `.abc` and `.txt` files below them in sorted order; hidden
/// entries, and whatever is no regular file, are left out. A folder without any is refused.
pub fn list_files(data: &[PathBuf]) -> Result<Vec<PathBuf>, CorpusError> {
    if data.is_empty() {
        return Err(CorpusError::NoData);
    }
    let mut files = Vec::new();
    for path in data {
        if metadata(path)?.is_dir() {
            let before = files.len();
            list_folder(path, MAX_DEPTH, &mut HashSet::new(), &mut files)?;
            if files.len() == before {
                return Err(CorpusError::FolderWithoutTunes { path: path.clone() });
            }
        } else {
            check_regular(path)?;
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn list_folder(
    folder: &Path,
    depth: usize,
    seen: &mut HashSet<PathBuf>,
    files: &mut Vec<PathBuf>,
) -> Result<(), CorpusError> {
    let unreadable = |source| CorpusError::Unreadable { path: folder.to_path_buf(), source };
    // A link that leads back up would go round forever.
    if depth == 0 || !seen.insert(fs::canonicalize(folder).map_err(unreadable)?) {
        return Ok(());
    }
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        entries.push(entry.map_err(unreadable)?.path());
    }
    entries.sort();
    for path in entries {
        if path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        // A dangling link is nobody's tune.
        let Ok(meta) = fs::metadata(&path) else { continue };
        if meta.is_dir() {
            list_folder(&path, depth - 1, seen, files)?;
        } else if meta.is_file() && has_tune_extension(&path) {
            files.push(path);
        }
    }
    Ok(())
}

fn has_tune_extension(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("abc") || e.eq_ignore_ascii_case("txt"))
}

/// Blanks at the end of a line are no part of a tune.
#[inline]
fn trim(line: &str) -> &str {
    match line.as_bytes() {
        [.., b' ' | b'\t'] => line.trim_end_matches([' ', '\t']),
        _ => line,
    }
}

/// What `split('\n')` gives, found by `memchr`: finding line ends is the largest part of reading.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = memchr::memchr(b'\n', text.as_bytes());
        rest = end.map(|at| &text[at + 1..]);
        Some(&text[..end.unwrap_or(text.len())])
    })
}

/// Whether a text has a line that is exactly `<start>`.
pub fn marks_of(text: &str) -> Marks {
    if has_start_line(text.as_bytes()) { Marks::StartEnd } else { Marks::Abc }
}

/// Whether some line is exactly `<start>` (blanks after it do not count). The bytes begin and end at line ends.
pub(super) fn has_start_line(bytes: &[u8]) -> bool {
    const MARK: &[u8] = b"<start>";
    let mut rest = bytes;
    let mut line_start = true;
    loop {
        if line_start && rest.starts_with(MARK) {
            let after = rest[MARK.len()..].iter().find(|b| !matches!(b, b' ' | b'\t'));
            if matches!(after, None | Some(b'\n' | b'\r')) {
                return true;
            }
        }
        let Some(at) = rest.get(1..).and_then(|tail| memchr::memchr(b'<', tail)) else { return false };
        line_start = matches!(rest[at], b'\n' | b'\r');
        rest = &rest[at + 1..];
    }
}

/// Line ends as `\n`, NULs and byte order marks out: what [`for_each_tune`] wants. None where nothing needs doing.
pub fn clean(text: &str) -> Option<String> {
    // One after another: each of these searches runs at memory speed, one for three characters does not.
    if !text.as_bytes().contains(&b'\r') && !text.as_bytes().contains(&0) && !text.contains('\u{feff}') {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\0' | '\u{feff}' => {}
            '\r' => {
                if chars.peek() != Some(&'\n') {
                    out.push('\n');
                }
            }
            c => out.push(c),
        }
    }
    Some(out)
}

/// Bytes as text: UTF-8, or Latin-1 where they are not.
pub fn decode(bytes: &[u8]) -> (std::borrow::Cow<'_, str>, bool) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.into(), false),
        Err(_) => (latin1(bytes).into(), true),
    }
}

/// Every byte is the character of that number.
pub(super) fn latin1(bytes: &[u8]) -> String {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    bytes.iter().map(|&b| char::from(b)).collect()
}

/// Calls `take` with the text of each tune in a cleaned text (see [`clean`]); `scratch` is working space.
///
/// A tune's text: its lines joined by `\n`, without the blanks at their ends, no newline at its own end.
pub fn for_each_tune(text: &str, marks: Marks, scratch: &mut String, mut take: impl FnMut(&str)) -> Found {
    let mut found = Found::default();
    let mut inside = false;
    scratch.clear();
    let mut finish = |scratch: &mut String, found: &mut Found| {
        let text = scratch.trim_end_matches('\n');
        let bare = text.is_empty() || (marks == Marks::Abc && !text.contains('\n'));
        if bare {
            found.empty += 1;
        } else {
            found.tunes += 1;
            take(text);
        }
        scratch.clear();
    };
    for line in lines(text).map(trim) {
        match marks {
            Marks::Abc => {
                let starts = line.starts_with("X:");
                if inside && (starts || line.is_empty()) {
                    finish(scratch, &mut found);
                    inside = false;
                }
                inside |= starts;
            }
            Marks::StartEnd => {
                let starts = line == super::vocab::START;
                if inside && (starts || line == super::vocab::END) {
                    found.unclosed += u64::from(starts);
                    finish(scratch, &mut found);
                    inside = false;
                }
                if starts {
                    inside = true;
                    continue;
                }
            }
        }
        if inside {
            scratch.push_str(line);
            scratch.push('\n');
        }
    }
    if inside {
        found.unclosed += u64::from(marks == Marks::StartEnd);
        finish(scratch, &mut found);
    }
    found
}

/// All tunes of a text in memory, for small uses; files are packed by [`super::pack_to`].
pub fn tunes_of(text: &str) -> Vec<String> {
    let cleaned = clean(text);
    let text = cleaned.as_deref().unwrap_or(text);
    let mut tunes = Vec::new();
    for_each_tune(text, marks_of(text), &mut String::new(), |tune| tunes.push(tune.to_owned()));
    tunes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn abc_tunes_end_at_a_blank_line_or_the_next_number() {
        let text =
            "% comment\n\nX:1\nT:One \t\nK:G\n% inside\nabc|!\n \t\nleft out\nX: 2\nT:Two\nX:3\nK:C\nz\n\n\n";
        assert_eq!(tunes_of(text), ["X:1\nT:One\nK:G\n% inside\nabc|!", "X: 2\nT:Two", "X:3\nK:C\nz"]);
    }

    #[test]
    fn marked_tunes_keep_blank_lines_inside_and_need_no_number() {
        let text = "out\n<start>\nT:a\n\nX:2\nb  \n\n<end>\nout\n<start> \n<end>\n<start>\nc\n<start>\nd";
        let mut tunes = Vec::new();
        let found =
            for_each_tune(text, marks_of(text), &mut String::new(), |tune| tunes.push(tune.to_owned()));
        assert_eq!(tunes, ["T:a\n\nX:2\nb", "c", "d"]);
        assert_eq!(found, Found { tunes: 3, empty: 1, unclosed: 2 });
    }

    #[test]
    fn line_ends_marks_and_nuls() {
        let want = ["X:1\nK:C\nabc", "X:2\nK:D\nd"];
        for text in [
            "X:1\nK:C\nabc\n\nX:2\nK:D\nd\n",
            "\u{feff}X:1\r\nK:C\r\nabc\r\n\r\nX:2\r\nK:D\r\nd",
            "X:1\rK:C\rabc\r\rX:2\rK:D\rd\r",
            "X:1\nK:\0C\nab\0c\n\0\nX:2\nK:D\nd\n",
        ] {
            assert_eq!(tunes_of(text), want, "{text:?}");
        }
        assert_eq!(clean("plain\n"), None);
    }

    #[test]
    fn a_number_alone_is_no_tune() {
        let mut found = Found::default();
        let text = "X:1\n\nX:2\nX:3\nK:C\n";
        for_each_tune(text, Marks::Abc, &mut String::new(), |_| found.tunes += 1);
        assert_eq!(found.tunes, 1);
        assert_eq!(for_each_tune(text, Marks::Abc, &mut String::new(), |_| ()).empty, 2);
    }

    #[test]
    fn the_start_line_is_found_only_where_it_is_a_line() {
        for (text, marked) in [
            ("<start>", true),
            ("a\n<start>\n", true),
            ("a\r<start>\rb", true),
            ("<<start>\n<start> \t\r\nb", true),
            ("a<start>\n", false),
            ("<start>b\n", false),
            (" <start>\n", false),
            ("<start", false),
            ("", false),
        ] {
            assert_eq!(has_start_line(text.as_bytes()), marked, "{text:?}");
        }
    }

    #[test]
    fn latin1_where_utf8_fails() {
        assert_eq!(decode("é".as_bytes()), ("é".into(), false));
        assert_eq!(decode(b"caf\xe9"), ("café".into(), true));
        assert_eq!(decode(b"\xef\xbb\xbfX\xe9"), ("Xé".into(), true));
    }

    #[test]
    fn folders_are_listed_sorted_without_hidden_and_other_files() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.abc", "a/z.TXT", "a/.hidden.abc", "a/x.mid", ".git/c.abc", "c.txt"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink(folder.path(), folder.path().join("a/round")).unwrap();
        let files = list_files(&[folder.path().to_path_buf()]).unwrap();
        let names: Vec<_> = files.iter().map(|f| f.strip_prefix(folder.path()).unwrap()).collect();
        assert_eq!(names, [Path::new("a/z.TXT"), Path::new("b.abc"), Path::new("c.txt")]);
        let none = tempfile::tempdir().unwrap();
        let error = list_files(&[none.path().to_path_buf()]).unwrap_err();
        assert!(matches!(error, CorpusError::FolderWithoutTunes { .. }), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_readers_fail(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let (text, _) = decode(&bytes);
            for tune in tunes_of(&text) {
                prop_assert!(!tune.is_empty() && !tune.ends_with(['\n', ' ', '\t']));
                prop_assert!(!tune.contains(['\r', '\0']));
            }
        }

        #[test]
        fn no_soup_of_marks_makes_the_readers_fail(
            parts in proptest::collection::vec(
                proptest::sample::select(vec!["X:", "\n", "\r", "<start>", "<end>", " ", "a", "é", "\0", "%", "K:C"]),
                0..60,
            )
        ) {
            for tune in tunes_of(&parts.concat()) {
                prop_assert!(!tune.is_empty() && !tune.ends_with(['\n', ' ', '\t']));
            }
        }
    }
}
