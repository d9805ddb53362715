//! `songrnn-fast inspect FILE|DATA...`: what is in a packed corpus, in files of tunes (packed on the way), or in a
//! model file.

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::pack::{Bar, print_notes, stop_flag};
use super::{Outcome, UsageError, inspect_model};
use crate::corpus::{CorpusError, Pack, PackOptions, Split, open_data_with};

/// Tell what is in a packed corpus or in files of tunes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A packed corpus, a model file or run folder, or files and folders of tunes.
    #[arg(required = true, value_name = "FILE|DATA")]
    pub data: Vec<PathBuf>,
    /// Print the tune of this number, from 1, and nothing else.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub tune: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Count tunes whose body has been met before as tunes (of files; a packed corpus is as it was packed).
    #[arg(long)]
    pub keep_duplicates: bool,
}

/// Opens the data and prints what was asked for.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    if let [one] = args.data.as_slice()
        && let Some(model) = inspect_model::model_file(one)
    {
        if args.tune.is_some() {
            return Err(UsageError(format!(
                "--tune: {} is a model file and holds no tunes",
                model.display()
            ))
            .into());
        }
        let text = inspect_model::describe(&model, args.json)?;
        std::io::stdout().lock().write_all(text.as_bytes())?;
        return Ok(Outcome::Done);
    }
    let folder = ScratchFolder::create()?;
    let bar = Bar::new();
    let options = PackOptions { keep_duplicates: args.keep_duplicates, threads: 0, stop: stop_flag() };
    let scratch = folder.0.join("inspected.pack");
    let opened = open_data_with(&args.data, &options, &scratch, &|progress| bar.show(progress));
    bar.clear();
    let (pack, notes) = match opened {
        Err(CorpusError::Stopped) => return Ok(Outcome::Interrupted),
        opened => opened?,
    };
    // An open map keeps the file's content; without the name nothing stays behind, however this ends.
    drop(folder);
    print_notes(&notes);
    let text = match args.tune {
        Some(number) => one_tune(&pack, number, args.json)?,
        None => {
            let packed = matches!(args.data.as_slice(), [one] if Pack::is_pack(one));
            let report = Report::of(&pack);
            if args.json { report.json(&pack, packed) } else { report.text(&pack, &args.data, packed) }
        }
    };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(Outcome::Done)
}

/// A folder of our own among the system's temporary files, removed in the end.
struct ScratchFolder(PathBuf);

impl ScratchFolder {
    fn create() -> anyhow::Result<ScratchFolder> {
        let base = std::env::temp_dir();
        for number in 0..1000 {
            let folder = base.join(format!("songrnn-fast-{}-{number}", std::process::id()));
            match std::fs::create_dir(&folder) {
                Ok(()) => return Ok(ScratchFolder(folder)),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => {
                    let what = format!("cannot make a temporary folder in {}; set TMPDIR", base.display());
                    return Err(anyhow::Error::new(e).context(what));
                }
            }
        }
        anyhow::bail!("{} is full of temporary folders; clear it, or set TMPDIR", base.display())
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn one_tune(pack: &Pack, number: u64, as_json: bool) -> anyhow::Result<String> {
    let tune = usize::try_from(number - 1).ok().filter(|&tune| tune < pack.tunes());
    let Some(tune) = tune else {
        let n = pack.tunes();
        return Err(UsageError(format!("--tune {number}: there are {n} tunes, expected 1 to {n}")).into());
    };
    let text = pack.text(tune);
    Ok(if as_json {
        let value = json!({ "tune": number, "split": pack.split(tune).name(), "text": text });
        format!("{value}\n")
    } else {
        format!("{text}\n")
    })
}

/// What is counted over all tunes.
struct Report {
    /// By split.
    tunes: [u64; 3],
    /// By split, without `<start>` and `<end>`.
    characters: [u64; 3],
    /// Of a tune, in characters.
    shortest: u32,
    median: u32,
    longest: u32,
}

impl Report {
    fn of(pack: &Pack) -> Report {
        let (mut tunes, mut characters) = ([0; 3], [0; 3]);
        let mut lengths = Vec::with_capacity(pack.tunes());
        for tune in 0..pack.tunes() {
            let (split, length) = (pack.split(tune) as usize, pack.token_count(tune).saturating_sub(2));
            tunes[split] += 1;
            characters[split] += length as u64;
            lengths.push(length as u32);
        }
        let (shortest, longest) =
            (lengths.iter().min().copied().unwrap_or(0), lengths.iter().max().copied().unwrap_or(0));
        let middle = lengths.len() / 2;
        let median = if lengths.is_empty() { 0 } else { *lengths.select_nth_unstable(middle).1 };
        Report { tunes, characters, shortest, median, longest }
    }

    fn text(&self, pack: &Pack, data: &[PathBuf], packed: bool) -> String {
        let by_split = |of: &[u64; 3]| {
            let parts: Vec<String> =
                Split::ALL.iter().map(|&s| format!("{} {}", s.name(), of[s as usize])).collect();
            format!("{} ({})", of.iter().sum::<u64>(), parts.join(", "))
        };
        let mut out = String::new();
        let names: Vec<String> = data.iter().map(|path| shown(path)).collect();
        let kind = if packed {
            format!("packed corpus, {} bytes, checksum {:016x}", pack.bytes(), pack.checksum())
        } else {
            "files of tunes".to_owned()
        };
        let fate = if pack.duplicates_kept() { "kept" } else { "dropped" };
        let counts = pack.counts(None);
        // Writing to a String cannot fail.
        let _ = writeln!(out, "data        {} ({kind})", names.join(" "));
        let _ = writeln!(out, "tunes       {}", by_split(&self.tunes));
        let _ = writeln!(out, "characters  {}", by_split(&self.characters));
        let _ = writeln!(
            out,
            "lengths     shortest {}, median {}, longest {} characters",
            self.shortest, self.median, self.longest
        );
        let _ = writeln!(out, "duplicates  {} {fate}", pack.duplicates());
        let _ = writeln!(out, "empty       {} left out", pack.empty_tunes());
        let _ = writeln!(out, "vocabulary  {} tokens", pack.vocab().len());
        for (id, (token, count)) in pack.vocab().tokens().iter().zip(counts).enumerate() {
            let shown = if token.chars().count() == 1 { format!("{token:?}") } else { token.clone() };
            let _ = writeln!(out, "  {id:>5}  {shown:<10} {count:>12}");
        }
        out
    }

    fn json(&self, pack: &Pack, packed: bool) -> String {
        let by_split = |of: &[u64; 3]| {
            let mut value = json!({ "all": of.iter().sum::<u64>() });
            for split in Split::ALL {
                value[split.name()] = of[split as usize].into();
            }
            value
        };
        let vocabulary: Vec<Value> = pack
            .vocab()
            .tokens()
            .iter()
            .zip(pack.counts(None))
            .enumerate()
            .map(|(id, (token, count))| json!({ "id": id, "token": token, "count": count }))
            .collect();
        let value = json!({
            "kind": if packed { "pack" } else { "tunes" },
            "tunes": by_split(&self.tunes),
            "characters": by_split(&self.characters),
            "lengths": { "shortest": self.shortest, "median": self.median, "longest": self.longest },
            "duplicates": pack.duplicates(),
            "duplicates_kept": pack.duplicates_kept(),
            "empty": pack.empty_tunes(),
            "checksum": format!("{:016x}", pack.checksum()),
            "pack_bytes": pack.bytes(),
            "vocabulary": vocabulary,
        });
        format!("{value}\n")
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
