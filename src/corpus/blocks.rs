//! Files as blocks that end where a tune ends, worked on by all cores, given back in order, in bounded memory.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::CorpusError;
use super::tunes::{MAX_TUNE, Marks};
use super::vocab::{END, START};

/// Bytes a block has where tunes are not longer.
pub const BLOCK: usize = 1 << 20;
/// Bytes of blocks in work at any time, but for a single larger one: with what is made of a byte (at most two of text
/// and two of token) this bounds the memory.
const BUDGET: usize = 24 << 20;

/// Where a block may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// After any line: nothing is known of the file yet.
    Lines,
    /// Between tunes.
    Tunes(Marks),
}

/// A piece of a file.
#[derive(Debug)]
pub struct Block {
    /// Which of the reader's files.
    pub file: usize,
    /// Whether it is the file's first.
    pub first: bool,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Reads files one after another as blocks.
#[derive(Debug)]
pub struct BlockReader {
    files: Vec<(PathBuf, Cut)>,
    current: usize,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Read, not given out yet.
    pending: Vec<u8>,
    /// Bytes given out.
    given: u64,
    /// Whether the file's end has been read.
    ended: bool,
}

impl BlockReader {
    /// A reader of these files, in this order.
    pub fn new(files: Vec<(PathBuf, Cut)>) -> BlockReader {
        BlockReader { files, current: 0, open: None }
    }

    /// The next block; None after the last file's last. Empty files have none.
    pub fn next(&mut self) -> Result<Option<Block>, CorpusError> {
        while let Some((path, cut)) = self.files.get(self.current) {
            let unreadable = |source| CorpusError::Unreadable { path: path.clone(), source };
            if self.open.is_none() {
                super::tunes::check_regular(path)?;
                let file = File::open(path).map_err(unreadable)?;
                self.open = Some(Open { file, pending: Vec::new(), given: 0, ended: false });
            }
            let Some(open) = &mut self.open else { continue };
            let mut want = BLOCK;
            let end = loop {
                while !open.ended && open.pending.len() < want {
                    let from = open.pending.len();
                    open.pending.resize(want, 0);
                    let read = read_some(&mut open.file, &mut open.pending[from..]).map_err(unreadable)?;
                    open.pending.truncate(from + read);
                    open.ended = read == 0;
                }
                if open.ended && open.pending.len() <= MAX_TUNE {
                    break open.pending.len();
                }
                if let Some(end) = last_cut(&open.pending, *cut) {
                    break end;
                }
                if open.pending.len() > MAX_TUNE {
                    let line = line_of(path, open.given).map_err(unreadable)?;
                    return Err(CorpusError::TuneTooLong { path: path.clone(), line, limit: MAX_TUNE });
                }
                want = open.pending.len() + BLOCK;
            };
            if end == 0 {
                self.open = None;
                self.current += 1;
                continue;
            }
            // The rest is short: the next block's buffer is made for it.
            let mut rest = Vec::with_capacity(BLOCK.max(open.pending.len() - end));
            rest.extend_from_slice(&open.pending[end..]);
            open.pending.truncate(end);
            let bytes = std::mem::replace(&mut open.pending, rest);
            let first = open.given == 0;
            open.given += bytes.len() as u64;
            return Ok(Some(Block { file: self.current, first, bytes }));
        }
        Ok(None)
    }
}

/// Reads once, again where a signal interrupted.
fn read_some(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// The line (from 1) that begins at or holds byte `offset`.
fn line_of(path: &Path, offset: u64) -> std::io::Result<u64> {
    let mut file = File::open(path)?.take(offset);
    let mut buffer = vec![0; 1 << 16];
    let mut line = 1;
    let mut before = 0;
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(line);
        }
        for &byte in &buffer[..n] {
            line += u64::from(byte == b'\r' || (byte == b'\n' && before != b'\r'));
            before = byte;
        }
    }
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// The last place, but neither the beginning nor the end, where these bytes may be cut.
fn last_cut(bytes: &[u8], cut: Cut) -> Option<usize> {
    // Lines from the last to the first: `end` is where the line ends (or the bytes do).
    let mut end = bytes.len();
    loop {
        let at = bytes.get(..end)?.iter().rposition(|&b| is_line_end(b))?;
        let start = at + 1;
        // Never between \r and \n, which make one line end.
        let split_pair = bytes[at] == b'\r' && bytes.get(start).is_none_or(|&b| b == b'\n');
        let whole = end < bytes.len();
        let line = &bytes[start..end];
        if !split_pair && start < bytes.len() {
            let allowed = match cut {
                Cut::Lines => true,
                Cut::Tunes(Marks::Abc) => line.starts_with(b"X:") || line_before(bytes, at).is_empty(),
                Cut::Tunes(Marks::StartEnd) => {
                    (whole && trim(line) == START.as_bytes()) || line_before(bytes, at) == END.as_bytes()
                }
            };
            if allowed {
                return Some(start);
            }
        }
        end = at;
    }
}

/// The line that ends with the line end at `at`, without the blanks at its end.
fn line_before(bytes: &[u8], at: usize) -> &[u8] {
    let end = if bytes[at] == b'\n' && at > 0 && bytes[at - 1] == b'\r' { at - 1 } else { at };
    let line = &bytes[..end];
    // From the end, for lines are short and what stands before them is long.
    let start = line.iter().rposition(|&b| is_line_end(b)).map_or(0, |p| p + 1);
    trim(&line[start..])
}

fn trim(mut line: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] = line {
        line = rest;
    }
    line
}

/// Locks; a panic elsewhere is reported by the thread that had it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Shared {
    /// Number of the item whose turn it is to be given to the sink.
    turn: u64,
    /// Cost of the items in work.
    in_work: usize,
    error: Option<CorpusError>,
    failed: bool,
}

/// Wakes the others where a thread panics, so that none waits for its turn.
struct Alarm<'a>(&'a Mutex<Shared>, &'a Condvar);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            lock(self.0).failed = true;
            self.1.notify_all();
        }
    }
}

/// Gives each item of `next` (with its cost in bytes) to `work` on one of `workers` threads, and the results to
/// `sink` in the items' order. Stops at the first error in that order. Each worker has a state made by `init`; they
/// are given back in the end.
pub fn run<T, R, S: Send>(
    workers: usize,
    next: impl FnMut() -> Result<Option<(T, usize)>, CorpusError> + Send,
    init: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, T) -> Result<R, CorpusError> + Sync,
    sink: impl FnMut(R) -> Result<(), CorpusError> + Send,
) -> Result<Vec<S>, CorpusError> {
    let source = Mutex::new((next, 0u64, false));
    let sink = Mutex::new(sink);
    let (shared, changed) = (Mutex::new(Shared::default()), Condvar::new());
    let worker = || {
        let _alarm = Alarm(&shared, &changed);
        let mut state = init();
        loop {
            let (number, item, cost) = {
                let mut source = lock(&source);
                let (next, number, ended) = &mut *source;
                if *ended {
                    break;
                }
                let item = match next() {
                    Ok(None) => {
                        *ended = true;
                        break;
                    }
                    Ok(Some((item, cost))) => Ok((item, cost)),
                    Err(error) => {
                        *ended = true;
                        Err(error)
                    }
                };
                let cost = item.as_ref().map_or(0, |(_, cost)| *cost).min(BUDGET);
                // Items before this one hold their share of the budget and finish without the source's lock.
                let mut shared = lock(&shared);
                while shared.in_work + cost > BUDGET && !shared.failed {
                    shared = changed.wait(shared).unwrap_or_else(PoisonError::into_inner);
                }
                if shared.failed {
                    break;
                }
                shared.in_work += cost;
                *number += 1;
                (*number - 1, item, cost)
            };
            let result = item.and_then(|(item, _)| work(&mut state, item));
            let mut turns = lock(&shared);
            while turns.turn != number && !turns.failed {
                turns = changed.wait(turns).unwrap_or_else(PoisonError::into_inner);
            }
            if turns.failed {
                break;
            }
            drop(turns);
            let result = result.and_then(|result| lock(&sink)(result));
            let mut turns = lock(&shared);
            turns.turn += 1;
            turns.in_work -= cost;
            if let Err(error) = result {
                turns.failed = true;
                turns.error.get_or_insert(error);
            }
            changed.notify_all();
        }
        state
    };
    let states = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers.max(1)).map(|_| scope.spawn(worker)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, S>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    });
    let shared = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    match shared.error {
        Some(error) => Err(error),
        None => Ok(states),
    }
}
