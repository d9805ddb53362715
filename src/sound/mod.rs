//! Sound: a MIDI file played through a SoundFont 2 into a 16-bit stereo WAV file, by rustysynth and hound.
//!
//! Damaged fonts and MIDI files are refused with a reason. `riff` looks at the parts of a font that could make
//! rustysynth take more memory than there is; what else may be wrong makes it return an error or panic, and `shield`
//! turns a panic into an error. That is no way to write programs, but rustysynth indexes its tables with what the file
//! says (a zone's first generator, a sample's end), in a dozen places and behind private types, so that a complete
//! check here would be a second SoundFont reader. It keeps nothing outside the values that a failed call drops.

mod riff;
mod shield;

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustysynth::{MidiFile, MidiFileSequencer, Synthesizer, SynthesizerSettings};

/// Samples a second of each channel.
pub const SAMPLE_RATE: u32 = 44_100;
/// The longest sound, seconds; what would be longer is cut, and [`Sound::cut`] says so.
pub const MAX_SECONDS: u32 = 600;
/// The longest that the last notes may ring on, seconds.
const MAX_TAIL: usize = 4;
/// The loudest sample: -1 dB below full scale, so that no player's resampling clips.
const PEAK: f32 = 0.891_250_94;
/// What is quieter than this beside the loudest sample is the end of the sound: -60 dB.
const QUIET: f32 = 0.001;
/// A loudest sample below this is silence: far below what 16 bits can hold.
const SILENT: f32 = 1e-7;
/// Frames rendered at a time; a multiple of rustysynth's block of 64.
const PIECE: usize = 4096;
/// The largest SoundFont, bytes: rustysynth counts with 31 bits.
const MAX_FONT: u64 = (1 << 31) - 1;

/// Why there is no sound.
#[derive(Debug, thiserror::Error)]
pub enum SoundError {
    /// The font cannot be read.
    #[error("cannot read the SoundFont {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The font is none.
    #[error(
        "{} is not a SoundFont that can be played: {reason}; expected a SoundFont 2 file (.sf2), such as Debian's \
         timgm6mb-soundfont", path.display()
    )]
    NotASoundFont {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The MIDI file is none, or the font fails on it.
    #[error("cannot play this MIDI file: {0}")]
    Unplayable(String),
}

/// A loaded SoundFont; cheap to clone, shared by threads.
#[derive(Debug, Clone)]
pub struct SoundFont {
    font: Arc<rustysynth::SoundFont>,
    path: PathBuf,
}

impl SoundFont {
    /// Loads a SoundFont 2 file.
    ///
    /// # Errors
    /// [`SoundError`] when it cannot be read, is too large, damaged, or something else.
    pub fn load(path: &Path) -> Result<SoundFont, SoundError> {
        let unreadable = |source| SoundError::Unreadable { path: path.to_path_buf(), source };
        let meta = std::fs::metadata(path).map_err(unreadable)?;
        if !meta.is_file() {
            let what = if meta.is_dir() { "it is a folder" } else { "it is a device or a pipe" };
            return Err(unreadable(std::io::Error::other(what)));
        }
        if meta.len() > MAX_FONT {
            let reason = format!("it has {} bytes, and at most {MAX_FONT} can be played", meta.len());
            return Err(SoundError::NotASoundFont { path: path.to_path_buf(), reason });
        }
        SoundFont::from_bytes(&std::fs::read(path).map_err(unreadable)?, path)
    }

    /// A SoundFont from its bytes; `path` is for messages.
    ///
    /// # Errors
    /// [`SoundError::NotASoundFont`].
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<SoundFont, SoundError> {
        let refuse = |reason| SoundError::NotASoundFont { path: path.to_path_buf(), reason };
        riff::check(bytes).map_err(refuse)?;
        let loaded = shield::catch(|| rustysynth::SoundFont::new(&mut Cursor::new(bytes)));
        let font = match loaded {
            Some(Ok(font)) => font,
            Some(Err(error)) => return Err(refuse(error.to_string())),
            None => return Err(refuse("its tables contradict each other".into())),
        };
        Ok(SoundFont { font: Arc::new(font), path: path.to_path_buf() })
    }

    /// The file it came from.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A rendered sound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sound {
    /// Left and right by turns, [`SAMPLE_RATE`] of each a second. \[2 * frames\]
    pub samples: Vec<i16>,
    /// Whether it was cut at [`MAX_SECONDS`].
    pub cut: bool,
    /// Whether nothing can be heard: the font has no sound for these notes.
    pub silent: bool,
}

impl Sound {
    /// Its length in seconds.
    pub fn seconds(&self) -> f64 {
        (self.samples.len() / 2) as f64 / f64::from(SAMPLE_RATE)
    }
}

/// Plays a Standard MIDI File (format 0 or 1): from its start until the last notes have rung out, the loudest sample at
/// -1 dB. Programs that the file does not name are General MIDI's piano, or what the font has in its place.
///
/// # Errors
/// [`SoundError::Unplayable`] when the bytes are no MIDI file, or the font is damaged in a way that shows now.
pub fn render(midi: &[u8], font: &SoundFont) -> Result<Sound, SoundError> {
    let refuse = |reason: &str| SoundError::Unplayable(reason.into());
    // rustysynth takes a track's length at its word, and ticks in 31 bits; midly does not.
    let ticks =
        longest_track(midi).ok_or_else(|| refuse("it is not a Standard MIDI File, or it is cut short"))?;
    if ticks > i32::MAX as u64 {
        return Err(refuse("its time runs over"));
    }
    match shield::catch(|| play(midi, font)) {
        Some(result) => result,
        None => Err(refuse("the SoundFont or the MIDI file is damaged")),
    }
}

/// Ticks of the longest track; None for bytes that are no whole MIDI file.
fn longest_track(midi: &[u8]) -> Option<u64> {
    let smf = midly::Smf::parse(midi).ok()?;
    let length = |track: &midly::Track<'_>| track.iter().map(|e| u64::from(e.delta.as_int())).sum();
    smf.tracks.iter().map(length).max()
}

fn play(midi: &[u8], font: &SoundFont) -> Result<Sound, SoundError> {
    let refuse = |reason: String| SoundError::Unplayable(reason);
    let file = MidiFile::new(&mut Cursor::new(midi)).map_err(|error| refuse(error.to_string()))?;
    let length = file.get_length();
    if !length.is_finite() || length < 0.0 {
        return Err(refuse("its tempo or its division of time is zero".into()));
    }
    let settings = SynthesizerSettings::new(SAMPLE_RATE as i32);
    let synthesizer = Synthesizer::new(&font.font, &settings).map_err(|error| refuse(error.to_string()))?;
    let mut sequencer = MidiFileSequencer::new(synthesizer);
    sequencer.play(&Arc::new(file), false);

    let cut = length > f64::from(MAX_SECONDS);
    let most = MAX_SECONDS as usize * SAMPLE_RATE as usize;
    let played = (length.min(f64::from(MAX_SECONDS)) * f64::from(SAMPLE_RATE)).ceil() as usize;
    let with_tail = (played + MAX_TAIL * SAMPLE_RATE as usize).min(most);
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let mut peak = 0f32;
    while left.len() < with_tail {
        let from = left.len();
        let to = (from + PIECE).min(with_tail);
        left.resize(to, 0.0);
        right.resize(to, 0.0);
        sequencer.render(&mut left[from..], &mut right[from..]);
        let mut loudest = 0f32;
        for sample in left[from..].iter().chain(&right[from..]) {
            if !sample.is_finite() {
                return Err(refuse("the SoundFont makes sounds that are no numbers".into()));
            }
            loudest = loudest.max(sample.abs());
        }
        peak = peak.max(loudest);
        // Rung out: a whole piece behind the last event is quiet.
        if from >= played && loudest <= peak * QUIET {
            break;
        }
    }
    fade_out(&mut left, &mut right);
    let silent = peak < SILENT;
    let scale = if silent { 0.0 } else { PEAK / peak * f32::from(i16::MAX) };
    let sixteen = |sample: &f32| (sample * scale).round() as i16;
    let samples = left.iter().zip(&right).flat_map(|(l, r)| [sixteen(l), sixteen(r)]).collect();
    Ok(Sound { samples, cut, silent })
}

/// The last 50 ms go down to nothing, so that a cut is not a click.
fn fade_out(left: &mut [f32], right: &mut [f32]) {
    let frames = (SAMPLE_RATE as usize / 20).min(left.len());
    for side in [left, right] {
        for (i, sample) in side.iter_mut().rev().take(frames).enumerate() {
            *sample *= i as f32 / frames as f32;
        }
    }
}

/// The bytes of a WAV file: 16-bit PCM, stereo, [`SAMPLE_RATE`].
///
/// # Errors
/// [`SoundError::Unplayable`] should the writer refuse; it writes to memory.
pub fn wav_bytes(sound: &Sound) -> Result<Vec<u8>, SoundError> {
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: SAMPLE_RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut bytes = Cursor::new(Vec::with_capacity(44 + 2 * sound.samples.len()));
    let mut write = || -> Result<(), hound::Error> {
        let mut writer = hound::WavWriter::new(&mut bytes, spec)?;
        let mut samples = writer.get_i16_writer(sound.samples.len() as u32);
        sound.samples.iter().for_each(|&sample| samples.write_sample(sample));
        samples.flush()?;
        writer.finalize()
    };
    write().map_err(|error| SoundError::Unplayable(error.to_string()))?;
    Ok(bytes.into_inner())
}

/// Plays a MIDI file into the bytes of a WAV file; a note where the sound was cut or is silent.
///
/// # Errors
/// [`SoundError::Unplayable`].
pub fn midi_to_wav(midi: &[u8], font: &SoundFont) -> Result<(Vec<u8>, Option<String>), SoundError> {
    let sound = render(midi, font)?;
    let note = if sound.cut {
        Some(format!("the sound was cut at {} minutes", MAX_SECONDS / 60))
    } else if sound.silent {
        Some(format!("{} has no sound for these notes: the .wav is silent", font.path.display()))
    } else {
        None
    };
    Ok((wav_bytes(&sound)?, note))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
