//! Threads that work on one step together: started once, woken without a system call while steps follow each other
//! closely, and met at barriers. Waiting spins a little and then yields, so that more threads than cores, or a core
//! taken away for a while, cost time and nothing else; where it costs more than working alone, the caller works alone
//! for a while ([`Pace`]).
#![allow(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::pinning::pin_thread;

/// Turns of a waiting loop before it yields: some ten microseconds.
const SPINS: u32 = 400;
/// Yields of an idle thread before it parks.
const YIELDS: u32 = 100;

/// Alone on its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line<T>(T);

/// What a member does: the meeting is the team's, or that of the caller alone.
type Job<'a> = &'a (dyn Fn(&Meeting, usize) + Sync);

/// Where members meet during a job.
#[derive(Debug)]
pub struct Meeting {
    /// Members of this job.
    pub members: usize,
    arrived: Line<AtomicUsize>,
    round: Line<AtomicUsize>,
    progress: Vec<Line<AtomicUsize>>,
    /// A member has panicked: nobody may wait for it.
    broken: AtomicBool,
}

impl Meeting {
    /// For as many members.
    pub fn new(members: usize) -> Meeting {
        Meeting {
            members,
            arrived: Line::default(),
            round: Line::default(),
            progress: (0..members).map(|_| Line::default()).collect(),
            broken: AtomicBool::new(false),
        }
    }

    /// Before a job: nobody has done anything.
    fn reset(&self) {
        self.arrived.0.store(0, Ordering::Relaxed);
        for line in &self.progress {
            line.0.store(0, Ordering::Relaxed);
        }
    }

    fn until(&self, ready: impl Fn() -> bool) {
        let mut tries = 0;
        while !ready() {
            tries += 1;
            if tries < SPINS {
                std::hint::spin_loop();
            } else {
                assert!(!self.broken.load(Ordering::Relaxed), "another thread of this step has failed");
                std::thread::yield_now();
            }
        }
    }

    /// Waits for all members; what they wrote before is seen after.
    pub fn barrier(&self) {
        if self.members == 1 {
            return;
        }
        let round = self.round.0.load(Ordering::Relaxed);
        if self.arrived.0.fetch_add(1, Ordering::AcqRel) + 1 == self.members {
            self.arrived.0.store(0, Ordering::Relaxed);
            self.round.0.store(round.wrapping_add(1), Ordering::Release);
        } else {
            self.until(|| self.round.0.load(Ordering::Acquire) != round);
        }
    }

    /// Does a member's part; should it panic, the others do not wait for it.
    pub fn guard(&self, part: impl FnOnce()) {
        if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(part)) {
            self.broken.store(true, Ordering::Relaxed);
            std::panic::resume_unwind(panic);
        }
    }

    /// Says that `member` has come to `point` of the job.
    pub fn publish(&self, member: usize, point: usize) {
        if self.members > 1 {
            self.progress[member].0.store(point, Ordering::Release);
        }
    }

    /// Waits until `member` has come to `point`.
    pub fn wait(&self, member: usize, point: usize) {
        let line = &self.progress[member].0;
        if line.load(Ordering::Acquire) < point {
            self.until(|| line.load(Ordering::Acquire) >= point);
        }
    }
}

/// Whether one kind of work is faster together or alone, judged by the clock: cores may be taken by other programs, and
/// members that wait for each other then lose a time slice at every meeting. Results do not depend on it.
#[derive(Debug, Default)]
pub struct Pace {
    /// Nanoseconds a unit of work together and alone, running means; 0 = not known.
    together: f64,
    alone: f64,
    /// Jobs done.
    jobs: u64,
    /// Jobs done together since that began.
    streak: u64,
    /// Jobs left before working together is tried again.
    rest: u64,
    /// How many that was when it last failed.
    backoff: u64,
}

impl Pace {
    /// The first jobs are done together, the next alone: up to which.
    const FIRST: (u64, u64) = (3, 5);
    /// Working alone is measured again so often.
    const AGAIN: u64 = 512;
    /// The shortest and the longest time alone before working together is tried again.
    const BACKOFF: (u64, u64) = (16, 1024);
    /// Jobs together that make up for a failure.
    const GOOD: u64 = 64;

    /// Never alone.
    #[cfg(test)]
    pub fn never_alone() -> Pace {
        Pace { alone: f64::INFINITY, jobs: Pace::FIRST.1, ..Pace::default() }
    }

    /// Does `size` units of work in one of two ways.
    pub fn choose(&mut self, size: usize, work: impl FnOnce(bool)) {
        let together = self.together();
        let start = Instant::now();
        work(together);
        self.note(together, start.elapsed().as_nanos() as f64 / size as f64);
    }

    /// Whether the next of many short jobs is done together.
    fn next(&mut self, span: &mut Span) -> bool {
        if span.left == 0 {
            if let Some(begun) = span.begun {
                self.note(span.together, begun.elapsed().as_nanos() as f64 / Span::JOBS as f64);
            }
            (span.together, span.left) = (self.together(), Span::JOBS);
            span.begun = Some(Instant::now());
        }
        span.left -= 1;
        span.together
    }

    fn together(&mut self) -> bool {
        self.jobs += 1;
        if self.jobs <= Pace::FIRST.1 {
            return self.jobs <= Pace::FIRST.0;
        }
        if self.jobs.is_multiple_of(Pace::AGAIN) {
            return false;
        }
        if self.together <= self.alone {
            return true;
        }
        self.rest = self.rest.saturating_sub(1);
        self.rest == 0
    }

    fn note(&mut self, together: bool, cost: f64) {
        if self.jobs <= Pace::FIRST.1 {
            // The best of the first: one of them is cold.
            let known = if together { &mut self.together } else { &mut self.alone };
            if *known == 0.0 || cost < *known {
                *known = cost;
            }
            self.rest = Pace::BACKOFF.0;
            return;
        }
        // A time slice lost now and then is the machine's and would be lost alone as well: one outlier decides nothing.
        let mean = |mean: f64| mean + (cost.min(3.0 * self.alone) - mean) / 8.0;
        if !together {
            self.alone = mean(self.alone);
            return;
        }
        let trial = self.together > self.alone;
        self.together = if trial { cost } else { mean(self.together) };
        if self.together <= self.alone {
            self.streak = if trial { 1 } else { self.streak + 1 };
        } else {
            let longer = if self.streak < Pace::GOOD { 2 * self.backoff } else { 0 };
            self.backoff = longer.clamp(Pace::BACKOFF.0, Pace::BACKOFF.1);
            self.rest = self.backoff;
            self.streak = 0;
        }
    }
}

/// Jobs of microseconds that follow each other closely, on which a [`Pace`] decides for some at a time: one is over before a
/// thread that was parked has woken, and before its cache holds its share of the weights.
#[derive(Debug, Default)]
pub struct Span {
    /// Jobs to come.
    left: usize,
    together: bool,
    begun: Option<Instant>,
}

impl Span {
    /// Jobs a decision.
    const JOBS: usize = 32;
}

struct Shared {
    meeting: Arc<Meeting>,
    /// The job's two words, valid while `epoch` is newer than `done` says.
    job: [AtomicU64; 2],
    epoch: Line<AtomicUsize>,
    done: Line<AtomicUsize>,
    quit: AtomicBool,
}

/// The caller, as member 0, and its helpers.
pub struct Team {
    shared: Arc<Shared>,
    alone: Meeting,
    helpers: Vec<JoinHandle<()>>,
}

impl Team {
    /// `members` in all; helpers that cannot be started make the team smaller.
    pub fn new(members: usize) -> Team {
        let mut team = Team::of(members);
        while team.helpers.len() + 1 < team.shared.meeting.members {
            team = Team::of(team.helpers.len() + 1);
        }
        team
    }

    fn of(members: usize) -> Team {
        pin_thread(0); // The caller.
        let shared = Arc::new(Shared {
            meeting: Arc::new(Meeting::new(members)),
            job: [AtomicU64::new(0), AtomicU64::new(0)],
            epoch: Line::default(),
            done: Line::default(),
            quit: AtomicBool::new(false),
        });
        let start = |member| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name(format!("narrow-{member}")).spawn(move || help(&shared, member))
        };
        let helpers = (1..members).map_while(|member| start(member).ok()).collect();
        Team { shared, alone: Meeting::new(1), helpers }
    }

    /// Does `size` units of work of the kind that `pace` knows, together or alone.
    pub fn work(&mut self, pace: &mut Pace, size: usize, job: Job) {
        if self.helpers.is_empty() {
            return job(&self.alone, 0);
        }
        pace.choose(size, |together| if together { self.run(job) } else { job(&self.alone, 0) });
    }

    /// The same for one of many short jobs.
    pub fn work_in_span(&mut self, pace: &mut Pace, span: &mut Span, job: Job) {
        if !self.helpers.is_empty() && pace.next(span) {
            return self.run(job);
        }
        job(&self.alone, 0);
    }

    /// Runs `job` for every member and returns when all are done.
    pub(super) fn run(&mut self, job: Job) {
        let shared = &*self.shared;
        shared.meeting.reset();
        // SAFETY: a reference to a trait object is two words; they are turned back in `help` before this returns.
        let words = unsafe { std::mem::transmute::<Job, [usize; 2]>(job) };
        for (to, word) in shared.job.iter().zip(words) {
            to.store(word as u64, Ordering::Relaxed);
        }
        shared.done.0.store(0, Ordering::Relaxed);
        shared.epoch.0.fetch_add(1, Ordering::Release);
        for helper in &self.helpers {
            helper.thread().unpark();
        }
        let mine = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(&shared.meeting, 0)));
        if mine.is_err() {
            shared.meeting.broken.store(true, Ordering::Relaxed);
        }
        // Helpers use what the job borrows: whatever happened, they must be done with it.
        let mut tries = 0;
        while shared.done.0.load(Ordering::Acquire) < self.helpers.len() {
            tries += 1;
            if tries < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        match mine {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => {
                assert!(!shared.meeting.broken.load(Ordering::Relaxed), "a thread of this step has failed")
            }
        }
    }
}

/// A helper's life.
fn help(shared: &Shared, member: usize) {
    pin_thread(member);
    let mut seen = 0;
    loop {
        let mut tries = 0;
        while shared.epoch.0.load(Ordering::Acquire) == seen {
            if shared.quit.load(Ordering::Relaxed) {
                return;
            }
            tries += 1;
            if tries < SPINS {
                std::hint::spin_loop();
            } else if tries < SPINS + YIELDS {
                std::thread::yield_now();
            } else {
                std::thread::park();
            }
        }
        seen = seen.wrapping_add(1);
        let words = [0, 1].map(|i| shared.job[i].load(Ordering::Relaxed) as usize);
        // SAFETY: `run` stored the words of a job before this epoch began, and waits for `done` before it returns.
        let job = unsafe { std::mem::transmute::<[usize; 2], Job>(words) };
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(&shared.meeting, member))).is_err() {
            shared.meeting.broken.store(true, Ordering::Relaxed);
        }
        shared.done.0.fetch_add(1, Ordering::Release);
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.quit.store(true, Ordering::Relaxed);
        for helper in self.helpers.drain(..) {
            helper.thread().unpark();
            // A helper that panicked has said so already.
            let _ = helper.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is slow at first, because threads must wake, is not given up for it: the decision is on many jobs.
    #[test]
    fn a_span_of_short_jobs_is_judged_as_one() {
        let (mut pace, mut span) = (Pace::default(), Span::default());
        let decisions: Vec<bool> = (0..5 * Span::JOBS).map(|_| pace.next(&mut span)).collect();
        let spans: Vec<bool> = decisions.chunks(Span::JOBS).map(|span| span[0]).collect();
        assert!(decisions.chunks(Span::JOBS).all(|span| span.iter().all(|&one| one == span[0])));
        assert_eq!(spans, [true, true, true, false, false]);
    }

    #[test]
    fn members_meet_and_jobs_follow_each_other() {
        for members in [1, 2, 5] {
            let mut team = Team::new(members);
            let total = AtomicUsize::new(0);
            for round in 0..200 {
                team.run(&|meeting, member| {
                    total.fetch_add(1, Ordering::Relaxed);
                    meeting.barrier();
                    assert_eq!(total.load(Ordering::Relaxed), (round + 1) * members);
                    meeting.barrier();
                    meeting.publish(member, 3);
                    for other in 0..members {
                        if members > 1 {
                            meeting.wait(other, 3);
                        }
                    }
                });
            }
        }
    }

    /// Together while that is faster, alone while it is not, and together again when the trouble is over.
    #[test]
    fn the_pace_follows_the_clock() {
        let mut pace = Pace::default();
        let mut times = |cost: f64, jobs: usize| {
            let mut together = 0;
            for _ in 0..jobs {
                let choice = pace.together();
                together += usize::from(choice);
                pace.note(choice, if choice { cost } else { 2.0 });
            }
            together
        };
        assert!(times(1.0, 1000) > 980);
        assert!(times(50.0, 5000) < 20);
        assert!(times(1.0, 5000) > 2500);
        assert!(times(1.0, 1000) > 980);
    }

    #[test]
    fn a_failure_ends_the_job_and_not_the_program() {
        let mut team = Team::new(3);
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            team.run(&|_, member| assert_ne!(member, 2, "as it should"));
        }));
        assert!(failed.is_err());
    }
}
