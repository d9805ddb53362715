//! `songrnn-fast check` and `songrnn-fast midi` as a user meets them.

use assert_cmd::Command;

const GOOD: &str = "X:1\nT:Good Tune\nM:2/4\nL:1/8\nK:G\nGB dB|G4:|\n";
const BAD: &str = "X:2\nT:Bad\nM:2/4\nL:1/8\nK:G\nGB d}B|G4|\n";

fn run(args: &[&str], folder: &std::path::Path) -> (i32, String, String) {
    let output = Command::cargo_bin("songrnn-fast").unwrap().args(args).current_dir(folder).output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn check_points_at_the_place_and_counts() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("book.abc"), format!("% a book\r\n\r\n{GOOD}\n{BAD}")).unwrap();
    let (code, out, _) = run(&["check", "book.abc"], folder.path());
    assert_eq!(code, 1);
    assert!(out.contains("book.abc:15:5: error E015: `}` closes nothing\n  GB d}B|G4|\n      ^\n"), "{out}");
    assert!(out.ends_with("2 tunes, 1 with errors; 1 errors, 0 warnings; 4 of 4 bars full\n"), "{out}");
}

#[test]
fn check_succeeds_on_good_tunes_and_reads_delimited_text() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("songs.txt"), format!("<start>\n{GOOD}<end>\n<start>\n{GOOD}<end>\n"))
        .unwrap();
    let (code, out, _) = run(&["check", "songs.txt", "--json"], folder.path());
    assert_eq!(code, 0);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["total"]["tunes"], 2);
    assert_eq!(json["files"][0]["tunes"][1]["full_bars"], 2);
    assert_eq!(json["files"][0]["tunes"][0]["title"], "Good Tune");
    assert_eq!(json["files"][0]["tunes"][0]["diagnostics"].as_array().unwrap().len(), 0);
}

#[test]
fn check_says_when_bars_are_short_and_when_a_file_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("short.abc"), "X:1\nT:t\nM:4/4\nL:1/4\nK:C\nCDEF|CDE|CDEF|\n").unwrap();
    let (code, out, _) = run(&["check", "short.abc"], folder.path());
    assert_eq!(code, 0, "a wrong bar is a warning");
    assert!(
        out.contains("short.abc:6:6: warning W040: this bar lasts 3/4 of a whole note, the meter says 1"),
        "{out}"
    );
    assert!(out.contains("  CDEF|CDE|CDEF|\n       ^^^\n"), "{out}");
    let (code, _, err) = run(&["check", "nowhere.abc"], folder.path());
    assert_eq!(code, 1);
    assert!(err.contains("error: reading nowhere.abc: No such file"), "{err}");
    assert_eq!(run(&["check"], folder.path()).0, 2);
}

#[test]
fn midi_writes_one_file_a_tune_under_unique_names() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("book.abc"),
        format!("{GOOD}\n{GOOD}\nX:9\nT:Empty\nM:4/4\nK:C\nz4|\n"),
    )
    .unwrap();
    let (code, out, err) = run(&["midi", "book.abc", "--out", "made/midi"], folder.path());
    assert_eq!(code, 0, "{err}");
    assert_eq!(out, "made/midi/book-1-good-tune.mid\nmade/midi/book-1-good-tune-2.mid\n");
    assert!(err.contains("\"Empty\" has no notes"), "{err}");
    let mut names: Vec<_> =
        std::fs::read_dir(folder.path().join("made/midi")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["book-1-good-tune-2.mid", "book-1-good-tune.mid"], "nothing half-written is left");
    let bytes = std::fs::read(folder.path().join("made/midi/book-1-good-tune.mid")).unwrap();
    assert_eq!(midly::Smf::parse(&bytes).unwrap().tracks.len(), 2);
}

#[test]
fn midi_goes_on_after_a_missing_file_and_fails_when_nothing_was_made() {
    let folder = tempfile::tempdir().unwrap();
    // Latin-1, carriage returns, a byte that is no ABC.
    std::fs::write(folder.path().join("old.abc"), b"X:1\r\nT:Caf\xe9\r\nM:2/4\r\nK:G\r\nG4 B4|\xff\r\n")
        .unwrap();
    let (code, out, err) = run(&["midi", "gone.abc", "old.abc"], folder.path());
    assert_eq!((code, out.as_str()), (1, "old-1-café.mid\n"));
    assert!(err.contains("reading gone.abc") && err.contains("read as Latin-1"), "{err}");
    std::fs::write(folder.path().join("none.abc"), "hello\n").unwrap();
    let (code, out, err) = run(&["midi", "none.abc"], folder.path());
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("no tune was converted"), "{err}");
}
