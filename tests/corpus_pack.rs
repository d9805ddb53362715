//! The packed file: gives back what was put in, and refuses every damage.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use songrnn_fast::corpus::format::{self, Header};
use songrnn_fast::corpus::tunes::tunes_of;
use songrnn_fast::corpus::{CorpusError, Pack, PackOptions, PackSummary, Split, pack_to};
use xxhash_rust::xxh3::xxh3_64;

fn pack(out: &Path, data: &[PathBuf], options: PackOptions) -> Result<PackSummary, CorpusError> {
    pack_to(out, data, &options, &|_| ())
}

/// A small pack's bytes.
fn bytes() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let (source, out) = (folder.path().join("a.abc"), folder.path().join("a.pack"));
    fs::write(&source, "X:1\nK:C\nabc|\n\nX:2\nK:C\ndéf|\n\nX:3\nK:C\ngab|\n").unwrap();
    pack(&out, &[source], PackOptions::default()).unwrap();
    fs::read(out).unwrap()
}

fn open(bytes: &[u8]) -> Result<Pack, CorpusError> {
    Pack::from_vec(bytes.to_vec(), Path::new("damaged.pack"))
}

/// Writes the header's checksum anew, so that what lies behind that check is tried.
fn reseal(bytes: &mut [u8]) {
    let end = format::HEADER - 8;
    let hash = xxh3_64(&bytes[..end]);
    bytes[end..format::HEADER].copy_from_slice(&hash.to_le_bytes());
}

/// All that an open pack can be asked must be answered.
fn read_everything(pack: &Pack) {
    let map: Vec<u16> = (0..pack.vocab().len() as u16).collect();
    let mut tokens = Vec::new();
    for tune in [0, 1, pack.tunes() - 1, pack.tunes(), usize::MAX] {
        tokens.clear();
        pack.tokens_into(tune, &map, &mut tokens);
        assert_eq!(tokens.len(), pack.token_count(tune));
        assert!(tokens.iter().all(|&t| usize::from(t) < pack.vocab().len()));
        let _ = (pack.text(tune), pack.split(tune));
    }
    let _ = (pack.vocab_of(None), pack.vocab_of(Some(Split::Test)), pack.tunes_of(Some(Split::Train)));
}

#[test]
fn every_flipped_bit_is_refused() {
    let good = bytes();
    read_everything(&open(&good).unwrap());
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&bad).is_err(), "bit {bit} of {}", good.len() * 8);
    }
}

#[test]
fn every_truncation_and_any_addition_is_refused() {
    let good = bytes();
    for len in 0..good.len() {
        let error = open(&good[..len]).unwrap_err();
        match len {
            0..8 => assert!(matches!(error, CorpusError::PackMagic { .. }), "{len}: {error}"),
            _ => assert!(matches!(error, CorpusError::PackLength { .. }), "{len}: {error}"),
        }
    }
    let mut longer = good.clone();
    longer.push(0);
    assert!(matches!(open(&longer).unwrap_err(), CorpusError::PackLength { .. }));
}

#[test]
fn each_kind_of_damage_has_its_error() {
    let good = bytes();
    let (header, layout, _) = Header::decode(&good, good.len() as u64, Path::new("good")).unwrap();
    let change = |at: u64, value: &[u8]| {
        let mut bad = good.clone();
        bad[at as usize..at as usize + value.len()].copy_from_slice(value);
        bad
    };
    let version = open(&change(8, &9u32.to_le_bytes())).unwrap_err();
    assert!(matches!(version, CorpusError::PackVersion { found: 9, expected: 1, .. }), "{version}");
    for (at, section) in [
        (30, "header"),
        (layout.vocab + 9, "vocabulary"),
        (layout.index + 9, "index"),
        (layout.tokens + 1, "tokens"),
    ] {
        let error = open(&change(at, &[0xEE])).unwrap_err();
        assert!(matches!(error, CorpusError::PackChecksum { section: s, .. } if s == section), "{error}");
    }
    // The same behind right checksums: a file made with evil intent.
    let reseal_index = |mut bad: Vec<u8>| {
        let end = (layout.index + header.tunes * 16) as usize;
        let index = xxh3_64(&bad[layout.index as usize..end]);
        let tokens = xxh3_64(&bad[layout.tokens as usize..]);
        bad[16 + 8 * 10..16 + 8 * 11].copy_from_slice(&index.to_le_bytes());
        bad[16 + 8 * 11..16 + 8 * 12].copy_from_slice(&tokens.to_le_bytes());
        reseal(&mut bad);
        open(&bad).unwrap_err()
    };
    for (at, value) in [
        (layout.index + 16, &u64::MAX.to_le_bytes()[..]), // second tune's offset
        (layout.index + 16, &0u64.to_le_bytes()[..]),
        (layout.index + 8, &u32::MAX.to_le_bytes()[..]), // first tune's length
        (layout.index + 8, &0u32.to_le_bytes()[..]),
        (layout.index + 32 + 8, &2u32.to_le_bytes()[..]), // last tune's length: tokens left over
        (layout.index + 12, &[3u8][..]),                  // split
        (layout.index + 13, &[1u8][..]),                  // reserved
    ] {
        let error = reseal_index(change(at, value));
        assert!(matches!(error, CorpusError::PackIndex { .. }), "{at}: {error}");
    }
    let error = reseal_index(change(layout.tokens, &[header.vocab as u8]));
    assert!(matches!(error, CorpusError::PackToken { position: 0, .. }), "{error}");
    for at in (16..16 + 8 * 9).step_by(8) {
        for value in [0, 2, 1 << 20, u64::MAX / 32, u64::MAX] {
            let mut bad = change(at, &u64::to_le_bytes(value));
            reseal(&mut bad);
            if bad != good && !(16 + 8 * 6..16 + 8 * 8).contains(&at) {
                let error = open(&bad).unwrap_err();
                let expected =
                    matches!(error, CorpusError::PackField { .. } | CorpusError::PackChecksum { .. });
                assert!(expected, "field at {at} = {value}: {error}");
            }
        }
    }
}

#[test]
fn files_that_are_no_tunes_are_refused_with_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.pack");
    let refused = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        let error = pack(&out, &[path], PackOptions::default()).unwrap_err();
        assert!(!out.exists());
        error.to_string()
    };
    assert!(refused("a.abc", b"").contains("is empty"));
    assert!(refused("a.abc", b"no tune here\n").contains("no tune found"));
    assert!(refused("a.abc", b"X:1\n\nX:2\n").contains("no tune found"));
    assert!(refused("a.abc", b"\xff\xfeX\0:\01\0").contains("UTF-16"));
    assert!(refused("a.mid", b"MThd\0\0\0\x06").contains("MIDI"));
    let mut model = 64u64.to_le_bytes().to_vec();
    model.extend_from_slice(b"{\"__metadata__\":{}}");
    assert!(refused("a.safetensors", &model).contains("safetensors"));
    // Damaged in its first bytes, a pack is nothing.
    let mut damaged = bytes();
    damaged[0] ^= 1;
    assert!(refused("a.pack", &damaged).contains("no tune found"));
    let two = [folder.path().join("one.pack"), folder.path().join("a.abc")];
    fs::write(&two[0], bytes()).unwrap();
    assert!(matches!(pack(&out, &two, PackOptions::default()), Err(CorpusError::MixedPack { .. })));
    fs::write(&two[1], "X:1\nK:C\nabc\n").unwrap();
    let over = pack(&two[1], &two[1..], PackOptions::default()).unwrap_err();
    assert!(matches!(over, CorpusError::OverSource { .. }), "{over}");
    assert_eq!(fs::read(&two[1]).unwrap(), b"X:1\nK:C\nabc\n");
}

#[test]
fn a_line_of_ten_megabytes_is_a_tune_and_one_of_thirty_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let (source, out) = (folder.path().join("a.abc"), folder.path().join("a.pack"));
    let mut text = b"X:1\nK:C\nabc\n\nX:2\nK:C\n".to_vec();
    text.resize(10_000_000, b'd');
    text.extend_from_slice(b"\n\nX:3\nK:C\ne\n");
    fs::write(&source, &text).unwrap();
    pack(&out, std::slice::from_ref(&source), PackOptions::default()).unwrap();
    let opened = Pack::open(&out).unwrap();
    assert_eq!(opened.tunes(), 3);
    assert!(opened.text(1).len() > 9_900_000 && opened.text(2) == "X:3\nK:C\ne");
    for (end, line) in [(&b"\n\nX:3\nK:C\ne\n"[..], 5), (b"", 5)] {
        let mut text = b"X:1\nK:C\nabc\n\nX:2\nK:C\n".to_vec();
        text.resize(text.len() + 30_000_000, b'd');
        text.extend_from_slice(end);
        fs::write(&source, &text).unwrap();
        let error = pack(&out, std::slice::from_ref(&source), PackOptions::default()).unwrap_err();
        // The first reading knows nothing of tunes: it names the line itself, one or two further down.
        assert!(
            matches!(error, CorpusError::TuneTooLong { line: l, .. } if l == line || l == line + 2),
            "{error}"
        );
    }
    assert_eq!(Pack::open(&out).unwrap().tunes(), 3, "the old pack stands");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "temporary files left");
}

/// Many tunes over many blocks: threads, cuts between blocks and the spilling change nothing.
#[test]
fn blocks_and_threads_do_not_show() {
    let folder = tempfile::tempdir().unwrap();
    for (crlf, marked) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut text = String::new();
        for i in 0..30_000 {
            let body = format!("X:{i}\nT:Tune é {i}\nK:C\nabc{}|{}|", i % 29_000, "d2 e ".repeat(i % 30));
            text += &(if marked { format!("<start>\n{body}\n<end>\n") } else { format!("{body}\n\n") });
        }
        if crlf {
            text = text.replace('\n', "\r\n");
        }
        assert!(text.len() > 3 << 20, "several blocks");
        let source = folder.path().join("a.abc");
        fs::write(&source, &text).unwrap();
        let want = tunes_of(&text);
        let mut files = Vec::new();
        for threads in [2, 5] {
            let out = folder.path().join(format!("{threads}.pack"));
            let options = PackOptions { keep_duplicates: true, threads, stop: None };
            let summary = pack(&out, std::slice::from_ref(&source), options).unwrap();
            assert_eq!(summary.tunes.iter().sum::<u64>(), 30_000);
            files.push(fs::read(&out).unwrap());
        }
        assert!(
            files.windows(2).all(|pair| pair[0] == pair[1]),
            "the same file whatever the number of threads"
        );
        let pack = Pack::open(&folder.path().join("2.pack")).unwrap();
        for (tune, text) in want.iter().enumerate() {
            assert_eq!(pack.text(tune), *text);
        }
        let total: usize = (0..pack.tunes()).map(|tune| pack.token_count(tune)).sum();
        assert_eq!(pack.counts(None).iter().sum::<u64>(), total as u64);
        let part = pack.tunes_of(Some(Split::Validation)).len();
        assert!((1200..1800).contains(&part), "{part} of 30000");
        let starts = pack.counts(Some(Split::Validation))[usize::from(pack.vocab().start())];
        assert_eq!(starts, part as u64);
    }
}

#[test]
fn more_than_256_tokens_are_stored_wide() {
    let text: String = (0..2000u32).filter_map(|i| char::from_u32(0x4E00 + i)).collect();
    for (n, width) in [(253usize, 1), (254, 2), (2000, 2)] {
        let tune: String = text.chars().take(n).collect();
        let pack = Pack::from_texts(&[&tune, "一"], false).unwrap();
        assert_eq!(pack.vocab().len(), n + 3);
        assert_eq!((pack.text(0), pack.text(1)), (tune, "一".to_owned()));
        let head = 128 + ((n as u64 + 3) * 32).next_multiple_of(64) + 64;
        assert_eq!(pack.bytes(), head + (n as u64 + 5) * width, "{n} characters");
        read_everything(&pack);
    }
}

#[test]
fn a_stopped_packing_leaves_nothing() {
    use std::sync::atomic::AtomicBool;
    static STOP: AtomicBool = AtomicBool::new(true);
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("a.abc");
    fs::write(&source, "X:1\nK:C\nabc\n").unwrap();
    let options = PackOptions { stop: Some(&STOP), ..PackOptions::default() };
    let stopped = pack(&folder.path().join("a.pack"), &[source], options);
    assert!(matches!(stopped, Err(CorpusError::Stopped)));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn duplicates_in_any_file_are_one_tune_and_splits_follow_the_body() {
    let first = Pack::from_texts(&["X:1\nT:A\nK:C\nabc", "X:2\nK:C\nd", "X:3\nK:C\ne"], false).unwrap();
    assert_eq!((first.tunes(), first.duplicates()), (3, 0));
    let again = ["X:9\nT:B\nK:D\n abc ", "X:2\nK:C\nd", "X:3\nK:C\ne", "X:4\nT:Z\nK:C\nabc", ""];
    let second = Pack::from_texts(&again, false).unwrap();
    assert_eq!((second.tunes(), second.duplicates(), second.empty_tunes()), (3, 1, 1));
    for tune in 0..3 {
        assert_eq!(first.split(tune), second.split(tune));
    }
    assert!(Split::ALL[..2].iter().all(|&s| !first.tunes_of(Some(s)).is_empty()), "train and validation");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn texts_come_back(texts in proptest::collection::vec("\\PC{1,40}", 1..30), keep in any::<bool>()) {
        let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
        let pack = Pack::from_texts(&refs, keep).unwrap();
        read_everything(&pack);
        let got: Vec<String> = (0..pack.tunes()).map(|tune| pack.text(tune)).collect();
        if keep {
            prop_assert_eq!(got, texts);
        } else {
            prop_assert_eq!(got.len() as u64 + pack.duplicates(), texts.len() as u64);
            prop_assert!(got.iter().all(|text| texts.contains(text)));
        }
    }

    #[test]
    fn any_bytes_are_packed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), head in "(X:1\nK:|<start>\n|)") {
        let folder = tempfile::tempdir().unwrap();
        let (source, out) = (folder.path().join("a.abc"), folder.path().join("a.pack"));
        fs::write(&source, [head.as_bytes(), &bytes].concat()).unwrap();
        match pack(&out, &[source], PackOptions::default()) {
            Ok(_) => read_everything(&Pack::open(&out).unwrap()),
            Err(_) => prop_assert!(!out.exists()),
        }
    }

    #[test]
    fn no_header_makes_opening_panic_or_allocate(
        changes in proptest::collection::vec((8usize..128, any::<u8>()), 1..12), cut in 0usize..2000,
    ) {
        let mut bad = bytes();
        for (at, value) in changes {
            bad[at] = value;
        }
        reseal(&mut bad);
        if let Ok(pack) = open(&bad) {
            read_everything(&pack);
        }
        bad.truncate(cut);
        prop_assert!(cut >= bytes().len() || open(&bad).is_err());
    }

    #[test]
    fn arbitrary_bytes_are_no_pack(tail in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(open(&tail).is_err());
        let mut with_magic = format::MAGIC.to_vec();
        with_magic.extend_from_slice(&1u32.to_le_bytes());
        with_magic.extend_from_slice(&tail);
        if with_magic.len() >= format::HEADER {
            reseal(&mut with_magic);
        }
        prop_assert!(open(&with_magic).is_err());
    }
}
