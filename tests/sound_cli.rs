//! `--soundfont` of `midi` and `sample` as people call it.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use songrnn_fast::corpus::Vocab;
use songrnn_fast::model::{CellKind, ModelFile, ModelShape, init};

fn run(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::cargo_bin("songrnn-fast").unwrap();
    command.current_dir(folder).timeout(std::time::Duration::from_secs(120)).args(args);
    let output = command.output().unwrap();
    (
        output.status.code().expect("no signal"),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    [&name[..], &(content.len() as u32).to_le_bytes(), content].concat()
}

fn words(values: &[u16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A SoundFont with one looped sine.
fn font() -> Vec<u8> {
    let sine = |i: u32| ((f64::from(i % 100) / 100.0 * std::f64::consts::TAU).sin() * 20_000.0) as i16;
    let wave: Vec<u8> = (0..446).flat_map(|i| sine(i).to_le_bytes()).collect();
    let sample: Vec<u8> = [0u32, 399, 0, 300, 44_000].iter().flat_map(|n| n.to_le_bytes()).collect();
    let tables = [
        chunk(b"phdr", &[vec![0; 38], vec![0; 24], words(&[1]), vec![0; 12]].concat()),
        chunk(b"pbag", &words(&[0, 0, 1, 0])),
        chunk(b"pgen", &words(&[41, 0, 0, 0])),
        chunk(b"inst", &[vec![0; 42], words(&[1])].concat()),
        chunk(b"ibag", &words(&[0, 0, 2, 0])),
        chunk(b"igen", &words(&[54, 1, 53, 0, 0, 0])),
        chunk(b"shdr", &[vec![0; 20], sample, vec![69, 0, 0, 0, 1, 0], vec![0; 46]].concat()),
    ]
    .concat();
    let list = |name: &[u8; 4], content: Vec<u8>| chunk(b"LIST", &[name.to_vec(), content].concat());
    let lists = [
        list(b"INFO", chunk(b"ifil", &words(&[2, 1]))),
        list(b"sdta", chunk(b"smpl", &wave)),
        list(b"pdta", tables),
    ];
    chunk(b"RIFF", &[b"sfbk".to_vec(), lists.concat()].concat())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Seconds and loudest sample of a WAV file.
fn listen(path: &Path) -> (f64, u16) {
    let mut reader = hound::WavReader::open(path).unwrap();
    let spec = reader.spec();
    assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (2, 44_100, 16));
    let seconds = f64::from(reader.duration()) / 44_100.0;
    (seconds, reader.samples::<i16>().map(|s| s.unwrap().unsigned_abs()).max().unwrap())
}

const BOOK: &str = "X:1\nT:Good\nM:4/4\nL:1/4\nQ:1/4=240\nK:C\nCDEF|GABc|\n\nX:2\nT:Empty\nM:4/4\nK:C\nz4|\n";

#[test]
fn midi_writes_sound_beside_each_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("f.sf2"), font()).unwrap();
    fs::write(folder.path().join("book.abc"), BOOK).unwrap();
    let (code, out, err) = run(folder.path(), &["midi", "book.abc", "--soundfont", "f.sf2", "--out", "made"]);
    assert_eq!((code, out.as_str()), (0, "made/book-1-good.mid\nmade/book-1-good.wav\n"), "{err}");
    assert_eq!(names(&folder.path().join("made")), ["book-1-good.mid", "book-1-good.wav"]);
    let (seconds, peak) = listen(&folder.path().join("made/book-1-good.wav"));
    assert!((2.0..6.1).contains(&seconds), "{seconds}");
    assert!((29_100..29_300).contains(&peak), "-1 dB is 29204: {peak}");
}

#[test]
fn a_font_that_cannot_be_played_is_said_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("book.abc"), BOOK).unwrap();
    fs::write(folder.path().join("bad.sf2"), &font()[..700]).unwrap();
    // Sound everywhere but in its last table, whose sample ends behind the wave.
    let mut late = font();
    let at = late.len() - 46 - 6 - 16;
    late[at..at + 4].copy_from_slice(&9_999_999u32.to_le_bytes());
    fs::write(folder.path().join("late.sf2"), late).unwrap();
    for (name, expected) in [
        ("no.sf2", "cannot read the SoundFont no.sf2"),
        (".", "a folder"),
        ("book.abc", "book.abc is not a SoundFont that can be played: it does not begin as one does"),
        ("bad.sf2", "cut short"),
        ("late.sf2", "late.sf2 is not a SoundFont that can be played"),
    ] {
        let (code, out, err) =
            run(folder.path(), &["midi", "book.abc", "--soundfont", name, "--out", "made"]);
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        assert!(err.contains(expected) && !err.contains("panicked"), "{err}");
        assert!(!folder.path().join("made").exists(), "{name}");
    }
}

#[test]
fn sample_writes_sound_of_every_tune_with_notes() {
    let folder = tempfile::tempdir().unwrap();
    let vocab = Vocab::from_chars("\n:/|XTMKQL0123456789=ABCDEFGabc".chars());
    let shape = ModelShape { cell: CellKind::Lstm, vocab: vocab.len(), hidden: 12, layers: 1 };
    let params = init::uniform(&shape, 5).iter().map(|weight| 4.0 * weight).collect();
    let model = ModelFile { shape, vocab, config: serde_json::json!({}), params };
    model.save(&folder.path().join("m.safetensors")).unwrap();
    fs::write(folder.path().join("f.sf2"), font()).unwrap();
    let args = |out: &'static str| {
        let common = ["sample", "--model", "m.safetensors", "-n", "3", "--max-chars", "60", "--soundfont"];
        let prime = ["f.sf2", "--prime", r"X:1\nT:A\nM:4/4\nL:1/8\nQ:400\nK:D\nABAB|", "--out", out];
        [&common[..], &prime[..]].concat()
    };
    let (code, out, err) = run(folder.path(), &args("set"));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("3 .mid, 3 .wav, tunebook.abc"), "{out}");
    let set = names(&folder.path().join("set"));
    assert_eq!(set.iter().filter(|name| name.ends_with(".wav")).count(), 3, "{set:?}");
    assert!(set.iter().all(|name| !name.starts_with('.')), "nothing half-written is left: {set:?}");
    assert!(listen(&folder.path().join("set/tune-001.wav")).1 > 29_000);
    // Not over somebody's sound, and said before sampling.
    fs::create_dir(folder.path().join("mine")).unwrap();
    fs::write(folder.path().join("mine/tune-002.wav"), "mine").unwrap();
    let (code, _, err) = run(folder.path(), &args("mine"));
    assert!(code == 1 && err.contains("tune-002.wav is there already"), "{code} {err}");
    assert_eq!(names(&folder.path().join("mine")), ["tune-002.wav"]);
}
