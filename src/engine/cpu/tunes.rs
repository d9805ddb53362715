//! The tunes of a request, handed out one by one to whoever has room, and gathered when they have ended.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::engine::{SampleRequest, SampledTune};
use crate::sample::Stream;

/// See the module's documentation.
pub struct Tunes<'a> {
    request: &'a SampleRequest,
    next: AtomicUsize,
    done: Mutex<Vec<(usize, SampledTune)>>,
}

/// A tune being sampled.
pub struct Lane {
    index: usize,
    /// What it is fed and what it has.
    pub stream: Stream,
    /// Whether its next character is chosen.
    pub chooses: bool,
}

impl<'a> Tunes<'a> {
    /// All of a request.
    pub fn new(request: &'a SampleRequest) -> Tunes<'a> {
        let done = Mutex::new(Vec::with_capacity(request.tunes));
        Tunes { request, next: AtomicUsize::new(0), done }
    }

    /// The next one; none when all have been handed out.
    pub fn take(&self) -> Option<Lane> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        (index < self.request.tunes).then(|| Lane {
            index,
            stream: Stream::new(self.request, index),
            chooses: false,
        })
    }

    /// Takes back one that has ended.
    pub fn end(&self, lane: Lane) {
        let mut done = self.done.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        done.push((lane.index, lane.stream.finish()));
    }

    /// All that have ended, in order.
    pub fn finish(self) -> Vec<SampledTune> {
        let mut done = self.done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        done.sort_unstable_by_key(|(index, _)| *index);
        done.into_iter().map(|(_, tune)| tune).collect()
    }
}
