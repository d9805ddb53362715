//! Runs a study: trials side by side on the cores that there are, longest first, what is done already left alone.
//!
//! Trials of the contract's protocol on a GPU run one at a time; those of the assignment's run on the processor. How
//! many threads a trial gets changes no result, so it is decided by what is free when it begins.

use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;

use super::board::Board;
use super::collect;
use super::folder::Folder;
pub use super::folder::{StudyData, Texts, data_texts};
use super::grid::Grid;
use super::results::{Protocol, Results, Trial};
use super::songs::{SLICE, Songs};
use super::trial::{self, Job, Stored};
use super::{StudyError, assignment, contract};
use crate::engine::{self, Device, Engine, EngineError, EngineSpec, Kernel};
use crate::machine;
use crate::model::ModelShape;

/// What makes the engines of a study, from several threads: [`engine::build`], or a test's own.
pub type Build<'a> = dyn Fn(&EngineSpec) -> Result<Box<dyn Engine>, EngineError> + Sync + 'a;

/// Whether the study is to stop, asked from several threads: [`crate::train::interrupt::requested`], or a test's own.
pub type Stop<'a> = dyn Fn() -> bool + Sync + 'a;

/// What every trial of a study has in common.
pub struct Context<'a> {
    /// The grid, its batch no larger than the number of training tunes.
    pub grid: &'a Grid,
    /// The study's folder.
    pub folder: &'a Folder,
    /// Where trials of the contract's protocol run.
    pub device: Device,
    /// Makes engines.
    pub build: &'a Build<'a>,
    /// Whether to stop.
    pub stop: &'a Stop<'a>,
}

/// A trial that failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Incomplete {
    /// Which.
    pub job: Job,
    /// Why, one chain of causes.
    pub problem: String,
}

/// How a study ended.
#[derive(Debug)]
pub struct Ended {
    /// What it found; tune sets and neurons are empty.
    pub results: Results,
    /// Trials that failed; the study is incomplete without them. Running it again tries them again.
    pub incomplete: Vec<Incomplete>,
    /// Whether it was asked to stop before all trials were done. What is done is saved.
    pub interrupted: bool,
    /// Trials that were done before this run began.
    pub reused: usize,
    /// The study's folder, locked as long as this lives, with its tunes ([`Folder::texts`]).
    pub folder: Folder,
}

/// Runs the trials of `grid` that are not done yet in the folder `out`. `threads`: how many cores to use, 0 for all.
pub fn run(
    grid: &Grid,
    data: &StudyData,
    out: &Path,
    threads: usize,
    device: Device,
    stop: &Stop<'_>,
) -> Result<Ended, StudyError> {
    run_with(grid, data, out, threads, device, &engine::build, stop)
}

/// [`run`] with another maker of engines.
pub fn run_with(
    grid: &Grid,
    data: &StudyData,
    out: &Path,
    threads: usize,
    device: Device,
    build: &Build<'_>,
    stop: &Stop<'_>,
) -> Result<Ended, StudyError> {
    grid.check().map_err(StudyError::Usage)?;
    engine::check_device(device, Kernel::Auto).map_err(StudyError::Usage)?;
    if threads > 1024 {
        return Err(StudyError::Usage(format!("--threads {threads}: expected 0 (one a core) to 1024")));
    }
    let folder = Folder::open(out, grid, data)?;
    let songs = match grid.protocols.contains(&Protocol::Assignment) {
        true => Some(Songs::read(&folder.asked, &folder.data)?),
        false => None,
    };
    let mut grid = grid.clone();
    let tunes = folder.data.train.tunes.len();
    if grid.batch > tunes {
        eprintln!("note: batch {tunes} instead of {}, as there are {tunes} training tunes", grid.batch);
        grid.batch = tunes;
    }
    let context = Context { grid: &grid, folder: &folder, device, build, stop };
    let jobs = grid.jobs();
    let costs: Vec<f64> = jobs.iter().map(|job| cost(&context, songs.as_ref(), job)).collect();
    let mut trials: Vec<Option<Trial>> = Vec::with_capacity(jobs.len());
    for job in &jobs {
        trials.push(match trial::load(out, job)? {
            Stored::Done(trial) => Some(*trial),
            Stored::None => None,
            Stored::Damaged(problem) => {
                eprintln!("note: {problem}; it is made again");
                None
            }
        });
    }
    let already: Vec<bool> = trials.iter().map(Option::is_some).collect();
    let reused = already.iter().filter(|done| **done).count();
    let board = Arc::new(Board::new(costs.clone(), &already));
    if reused > 0 {
        board.say(&format!("{reused} of {} trials are done already", jobs.len()));
    }
    // Longest first: what is left at the end is short, and cores idle less.
    let mut queue: Vec<usize> = (0..jobs.len()).filter(|&job| !already[job]).collect();
    queue.sort_by(|&a, &b| costs[b].total_cmp(&costs[a]));
    let cores = if threads == 0 { machine::threads() } else { threads };
    let mut incomplete = Vec::new();
    let mut interrupted = false;
    let work = Work { context: &context, songs: songs.as_ref(), jobs: &jobs, board: &board };
    work.all(queue, cores, &mut |job, result| match result {
        Ok(Some(trial)) => {
            board.end(job, &line(&jobs[job], &trial));
            trials[job] = Some(trial);
        }
        Ok(None) => interrupted = true,
        Err(problem) => {
            board.end(job, &format!("{}: FAILED: {problem}", jobs[job]));
            incomplete.push(Incomplete { job: jobs[job], problem });
        }
    });
    board.close();
    // Also where it was stopped before a trial had begun.
    interrupted |= trials.iter().flatten().count() + incomplete.len() < jobs.len();
    let trials = trials.into_iter().flatten().collect();
    let results = collect::results(&context, songs.as_ref(), trials);
    Ok(Ended { results, incomplete, interrupted, reused, folder })
}

/// A trial's end: its result, None where it was stopped, or why it failed.
type Outcome = Result<Option<Trial>, String>;

/// Trials to be run.
struct Work<'a> {
    context: &'a Context<'a>,
    songs: Option<&'a Songs>,
    jobs: &'a [Job],
    board: &'a Arc<Board>,
}

impl Work<'_> {
    /// Runs the trials of `queue` (indices into the jobs) in this order on `cores` threads.
    fn all(&self, mut queue: Vec<usize>, cores: usize, ended: &mut dyn FnMut(usize, Outcome)) {
        let (sender, receiver) = mpsc::channel::<(usize, usize, Outcome)>();
        let on_gpu =
            |job: usize| self.jobs[job].protocol == Protocol::Contract && uses_gpu(self.context.device);
        thread::scope(|scope| {
            let (mut free, mut gpu_free, mut running) = (cores, true, 0);
            loop {
                while free > 0 && !(self.context.stop)() {
                    let Some(at) = queue.iter().position(|&job| gpu_free || !on_gpu(job)) else { break };
                    let waiting = queue.len();
                    let job = queue.remove(at);
                    let one = on_gpu(job) || self.jobs[job].protocol == Protocol::Assignment;
                    let threads = if one { 1 } else { share(free, waiting) };
                    free -= threads;
                    gpu_free &= !on_gpu(job);
                    running += 1;
                    let sender = sender.clone();
                    scope.spawn(move || {
                        // A defect in one trial must not take the others with it.
                        let outcome = panic::catch_unwind(AssertUnwindSafe(|| self.one(job, threads)));
                        let outcome = outcome.unwrap_or_else(|_| {
                            Err("a defect in this program; please report it with the message above".into())
                        });
                        // Nobody listens only where the coordinator is gone, which waits for all.
                        let _ = sender.send((job, threads, outcome));
                    });
                }
                if running == 0 {
                    break;
                }
                let Ok((job, threads, outcome)) = receiver.recv() else { break };
                running -= 1;
                free += threads;
                gpu_free |= on_gpu(job);
                ended(job, outcome);
            }
        });
    }

    fn one(&self, index: usize, threads: usize) -> Outcome {
        let board = self.board.clone();
        let observer = Arc::new(move |seen| board.see(index, seen));
        let job = &self.jobs[index];
        let result = match (job.protocol, self.songs) {
            (Protocol::Assignment, Some(songs)) => assignment::run(self.context, songs, job, observer),
            // Songs are read wherever the grid has the assignment's protocol.
            _ => contract::run(self.context, job, threads, observer),
        };
        result.map_err(|error| format!("{:#}", anyhow::Error::from(error)))
    }
}

/// Threads for the next trial: with `waiting` trials left (this one among them), `free` cores are shared out.
fn share(free: usize, waiting: usize) -> usize {
    (free / waiting.clamp(1, free.max(1))).max(1)
}

/// Whether trials will run on a GPU, as far as can be told before.
fn uses_gpu(device: Device) -> bool {
    match device {
        Device::Cpu => false,
        Device::Auto => engine::gpus().is_ok(),
        Device::Cuda(_) | Device::Emulated => true,
    }
}

/// What a trial costs at most, in multiply-adds and the like: for the order and the time left.
fn cost(context: &Context<'_>, songs: Option<&Songs>, job: &Job) -> f64 {
    let data = &context.folder.data;
    let variant = &job.variant;
    let shape = ModelShape {
        cell: variant.cell,
        vocab: data.vocab.len(),
        hidden: variant.hidden,
        layers: variant.layers,
    };
    // Measured: time a character goes with the weights that it is multiplied with (not those of the first layer's input,
    // which is a character and no vector) and something besides; at one slice an update with all weights, which are then
    // updated every 30 characters.
    const BESIDES: f64 = 15_000.0;
    const ONE_BY_ONE: f64 = 1.1;
    let all = shape.params() as f64;
    let multiplied = all - (shape.gate_rows() * shape.vocab) as f64;
    let grid = context.grid;
    match (job.protocol, songs) {
        (Protocol::Assignment, Some(songs)) => {
            let chars = (songs.train.len() * SLICE) as f64;
            chars * grid.assignment_epochs as f64 * all * ONE_BY_ONE
        }
        _ => data.train.predictions() as f64 * grid.epochs as f64 * (multiplied + BESIDES),
    }
}

/// What a finished trial has to tell.
fn line(job: &Job, trial: &Trial) -> String {
    let epochs = format!("epoch {:.0} of {:.0}", trial.best_epoch, trial.epochs);
    let nats = |loss: f64| format!("{loss:.4} nats");
    match (trial.slices, trial.validation, trial.train) {
        (Some(slices), Some(whole), _) => {
            format!("{job}: best slices {} ({epochs}), whole songs {}", nats(slices), nats(whole.nats))
        }
        (_, Some(validation), _) => format!("{job}: validation {} ({epochs})", nats(validation.nats)),
        (_, None, Some(train)) => format!("{job}: training {} ({epochs})", nats(train.nats)),
        _ => format!("{job}: done ({epochs})"),
    }
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn cores_are_shared_out_and_none_idles_while_a_trial_begins() {
        assert_eq!([share(2, 60), share(2, 2), share(2, 1), share(1, 1)], [1, 1, 2, 1]);
        // Three trials on eight cores: 2, 3, 3.
        assert_eq!([share(8, 3), share(6, 2), share(3, 1)], [2, 3, 3]);
    }
}
