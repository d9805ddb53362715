//! `pack` and `inspect` as a user meets them: output, errors, exit codes, nothing half-written.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;

const TUNES: &str = "% a book\nX:1\nT:One\nK:C\nabc|\n\nX:2\nT:Two\nK:D\ndef|gab|\n\nX:3\nT:Again\nK:C\nabc|\n\n\
                     X:4\nT:Four\nK:G\nggg|\n";

fn run(args: &[&str]) -> Output {
    Command::new(cargo_bin("songrnn-fast")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Exit code and standard error of a command that must print nothing on standard output.
fn fails(args: &[&str]) -> (i32, String) {
    let output = run(args);
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    let error = text(&output.stderr);
    assert_eq!(error.matches("error:").count(), 1, "{error}");
    (output.status.code().unwrap(), error)
}

fn path(folder: &Path, name: &str, content: &[u8]) -> String {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn pack_then_inspect() {
    let folder = tempfile::tempdir().unwrap();
    let source = path(folder.path(), "a.abc", TUNES.as_bytes());
    let out = folder.path().join("a.pack").to_str().unwrap().to_owned();
    let packed = run(&["pack", &source, "-o", &out]);
    assert!(packed.status.success(), "{}", text(&packed.stderr));
    assert!(packed.stderr.is_empty(), "no bar where there is no terminal: {}", text(&packed.stderr));
    let said = text(&packed.stdout);
    for line in ["tunes       3 (", "duplicates  1 dropped", "empty       0 left out"] {
        assert!(said.contains(line), "{said}");
    }
    for data in [&out, &source] {
        let json = run(&["inspect", data, "--json"]);
        let value: Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!(value["tunes"]["all"], 3);
        assert_eq!(value["duplicates"], 1);
        let longest = "X:2\nT:Two\nK:D\ndef|gab|".len();
        assert_eq!(value["lengths"]["longest"], longest);
        let vocabulary = value["vocabulary"].as_array().unwrap();
        assert_eq!(vocabulary[0]["token"], "<start>");
        assert_eq!(vocabulary[0]["count"], 3);
        let count: u64 = vocabulary.iter().map(|v| v["count"].as_u64().unwrap()).sum();
        assert_eq!(count, value["characters"]["all"].as_u64().unwrap() + 6);
        let said = text(&run(&["inspect", data]).stdout);
        assert!(said.contains("duplicates  1 dropped") && said.contains("\"\\n\""), "{said}");
        assert_eq!(text(&run(&["inspect", data, "--tune", "2"]).stdout), "X:2\nT:Two\nK:D\ndef|gab|\n");
    }
    assert!(text(&run(&["inspect", &source, "--keep-duplicates"]).stdout).contains("tunes       4 ("));
    let tune = run(&["inspect", &out, "--tune", "3", "--json"]);
    let value: Value = serde_json::from_slice(&tune.stdout).unwrap();
    assert_eq!(value["text"], "X:4\nT:Four\nK:G\nggg|");
    for bad in ["0", "4", "x", "-1"] {
        let (code, error) = fails(&["inspect", &out, "--tune", bad]);
        assert_eq!(code, 2, "{error}");
    }
}

#[test]
fn what_the_reader_noticed_is_said_on_standard_error() {
    let folder = tempfile::tempdir().unwrap();
    path(folder.path(), "latin.abc", b"X:1\nT:Caf\xe9\nK:C\nab\0c\n");
    path(folder.path(), "marked.txt", b"\xef\xbb\xbf<start>\r\nX:2\r\nd\r\n<start>\r\ne\r\n<end>\r\n");
    path(folder.path(), "none.txt", b"");
    let out = folder.path().join("a.pack");
    let output = run(&["pack", folder.path().to_str().unwrap(), "-o", out.to_str().unwrap()]);
    let (said, notes) = (text(&output.stdout), text(&output.stderr));
    assert!(said.contains("tunes       3 ("), "{said}");
    for note in ["latin.abc is not UTF-8; read as Latin-1", "1 NUL", "none.txt is empty", "1 <start> without"]
    {
        assert_eq!(notes.matches(note).count(), 1, "{note}: {notes}");
    }
    assert_eq!(
        text(&run(&["inspect", out.to_str().unwrap(), "--tune", "1"]).stdout),
        "X:1\nT:Café\nK:C\nabc\n"
    );
    assert_eq!(text(&run(&["inspect", out.to_str().unwrap(), "--tune", "3"]).stdout), "e\n");
}

#[test]
fn errors_name_the_file_and_write_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let out = dir.join("sub");
    fs::create_dir(&out).unwrap();
    let target = out.join("a.pack").to_str().unwrap().to_owned();
    let good = path(dir, "good.abc", TUNES.as_bytes());
    let empty = path(dir, "empty.abc", b"");
    let prose = path(dir, "prose.abc", b"Once upon a time.\n");
    let model = path(dir, "m.safetensors", b"\x40\0\0\0\0\0\0\0{\"__metadata__\":{}}");
    let missing = dir.join("missing.abc").to_str().unwrap().to_owned();
    let bare = out.to_str().unwrap().to_owned();
    for (data, says) in [
        (&empty, "is empty"),
        (&prose, "no tune found"),
        (&model, "safetensors"),
        (&missing, "does not exist"),
        (&bare, "no .abc or .txt file"),
    ] {
        for args in [&["pack", data, "-o", &target][..], &["inspect", data]] {
            let (code, error) = fails(args);
            assert_eq!(code, 1);
            assert!(error.contains(says) && error.contains(data.as_str()), "{error}");
        }
    }
    for (args, code) in [
        (&["pack", "-o", &target][..], 2),
        (&["pack", &good], 2),
        (&["pack", &good, "-o", &bare], 1),
        (&["pack", &good, "-o", "/no/such/folder/a.pack"], 1),
        (&["pack", &good, "-o", &good], 1),
    ] {
        assert_eq!(fails(args).0, code, "{args:?}");
    }
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0, "something was written");
    assert_eq!(fs::read_to_string(&good).unwrap(), TUNES);
}

#[test]
fn damaged_packs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let source = path(folder.path(), "a.abc", TUNES.as_bytes());
    let out = folder.path().join("a.pack").to_str().unwrap().to_owned();
    assert!(run(&["pack", &source, "-o", &out]).status.success());
    let good = fs::read(&out).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 4;
    fs::write(&out, &flipped).unwrap();
    let (code, error) = fails(&["inspect", &out]);
    assert!(code == 1 && error.contains("checksum") && error.contains("pack it again"), "{error}");
    fs::write(&out, &good[..good.len() - 1]).unwrap();
    assert!(fails(&["inspect", &out]).1.contains("cut short"));
}

#[cfg(unix)]
#[test]
fn devices_pipes_and_forbidden_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a.pack").to_str().unwrap().to_owned();
    let fifo = folder.path().join("fifo.abc").to_str().unwrap().to_owned();
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for device in ["/dev/zero", "/dev/null", &fifo] {
        for args in [&["pack", device, "-o", &out][..], &["inspect", device]] {
            assert!(fails(args).1.contains("expected a regular file"), "{device}");
        }
    }
    let good = path(folder.path(), "good.abc", TUNES.as_bytes());
    assert!(fails(&["pack", &good, "-o", "/dev/full"]).1.contains("cannot write /dev/full"));
    assert!(fails(&["pack", &good, "-o", &fifo]).1.contains("cannot write"));
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&good, fs::Permissions::from_mode(0)).unwrap();
    if fs::read(&good).is_ok() {
        println!("SKIP the unreadable file: this user may read everything");
    } else {
        assert!(fails(&["pack", &good, "-o", &out]).1.contains("cannot read"));
    }
    assert!(!Path::new(&out).exists());
}

/// A limit on the size of files stands in for a full disk: writing fails in the middle either way.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_the_old_pack_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let out_folder = folder.path().join("out");
    fs::create_dir(&out_folder).unwrap();
    let book: String = (0..4000).map(|i| format!("X:{i}\nT:{i}\nK:C\nabc{i}|defgab|\n\n")).collect();
    let source = path(folder.path(), "a.abc", book.as_bytes());
    let out = path(&out_folder, "a.pack", b"the old one");
    let program = cargo_bin("songrnn-fast");
    // Ignoring SIGXFSZ turns it into an error of write.
    let script =
        format!("trap '' XFSZ; ulimit -f 64; exec '{}' pack '{source}' -o '{out}'", program.display());
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("cannot write") && error.contains("a.pack"), "{error}");
    assert_eq!(fs::read(&out).unwrap(), b"the old one");
    assert_eq!(fs::read_dir(&out_folder).unwrap().count(), 1, "temporary files left");
}
