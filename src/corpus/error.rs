//! What can go wrong with a corpus: each message says what was expected, what was found and what to do.

use std::io;
use std::path::PathBuf;

use crate::files::FileError;

/// What can go wrong with a corpus.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// A path that leads nowhere.
    #[error("{} does not exist; expected a .abc or .txt file, a folder of them, or a packed corpus", path.display())]
    Missing {
        /// The path as given.
        path: PathBuf,
    },
    /// A file or folder that cannot be read.
    #[error("cannot read {}; check that it exists and that you may read it", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A device, a pipe, a socket.
    #[error("{} is {found}, expected a regular file or a folder; save its content to a file first", path.display())]
    NotRegular {
        /// The path.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// A file that is plainly something else than tunes.
    #[error("{} looks like {found}, expected ABC tunes or <start>/<end> text; {next}", path.display())]
    LooksLike {
        /// The file.
        path: PathBuf,
        /// What it looks like.
        found: &'static str,
        /// What to do.
        next: &'static str,
    },
    /// No data named at all.
    #[error("no data given; name a .abc or .txt file, a folder of them, or a packed corpus")]
    NoData,
    /// A file of no bytes (or of nothing but blanks).
    #[error("{} is empty; expected ABC tunes, each from its X: line, or <start>/<end> text", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Files, but no tune in them.
    #[error("no tune found in {}; expected lines that begin with X:, or <start> and <end> lines around each tune", path.display())]
    NoTunes {
        /// The (first) file or folder.
        path: PathBuf,
    },
    /// A folder with no `.abc` or `.txt` file.
    #[error("no .abc or .txt file in the folder {} or below it; name files to read others", path.display())]
    FolderWithoutTunes {
        /// The folder.
        path: PathBuf,
    },
    /// A tune (or a line) beyond the bound.
    #[error("{}, line {line}: more than {limit} bytes without the end of a tune; split it, or take it out", path.display())]
    TuneTooLong {
        /// The file.
        path: PathBuf,
        /// Line where the tune (or stretch between tunes) begins, from 1.
        line: u64,
        /// The most bytes a tune may have.
        limit: usize,
    },
    /// A file that changed between the two readings.
    #[error("{} changed while it was read; run the command again when nothing writes to it", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// More tunes than an index of 32 bits tells apart.
    #[error("more than {limit} tunes; split the corpus")]
    TooManyTunes {
        /// The most tunes a pack holds.
        limit: u64,
    },
    /// More different characters than ids.
    #[error("{found} different characters, expected at most {limit}; is this text at all?")]
    TooManyCharacters {
        /// How many were found.
        found: usize,
        /// The most a vocabulary holds.
        limit: usize,
    },
    /// A pack that would stand where one of its sources is.
    #[error("{} is itself part of the data; write the packed corpus to another file", path.display())]
    OverSource {
        /// The file.
        path: PathBuf,
    },
    /// Packed and other data together.
    #[error("{} is a packed corpus; give it alone, or give the files that it was packed from", path.display())]
    MixedPack {
        /// The packed file.
        path: PathBuf,
    },
    /// Not a packed corpus.
    #[error("{} is not a packed corpus: expected it to begin with SONGPACK, found {found}; make one with `songrnn-fast pack`", path.display())]
    PackMagic {
        /// The file.
        path: PathBuf,
        /// Its first bytes.
        found: String,
    },
    /// A pack of another version.
    #[error("{} is a packed corpus of version {found}, expected version {expected}; pack it again with this program", path.display())]
    PackVersion {
        /// The file.
        path: PathBuf,
        /// This program's version.
        expected: u32,
        /// The file's.
        found: u32,
    },
    /// A truncated or lengthened pack.
    #[error("{} has {found} bytes, expected {expected}: it was cut short or added to; copy it or pack it again", path.display())]
    PackLength {
        /// The file.
        path: PathBuf,
        /// Bytes that the header announces.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// A header field that contradicts the others.
    #[error("{} is damaged: {field} is {found}, expected {expected}; copy it or pack it again", path.display())]
    PackField {
        /// The file.
        path: PathBuf,
        /// Which field.
        field: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Content that does not have the checksum written down for it.
    #[error("{} is damaged: the {section}'s checksum is {found:016x}, expected {expected:016x}; copy it or pack it again", path.display())]
    PackChecksum {
        /// The file.
        path: PathBuf,
        /// Which section: header, vocabulary, index, tokens.
        section: &'static str,
        /// The checksum written down.
        expected: u64,
        /// The content's.
        found: u64,
    },
    /// An index entry that leads outside the tokens.
    #[error("{} is damaged: tune {tune}'s {field} is {found}, expected {expected}; copy it or pack it again", path.display())]
    PackIndex {
        /// The file.
        path: PathBuf,
        /// Which tune, from 0.
        tune: u64,
        /// Which field of its index entry.
        field: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        found: u64,
    },
    /// A token outside the vocabulary.
    #[error("{} is damaged: token {position} is {found}, expected below the vocabulary's {vocab}; copy it or pack it again", path.display())]
    PackToken {
        /// The file.
        path: PathBuf,
        /// Which token, from 0.
        position: u64,
        /// Its value.
        found: u16,
        /// V.
        vocab: usize,
    },
    /// A token list that is no vocabulary.
    #[error("not a vocabulary: {0}")]
    Vocabulary(String),
    /// A training position that does not fit the tunes.
    #[error("the saved position in the data does not fit: {0}; was the corpus changed?")]
    Cursor(String),
    /// Stopped by a signal; nothing was written.
    #[error("stopped; nothing was written")]
    Stopped,
    /// A file that could not be written.
    #[error(transparent)]
    File(#[from] FileError),
}
