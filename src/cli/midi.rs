//! `songrnn-fast midi`: the tunes of ABC files as MIDI files, and as sound.

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::Outcome;
use crate::abc::{self, Encoding, MidiOptions, Tune};
use crate::files;
use crate::sound::{self, SoundFont};

/// The longest title kept in a file's name, in characters.
const MAX_SLUG: usize = 40;

/// Arguments as typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// ABC tunebooks, or text with tunes between `<start>` and `<end>` lines
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Folder for the .mid files, made if needed [default: beside each ABC file]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Leave out the accompaniment that the chord symbols ask for
    #[arg(long)]
    pub no_chords: bool,
    /// Write a .wav beside each .mid, played with this SoundFont 2 file
    #[arg(long, value_name = "FONT.sf2")]
    pub soundfont: Option<PathBuf>,
}

/// Converts every tune of every file. Tunes without notes are named and left out.
///
/// # Errors
/// When a file cannot be read or written, or there was nothing to convert at all.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let options = MidiOptions { chords: !args.no_chords };
    // A font that cannot be played is said before the work, not after it.
    let font = args.soundfont.as_deref().map(SoundFont::load).transpose()?;
    if let Some(folder) = &args.out {
        std::fs::create_dir_all(folder).with_context(|| format!("making the folder {}", folder.display()))?;
    }
    let mut out = std::io::stdout().lock();
    let mut names = HashSet::new();
    let mut written = 0usize;
    let mut outcome = Outcome::Done;
    for path in &args.files {
        // One unreadable file does not keep the others from being converted.
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                eprintln!("error: reading {}: {error}", path.display());
                outcome = Outcome::Failed;
                continue;
            }
        };
        let decoded = abc::decode(&bytes);
        if decoded.encoding == Encoding::Latin1 {
            eprintln!("{}: not UTF-8, read as Latin-1", path.display());
        }
        let folder = args.out.clone().unwrap_or_else(|| path.parent().unwrap_or(Path::new("")).to_owned());
        let stem = path.file_stem().map_or_else(|| "tune".to_owned(), |s| s.to_string_lossy().into_owned());
        let mut found = false;
        for (number, span) in abc::split(&decoded.text).enumerate() {
            found = true;
            let tune = abc::parse_tune_in(&decoded.text, span);
            match abc::to_midi(&tune, &options) {
                Ok(midi) => {
                    let target = unique(&folder, &file_name(&stem, &tune, number + 1), &mut names);
                    files::write_atomic(&target, &midi)?;
                    writeln!(out, "{}", target.display())?;
                    if let Some(font) = &font {
                        let target = target.with_extension("wav");
                        let (wav, note) = sound::midi_to_wav(&midi, font)
                            .with_context(|| format!("making {}", target.display()))?;
                        files::write_atomic(&target, &wav)?;
                        writeln!(out, "{}", target.display())?;
                        if let Some(note) = note {
                            eprintln!("{}: {note}", target.display());
                        }
                    }
                    written += 1;
                }
                Err(why) => eprintln!("{}: {why}", path.display()),
            }
        }
        if !found {
            eprintln!("{}: no tune in it (a tune starts with an X: line, or a <start> line)", path.display());
        }
    }
    if written == 0 {
        bail!("no tune was converted; run `songrnn-fast check` on the files to see why");
    }
    Ok(outcome)
}

/// `<stem>-<X number>-<title>`, fit for any file system.
fn file_name(stem: &str, tune: &Tune, number: usize) -> String {
    let reference = tune.reference.unwrap_or(number as u64);
    let slug = slug(tune.title());
    if slug.is_empty() { format!("{stem}-{reference}") } else { format!("{stem}-{reference}-{slug}") }
}

fn slug(title: &str) -> String {
    let mut slug = String::new();
    for c in title.chars().flat_map(char::to_lowercase) {
        if slug.chars().count() >= MAX_SLUG {
            break;
        }
        if c.is_alphanumeric() {
            slug.push(c);
        } else if c != '\'' && !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_end_matches('-').to_owned()
}

/// A path that this run has not used; case-blind file systems are thought of.
fn unique(folder: &Path, name: &str, used: &mut HashSet<String>) -> PathBuf {
    let mut candidate = name.to_owned();
    let mut n = 2usize;
    while !used.insert(folder.join(&candidate).to_string_lossy().to_lowercase()) {
        candidate = format!("{name}-{n}");
        n += 1;
    }
    folder.join(format!("{candidate}.mid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tame_and_unique() {
        assert_eq!(slug("O'Neill's  March / \"The\" Éire!"), "oneills-march-the-éire");
        assert_eq!(slug("../../etc/passwd"), "etc-passwd");
        let mut used = HashSet::new();
        let folder = Path::new("d");
        assert_eq!(unique(folder, "a-1", &mut used), Path::new("d/a-1.mid"));
        assert_eq!(unique(folder, "A-1", &mut used), Path::new("d/A-1-2.mid"));
    }
}
