//! One bar for all trials of a study: how far they are, weighted by what they cost, and the time left. Where standard
//! error is no terminal, one line for each finished trial.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::train::progress::{Seen, duration};

/// The bar's length.
const LENGTH: u64 = 10_000;

/// A trial's progress is counted in these.
const WHOLE: u64 = 1 << 32;

/// The bar is drawn at most this often.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// How far the trials of a study are.
#[derive(Debug)]
pub struct Board {
    bar: Option<ProgressBar>,
    /// What each trial costs, in any unit.
    costs: Vec<f64>,
    /// How far each is, of [`WHOLE`].
    done: Vec<AtomicU64>,
    /// Cost that earlier sessions have paid.
    before: f64,
    began: Instant,
    /// Milliseconds after `began` when the bar was drawn last.
    drawn: AtomicU64,
    finished: AtomicU64,
}

impl Board {
    /// Trials with these costs, of which some are done already.
    pub fn new(costs: Vec<f64>, already: &[bool]) -> Board {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(LENGTH), ProgressDrawTarget::stderr_with_hz(8));
            if let Ok(style) =
                ProgressStyle::with_template("{bar:24} {percent}%  {msg}  elapsed {elapsed_precise}")
            {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        let done = |&done: &bool| AtomicU64::new(if done { WHOLE } else { 0 });
        let mut board = Board {
            bar,
            costs,
            done: already.iter().map(done).collect(),
            before: 0.0,
            began: Instant::now(),
            drawn: AtomicU64::new(0),
            finished: AtomicU64::new(already.iter().filter(|done| **done).count() as u64),
        };
        board.before = board.paid();
        board
    }

    /// A trial has got on. What it had done in an earlier session counts as paid before.
    pub fn see(&self, trial: usize, seen: Seen) {
        let part = (seen.step.min(seen.total) as f64 / seen.total.max(1) as f64 * WHOLE as f64) as u64;
        if let Some(done) = self.done.get(trial) {
            done.store(part, Ordering::Relaxed);
        }
        let now = self.began.elapsed().as_millis() as u64;
        let last = self.drawn.load(Ordering::Relaxed);
        let due = now.saturating_sub(last) as u128 >= DRAW_EVERY.as_millis();
        if due && self.drawn.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.draw();
        }
    }

    /// A trial is over, well or not; `line` tells of it.
    pub fn end(&self, trial: usize, line: &str) {
        if let Some(done) = self.done.get(trial) {
            done.store(WHOLE, Ordering::Relaxed);
        }
        let finished = self.finished.fetch_add(1, Ordering::Relaxed) + 1;
        let left = match self.left() {
            Some(seconds) if finished < self.costs.len() as u64 => format!("; about {} left", rough(seconds)),
            _ => String::new(),
        };
        self.say(&format!("[{finished}/{}] {line}{left}", self.costs.len()));
        self.draw();
    }

    /// A message of its own line.
    pub fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    /// Takes the bar away.
    pub fn close(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn draw(&self) {
        let Some(bar) = &self.bar else { return };
        let total: f64 = self.costs.iter().sum();
        let left = self.left().map_or("?".into(), rough);
        bar.set_message(format!(
            "{} of {} trials  left {left}",
            self.finished.load(Ordering::Relaxed),
            self.costs.len()
        ));
        bar.set_position((self.paid() / total.max(1e-9) * LENGTH as f64) as u64);
    }

    /// Cost of what is done.
    fn paid(&self) -> f64 {
        let part = |done: &AtomicU64| done.load(Ordering::Relaxed) as f64 / WHOLE as f64;
        self.costs.iter().zip(&self.done).map(|(cost, done)| cost * part(done)).sum()
    }

    /// Seconds that are left at the pace of this session; None before there is one. Trials that stop early make it
    /// less.
    fn left(&self) -> Option<f64> {
        left(self.costs.iter().sum(), self.before, self.paid(), self.began.elapsed().as_secs_f64())
    }
}

/// Seconds left of a total cost of which `before` was paid by earlier sessions and `paid` until now, `elapsed` seconds
/// after this one began.
fn left(total: f64, before: f64, paid: f64, elapsed: f64) -> Option<f64> {
    let pace = (paid - before) / elapsed.max(1e-9);
    (pace > 0.0).then(|| (total - paid).max(0.0) / pace)
}

/// Seconds as an estimate is said: no tenths.
fn rough(seconds: f64) -> String {
    duration(if seconds < 90.0 { seconds.ceil() } else { seconds }).replace(".0 s", " s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_is_by_cost_and_earlier_sessions_do_not_count() {
        assert_eq!(left(100.0, 0.0, 25.0, 10.0), Some(30.0));
        assert_eq!(left(100.0, 50.0, 60.0, 10.0), Some(40.0));
        assert_eq!(left(100.0, 50.0, 50.0, 10.0), None);
        assert_eq!(left(100.0, 0.0, 101.0, 10.0), Some(0.0));
        assert_eq!([rough(12.3), rough(125.0)], ["13 s", "2 min 05 s"]);
    }

    #[test]
    fn a_board_adds_up_by_cost() {
        let board = Board::new(vec![1.0, 2.0, 5.0], &[true, false, false]);
        assert_eq!(board.paid(), 1.0);
        board.see(1, Seen { step: 5, total: 10 });
        assert!((board.paid() - 2.0).abs() < 1e-6);
        board.end(2, "done");
        assert!((board.paid() - 7.0).abs() < 1e-6);
        // Steps beyond a total, and a total of none.
        board.see(1, Seen { step: 11, total: 10 });
        board.see(1, Seen { step: 0, total: 0 });
        assert!((board.paid() - 6.0).abs() < 1e-6);
    }
}
