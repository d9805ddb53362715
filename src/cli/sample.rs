//! `songrnn-fast sample`: writes tunes with a trained model.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use rayon::prelude::*;

use super::{Outcome, UsageError};
use crate::engine::{self, EngineError, EngineSpec, Kernel, Precision};
use crate::files;
use crate::model::{self, ModelFile};
use crate::sample::{self, Choice, Formats, Judged, SampleError, SampleOptions, Written, prime};
use crate::sound::{self, SoundFont};

/// The most tunes written at once; more come from another seed.
const MAX_TUNES: usize = 10_000;
/// The most characters of a tune; real ones have a few hundred.
const MAX_CHARS: usize = 1_000_000;
/// The most threads.
const MAX_THREADS: usize = 1024;
/// The most characters of all tunes together, should none of them end: they are kept in memory until they are written.
const MAX_TOTAL: usize = 100_000_000;

/// What is typed after `sample`.
#[derive(Debug, Clone, Args)]
pub struct SampleArgs {
    /// A run folder (its best model is taken) or a model file; without it, the newest run under runs/
    #[arg(long, value_name = "RUN|FILE")]
    pub model: Option<PathBuf>,
    /// How many tunes; up to three are printed as well
    #[arg(
        short = 'n',
        long = "tunes",
        value_name = "N",
        default_value_t = 64,
        allow_negative_numbers = true
    )]
    pub tunes: usize,
    /// How daring: below 1 the probable characters gain, above 1 the improbable ones; 0 always takes the most probable
    #[arg(long, value_name = "T", default_value_t = 0.8, allow_negative_numbers = true)]
    pub temperature: f32,
    /// Choose among the K most probable characters only; 0 = all
    #[arg(long, value_name = "K", default_value_t = 0, allow_negative_numbers = true)]
    pub top_k: usize,
    /// Choose among the most probable characters whose probabilities sum to P, above 0 and at most 1; 1 = all
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    pub top_p: f32,
    /// The beginning of every tune: a text, in which \n is a line break (and \\ a backslash), or @FILE
    #[arg(
        long,
        value_name = "TEXT|@FILE",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub prime: String,
    /// The most characters of a tune, the prime included; a tune that the model has not ended there is cut off
    #[arg(long, value_name = "N", default_value_t = 2000, allow_negative_numbers = true)]
    pub max_chars: usize,
    /// Seed of the random numbers: the same seed gives the same tunes
    #[arg(long, value_name = "SEED", default_value_t = 1, allow_negative_numbers = true)]
    pub seed: u64,
    /// Folder for the tunes; without it, a new one: tunes/MODEL-seedSEED
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// What to write: abc (one file a tune and a tunebook of all), txt (exactly what the model wrote), mid
    #[arg(long, value_name = "LIST", default_value = "abc,txt,mid")]
    pub format: Formats,
    /// auto, cpu or cuda[:N] [default: auto]
    #[arg(long)]
    pub device: Option<String>,
    /// Number format; the short ones are faster on a GPU and choose other characters now and then [default: f32]
    #[arg(long, default_value = "f32", hide_default_value = true)]
    pub precision: Precision,
    /// Threads; 0 = one a core
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub threads: usize,
    /// Leave chord symbols out of the MIDI files
    #[arg(long)]
    pub no_chords: bool,
    /// Write a .wav of every tune as well, played with this SoundFont 2 file; ten megabytes a minute
    #[arg(long, value_name = "FONT.sf2")]
    pub soundfont: Option<PathBuf>,
}

impl SampleArgs {
    /// The options, checked; what can be wrong here is the user's typing.
    fn options(&self) -> anyhow::Result<SampleOptions> {
        let usage = |message: String| Err(UsageError(message).into());
        if self.tunes == 0 || self.tunes > MAX_TUNES {
            return usage(format!(
                "-n is {}; expected 1 to {MAX_TUNES} tunes (for more, sample again with another --seed)",
                self.tunes
            ));
        }
        if self.max_chars == 0 || self.max_chars > MAX_CHARS {
            return usage(format!("--max-chars is {}; expected 1 to {MAX_CHARS}", self.max_chars));
        }
        // Tens of thousands of threads start one by one for minutes before the system refuses.
        if self.threads > MAX_THREADS {
            return usage(format!("--threads is {}; expected 0 (one a core) to {MAX_THREADS}", self.threads));
        }
        if self.tunes * self.max_chars > MAX_TOTAL {
            return usage(format!(
                "{} tunes of up to {} characters are up to {} characters, expected at most {MAX_TOTAL}; lower -n or \
                 --max-chars",
                self.tunes,
                self.max_chars,
                self.tunes * self.max_chars
            ));
        }
        let choice = Choice { temperature: self.temperature, top_k: self.top_k, top_p: self.top_p };
        choice.check().map_err(UsageError)?;
        Ok(SampleOptions {
            tunes: self.tunes,
            first_index: 0,
            seed: self.seed,
            choice,
            prime: prime::resolve(&self.prime)?,
            max_chars: self.max_chars,
        })
    }
}

/// Runs the command.
pub fn run(args: &SampleArgs) -> anyhow::Result<Outcome> {
    let options = args.options()?;
    // A file that is in the way is said before the work, not after it.
    if let Some(folder) = &args.out {
        if folder.exists() && !folder.is_dir() {
            return Err(UsageError(format!(
                "--out {}: a folder is expected, this is a file",
                folder.display()
            ))
            .into());
        }
        if let Some(path) = sample::write::first_collision(folder, options.tunes, args.format) {
            return Err(sample::WriteError::Exists { path }.into());
        }
        let wav = |number| folder.join(sample::write::file_name(number, options.tunes, "wav"));
        if args.soundfont.is_some()
            && let Some(path) = (1..=options.tunes).map(wav).find(|path| path.symlink_metadata().is_ok())
        {
            return Err(sample::WriteError::Exists { path }.into());
        }
    }
    let font = args.soundfont.as_deref().map(SoundFont::load).transpose()?;
    let path = model::locate(args.model.as_deref())?;
    let model = ModelFile::load(&path)?;
    // Asked for here too, so that a mistake in the prime is not found after the engine's building.
    options.request(&model.vocab).map_err(usage_of)?;

    let device = super::train::device(args.device.as_deref(), Kernel::Auto).map_err(UsageError)?;
    let began = Instant::now();
    let spec = EngineSpec { device, ..EngineSpec::cpu(model.shape, args.precision, args.threads) };
    let mut engine = engine::build(&spec)?;
    engine.load_params(&model.params)?;
    eprintln!("{}: {}; {} engine, {}", path.display(), model.shape, engine.info().name, engine.info().detail);
    if let Some(note) = engine.info().note {
        eprintln!("{note}");
    }
    let tunes = sample::tunes(engine.as_mut(), &model.vocab, &options).map_err(usage_of)?;
    let chars: usize = tunes.iter().map(|tune| tune.text.chars().count()).sum();
    let seconds = began.elapsed().as_secs_f64();
    eprintln!(
        "{chars} characters in {seconds:.1} s: {:.0} characters a second",
        chars as f64 / seconds.max(1e-9)
    );

    let threads = rayon::ThreadPoolBuilder::new().num_threads(args.threads).build();
    let threads = threads.context("cannot start threads; try --threads 1")?;
    let judged = threads.install(|| sample::judge_all(&tunes, !args.no_chords));
    let mut new = None;
    let folder = match &args.out {
        Some(folder) => folder.clone(),
        None => new.insert(NewFolder::make(&default_folder(&path, args.seed))?).path.clone(),
    };
    let written = threads.install(|| sample::write_set(&folder, &judged, args.format, false))?;
    if let Some(new) = &mut new {
        new.keep = true;
    }

    let mut out = io::stdout().lock();
    if judged.len() <= 3 {
        for tune in &judged {
            // The file has every character; a terminal would take some for commands.
            let fit = |c: char| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c };
            writeln!(out, "{}\n", tune.text.chars().map(fit).collect::<String>())?;
        }
    }
    write!(out, "{}", sample::table(&judged))?;
    // The tunes stand whatever becomes of the sound: it is made one by one, since a set's would not fit in memory.
    let sounds = match &font {
        Some(font) => threads.install(|| write_sounds(&folder, &judged, font))?,
        None => 0,
    };
    writeln!(out, "{}: {}", folder.display(), tell(&written, sounds))?;
    Ok(Outcome::Done)
}

/// Writes a .wav for every tune with notes; how many.
fn write_sounds(folder: &Path, tunes: &[Judged], font: &SoundFont) -> anyhow::Result<usize> {
    let one = |(i, tune): (usize, &Judged)| -> anyhow::Result<usize> {
        let Some(midi) = &tune.midi else { return Ok(0) };
        let path = folder.join(sample::write::file_name(i + 1, tunes.len(), "wav"));
        let (wav, note) =
            sound::midi_to_wav(midi, font).with_context(|| format!("making {}", path.display()))?;
        files::write_atomic(&path, &wav)?;
        if let Some(note) = note {
            eprintln!("{}: {note}", path.display());
        }
        Ok(1)
    };
    tunes.par_iter().enumerate().map(one).sum()
}

/// A prime that the model cannot read or options out of range are the user's typing; the rest is not.
fn usage_of(error: SampleError) -> anyhow::Error {
    match error {
        SampleError::Prime(error) => UsageError(error.to_string()).into(),
        SampleError::Engine(EngineError::Unsupported(message)) => UsageError(message).into(),
        SampleError::Engine(error) => error.into(),
    }
}

/// `12 .txt, 12 .abc, 11 .mid, 11 .wav, tunebook.abc`.
fn tell(written: &Written, sounds: usize) -> String {
    let kinds = [(written.txt, ".txt"), (written.abc, ".abc"), (written.mid, ".mid"), (sounds, ".wav")];
    let mut parts: Vec<String> =
        kinds.iter().filter(|(count, _)| *count > 0).map(|(count, kind)| format!("{count} {kind}")).collect();
    if written.tunebook {
        parts.push(sample::write::TUNEBOOK.into());
    }
    if parts.is_empty() { "nothing to write: no tune can be played".into() } else { parts.join(", ") }
}

/// `tunes/MODEL-seedSEED`: the model's name is its run folder's, or the file's own where it is not a run's.
fn default_folder(model: &Path, seed: u64) -> PathBuf {
    let own = model.file_name().is_some_and(|name| name == model::file::BEST || name == model::file::LAST);
    let run = || fs::canonicalize(model).ok()?.parent()?.file_name().map(|name| name.to_os_string());
    let name = if own { run() } else { model.file_stem().map(|stem| stem.to_os_string()) };
    let name = name.map_or("model".into(), |name| name.to_string_lossy().into_owned());
    Path::new("tunes").join(format!("{name}-seed{seed}"))
}

/// A folder made for this command; removed again unless kept.
struct NewFolder {
    path: PathBuf,
    made_parent: bool,
    keep: bool,
}

impl NewFolder {
    /// Makes `wish`, or where it holds something `wish-2`, `wish-3`, ... and says so.
    fn make(wish: &Path) -> anyhow::Result<NewFolder> {
        let parent = wish.parent().unwrap_or(Path::new("."));
        let made_parent = !parent.exists();
        fs::create_dir_all(parent).with_context(|| format!("cannot make the folder {}", parent.display()))?;
        let mut number = 1u32;
        loop {
            let path = match number {
                1 => wish.to_path_buf(),
                _ => PathBuf::from(format!("{}-{number}", wish.display())),
            };
            match fs::create_dir(&path) {
                Ok(()) => {
                    if number > 1 {
                        eprintln!("{} holds tunes already; these go to {}", wish.display(), path.display());
                    }
                    return Ok(NewFolder { path, made_parent, keep: false });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 100_000 => number += 1,
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot make the folder {}", path.display()));
                }
            }
        }
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        if !self.keep {
            let _ = fs::remove_dir(&self.path);
            if let (true, Some(parent)) = (self.made_parent, self.path.parent()) {
                let _ = fs::remove_dir(parent);
            }
        }
    }
}
