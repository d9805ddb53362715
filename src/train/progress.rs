//! What a person sees while a run is on: a bar where standard error is a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How far a run is, for whoever shows several runs in one bar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Steps done, earlier sessions included.
    pub step: u64,
    /// Steps of the whole run; early stopping may end it before.
    pub total: u64,
}

/// Told after each step, from the run's own thread.
pub type Observer = dyn Fn(Seen) + Send + Sync;

/// Messages and the bar. Everything goes to standard error.
pub struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    observer: Option<Arc<Observer>>,
    total: u64,
    began: Instant,
    /// Characters since `began`.
    chars: u64,
}

impl Progress {
    /// A bar on a terminal, lines elsewhere.
    pub fn new() -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(8));
            if let Ok(style) =
                ProgressStyle::with_template("{bar:24} {msg}  elapsed {elapsed_precise}, left {eta_precise}")
            {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        Progress { bar, quiet: false, ..Progress::quiet() }
    }

    /// Nothing at all (tests).
    pub fn quiet() -> Progress {
        Progress { bar: None, quiet: true, observer: None, total: 0, began: Instant::now(), chars: 0 }
    }

    /// Nothing is shown; `observer` is told of the beginning and of each step.
    pub fn observed(observer: Arc<Observer>) -> Progress {
        Progress { observer: Some(observer), ..Progress::quiet() }
    }

    fn tell(&self, step: u64) {
        if let Some(observer) = &self.observer {
            observer(Seen { step, total: self.total });
        }
    }

    /// The loop begins at step `step` of `total`.
    pub fn begin(&mut self, step: u64, total: u64) {
        self.began = Instant::now();
        self.chars = 0;
        self.total = total;
        self.tell(step);
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(step);
            bar.reset_eta();
        }
    }

    /// A step is done.
    pub fn step(&mut self, step: u64, epoch: f64, loss: Option<f64>, chars: u64) {
        self.chars += chars;
        self.tell(step);
        if let Some(bar) = &self.bar {
            let loss = loss.map_or("-".into(), |loss| format!("{loss:.4}"));
            bar.set_message(format!("epoch {epoch:.2}  loss {loss}  {} characters/s", short(self.rate())));
            bar.set_position(step);
        }
    }

    /// Characters a second since the loop began.
    pub fn rate(&self) -> f64 {
        self.chars as f64 / self.began.elapsed().as_secs_f64().max(1e-9)
    }

    /// Whether a bar is shown.
    pub fn has_bar(&self) -> bool {
        self.bar.is_some()
    }

    /// A message of its own line(s).
    pub fn say(&self, text: &str) {
        if self.quiet {
            return;
        }
        match &self.bar {
            // println through the bar keeps it below the text.
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    /// Takes the bar away.
    pub fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Default for Progress {
    fn default() -> Progress {
        Progress::new()
    }
}

/// 1234567 -> `1.23 M`.
pub fn short(number: f64) -> String {
    match number {
        n if n >= 1e9 => format!("{:.2} G", n / 1e9),
        n if n >= 1e6 => format!("{:.2} M", n / 1e6),
        n if n >= 1e4 => format!("{:.0} k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

/// Seconds as people say them.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..=89 => format!("{seconds:.1} s"),
        90..=5399 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_people_read_them() {
        assert_eq!([short(950.0), short(12_345.0), short(1_234_567.0)], ["950", "12 k", "1.23 M"]);
        assert_eq!(
            [duration(3.25), duration(125.0), duration(7260.0)],
            ["3.2 s", "2 min 05 s", "2 h 01 min"]
        );
    }
}
