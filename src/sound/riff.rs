//! A look at a SoundFont's chunks before it is loaded: every chunk must lie inside the file, and tables that point into
//! others must do so in ascending order. Without the first, four bytes could ask for 4 GB; without the second, every
//! entry of a small table could claim the whole of another one, which is copied each time.

/// Entries of a table and where in an entry the index into the next table stands.
const TABLES: [(&[u8; 4], usize, usize); 4] =
    [(b"phdr", 38, 24), (b"pbag", 4, 0), (b"inst", 22, 20), (b"ibag", 4, 0)];

/// The three lists of a SoundFont, in order.
const LISTS: [&[u8; 4]; 3] = [b"INFO", b"sdta", b"pdta"];

/// Refuses what is no SoundFont 2 or could take more memory than its size explains; says why.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    let cut_short = || "it is cut short".to_owned();
    let mut rest = bytes;
    let head = take(&mut rest, 12).ok_or("it is too short to be one")?;
    if !head.starts_with(b"RIFF") || !head.ends_with(b"sfbk") {
        return Err("it does not begin as one does".into());
    }
    for list in LISTS {
        let head = take(&mut rest, 12).ok_or_else(cut_short)?;
        let name = String::from_utf8_lossy(list);
        if !head.starts_with(b"LIST") || !head.ends_with(list) {
            return Err(format!("its {name} list is not where it should be"));
        }
        // The list's size counts its name.
        let size = number(&head[4..8]).checked_sub(4).ok_or_else(cut_short)?;
        let mut inside = take(&mut rest, size).ok_or_else(cut_short)?;
        while !inside.is_empty() {
            let head = take(&mut inside, 8).ok_or_else(cut_short)?;
            let content = take(&mut inside, number(&head[4..8])).ok_or_else(cut_short)?;
            for (table, entry, at) in TABLES {
                if head.starts_with(table) && list == b"pdta" {
                    ascending(content, entry, at, &String::from_utf8_lossy(table))?;
                }
            }
        }
    }
    Ok(())
}

fn ascending(content: &[u8], entry: usize, at: usize, table: &str) -> Result<(), String> {
    let indices = content.chunks_exact(entry).map(|e| u16::from_le_bytes([e[at], e[at + 1]]));
    if indices.is_sorted() { Ok(()) } else { Err(format!("its table {table} is out of order")) }
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

/// Four bytes, little-endian.
fn number(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | usize::from(byte))
}
