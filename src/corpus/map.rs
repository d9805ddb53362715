//! A file's bytes: memory-mapped, or read into memory where mapping fails.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Deref;

/// Bytes of a packed corpus.
#[derive(Debug)]
pub enum Bytes {
    /// A read-only map of a file.
    Map(memmap2::Mmap),
    /// In memory.
    Owned(Vec<u8>),
}

impl Bytes {
    /// Maps a regular file; reads it where the system cannot map it.
    ///
    /// The file must not be changed or cut short while it is mapped: reading beyond a shortened file's end ends the
    /// process (SIGBUS). This program never does that to a pack: it writes a new file and renames it, and a map keeps
    /// the old one.
    pub fn open(file: &mut File) -> io::Result<Bytes> {
        match map(file) {
            Ok(map) => Ok(Bytes::Map(map)),
            Err(_) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes)?;
                Ok(Bytes::Owned(bytes))
            }
        }
    }
}

#[allow(unsafe_code)]
fn map(file: &File) -> io::Result<memmap2::Mmap> {
    // SAFETY: the map is read-only, and only ever read as plain bytes, for which every value is valid; all indexing is
    // bounds-checked against the map's own length. What cannot be excluded is another process changing the file
    // meanwhile; see `Bytes::open`: packs are replaced by renaming, never written in place.
    unsafe { memmap2::Mmap::map(file) }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Map(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }
}
