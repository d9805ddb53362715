//! The prime: the text every tune begins with, typed on a command line or read from a file.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::corpus::Vocab;

/// The longest prime file that is read, in bytes; no model sees further back.
const MAX_FILE: u64 = 4 << 20;

/// What can be wrong with a prime.
#[derive(Debug, thiserror::Error)]
pub enum PrimeError {
    /// The file cannot be read.
    #[error("cannot read the prime file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not a prime.
    #[error("the prime file {} is {what}", path.display())]
    NoText {
        /// The file.
        path: PathBuf,
        /// What it is instead, and what to do.
        what: String,
    },
    /// A character that the model never saw.
    #[error(
        "the prime's character {character:?} (U+{:04X}) at position {position} (line {line}, column {column}) is not \
         among the {known} that the model knows; leave it out or write it otherwise",
        u32::from(*character)
    )]
    Unknown {
        /// The character.
        character: char,
        /// Which character of the prime it is, from 1.
        position: usize,
        /// Its line, from 1.
        line: usize,
        /// Its column in characters, from 1.
        column: usize,
        /// Characters that the model knows.
        known: usize,
    },
}

/// What `--prime` means: `@FILE` is the file's text, else the text itself, in which `\n` is a line break and `\\` a
/// backslash (every other backslash is one: ABC has its own uses for it).
pub fn resolve(typed: &str) -> Result<String, PrimeError> {
    match typed.strip_prefix('@') {
        Some(path) => read_file(Path::new(path)),
        None => Ok(normalise(&unescape(typed))),
    }
}

/// The prime as character ids, without `<start>`.
pub fn encode(vocab: &Vocab, text: &str) -> Result<Vec<u16>, PrimeError> {
    vocab.encode(text).map_err(|unknown| {
        let before: Vec<char> = text.chars().take(unknown.position).collect();
        let line_start = before.iter().rposition(|&c| c == '\n').map_or(0, |at| at + 1);
        PrimeError::Unknown {
            character: unknown.character,
            position: unknown.position + 1,
            line: before.iter().filter(|&&c| c == '\n').count() + 1,
            column: before.len() - line_start + 1,
            known: vocab.tokens().iter().filter(|token| token.chars().count() == 1).count(),
        }
    })
}

fn unescape(typed: &str) -> String {
    let mut text = String::with_capacity(typed.len());
    let mut chars = typed.chars().peekable();
    while let Some(c) = chars.next() {
        let escaped = match (c, chars.peek()) {
            ('\\', Some('n')) => '\n',
            ('\\', Some('\\')) => '\\',
            _ => {
                text.push(c);
                continue;
            }
        };
        chars.next();
        text.push(escaped);
    }
    text
}

/// Line ends as the training text has them: `\n`.
fn normalise(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

fn read_file(path: &Path) -> Result<String, PrimeError> {
    let read = |source| PrimeError::Read { path: path.into(), source };
    let no_text = |what: &str| PrimeError::NoText { path: path.into(), what: what.into() };
    let file = File::open(path).map_err(read)?;
    if file.metadata().map_err(read)?.is_dir() {
        return Err(no_text("a folder; name a text file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(no_text("longer than 4 MiB; a prime is the beginning of one tune"));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        no_text(&format!("not UTF-8 text (byte {at}); convert it, with iconv for instance"))
    })?;
    Ok(normalise(text.strip_prefix('\u{feff}').unwrap_or(&text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_escapes() {
        assert_eq!(resolve(r"X:1\nT:").unwrap(), "X:1\nT:");
        assert_eq!(resolve(r"a\\nb").unwrap(), r"a\nb");
        assert_eq!(resolve(r"T:\'e \").unwrap(), r"T:\'e \");
        assert_eq!(resolve("").unwrap(), "");
        assert_eq!(resolve("M:6/8\r\nK:D\r").unwrap(), "M:6/8\nK:D\n");
    }

    #[test]
    fn files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.txt");
        let at = format!("@{}", path.display());
        assert!(resolve(&at).unwrap_err().to_string().contains("p.txt"));
        std::fs::write(&path, "\u{feff}X:1\r\nT:a\\nb\r\n").unwrap();
        assert_eq!(resolve(&at).unwrap(), "X:1\nT:a\\nb\n", "a file's text is taken as it is");
        std::fs::write(&path, b"X:1\nT:\xe9").unwrap();
        assert!(resolve(&at).unwrap_err().to_string().contains("byte 6"));
        std::fs::write(&path, vec![b'a'; MAX_FILE as usize + 1]).unwrap();
        assert!(resolve(&at).unwrap_err().to_string().contains("4 MiB"));
        assert!(
            resolve(&format!("@{}", folder.path().display())).unwrap_err().to_string().contains("folder")
        );
    }

    #[test]
    fn an_unknown_character_is_named_with_its_place() {
        let vocab = Vocab::from_chars("X:1\nT abc".chars());
        assert_eq!(encode(&vocab, "ab\n").unwrap().len(), 3);
        let message = encode(&vocab, "X:1\nT:aéc").unwrap_err().to_string();
        assert!(message.contains("'é' (U+00E9) at position 8 (line 2, column 4)"), "{message}");
        assert!(message.contains("among the 9"), "{message}");
    }
}
