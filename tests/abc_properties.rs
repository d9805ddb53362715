//! No input makes the parser, the player, the judge or the MIDI writer panic, hang, or make much out of little.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use songrnn_fast::abc::{
    Diagnostics, MAX_ELEMENTS, MAX_NOTES, MidiOptions, as_numbered_abc, decode, expand, judge, parse_tune,
    parse_tunebook, to_midi,
};

/// Far more than any of these inputs needs, on a slow and busy machine with overflow checks on.
const SLOWEST: Duration = Duration::from_secs(20);

fn exercise(text: &str) {
    let tune = parse_tune(text);
    for d in tune.diagnostics.kept() {
        assert!(d.span.start <= d.span.end && d.span.end <= text.len(), "{d:?} outside {} bytes", text.len());
        assert!(text.is_char_boundary(d.span.start) && text.is_char_boundary(d.span.end), "{d:?}");
    }
    for element in tune.voices.iter().flat_map(|v| &v.elements) {
        assert!(text.get(element.span.start..element.span.end).is_some(), "{element:?}");
        assert!(element.duration >= songrnn_fast::abc::Fraction::ZERO);
    }
    let performance = expand(&tune);
    assert!(performance.notes.len() <= MAX_NOTES + 64);
    if let Ok(midi) = to_midi(&tune, &MidiOptions::default()) {
        midly::Smf::parse(&midi).expect("what is written can be read");
    }
    let verdict = judge(text);
    assert!(verdict.full_bars <= verdict.bars && verdict.diagnostics.len() <= Diagnostics::KEPT);
    assert!(verdict.seconds.is_finite());
    parse_tunebook(text);
}

const SEED_TUNE: &str = "X:1\nT:Seed\nC:me\nR:hornpipe\nM:4/4\nL:1/8\nQ:1/4=120\nP:A(AB)2\nV:1\nV:2 clef=bass\nK:Dmix ^g\nP:A\n\
    V:1\n\"D\"A>B (3cde !trill!f2 {ab}[Ac-]2|1 ^F2-F2 z2 ~G2:|2 d//e/ B3/2 T.A/ x4|\\\n[K:G] [M:3/4]\"^hi\"(GAB) c-c y `d`|!\n\
    w: la la\nP:B\n|:Z2|(5:3:5ABcde A,,c''& C4|::[L:1/16]A<<B +fermata+A+accent+B:|\n% end\nV:2\nC,4-|C,4|]\n";

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        exercise(&decode(&bytes).text);
    }

    #[test]
    fn any_text_in_a_body(body in "\\PC{0,200}") {
        exercise(&format!("X:1\nT:t\nM:4/4\nK:C\n{body}\n"));
    }

    #[test]
    fn abc_alphabet_soup(body in "[A-Ga-gz0-9/,'^_=|:\\[\\]()<>{}\"!+~.&\\-\n %yxZKMLQVPXw$`\\\\#]{0,300}") {
        exercise(&format!("X:1\nT:t\nM:6/8\nK:G\n{body}\n"));
        exercise(&body);
    }

    #[test]
    fn mutated_tunes(edits in proptest::collection::vec((0usize..1000, "\\PC{0,3}", 0usize..6), 1..12)) {
        let mut chars: Vec<char> = SEED_TUNE.chars().collect();
        for (at, insert, remove) in edits {
            let at = at % chars.len().max(1);
            let end = (at + remove).min(chars.len());
            chars.splice(at.min(end)..end, insert.chars());
        }
        exercise(&chars.into_iter().collect::<String>());
    }

    #[test]
    fn shuffled_lines(order in proptest::collection::vec(0usize..30, 0..30)) {
        let lines: Vec<&str> = SEED_TUNE.lines().collect();
        let text: Vec<&str> = order.iter().map(|i| lines[i % lines.len()]).collect();
        exercise(&text.join("\n"));
        exercise(&as_numbered_abc(&text.join("\n"), 5));
    }
}

/// Megabytes of one thing in a row.
fn long(piece: &str, bytes: usize) -> String {
    format!("X:1\nT:t\nM:4/4\nK:C\n{}\n", piece.repeat(bytes / piece.len()))
}

#[test]
fn long_lines_take_linear_time_and_bounded_room() {
    let pieces = [
        "(",
        "[",
        "{",
        "\"",
        "!",
        "+",
        "|",
        ":",
        "A",
        "^",
        "-",
        ">",
        "(3",
        "|:",
        "|1",
        "[1",
        ":|",
        "[K:G]",
        "[K:",
        "\0",
        "é",
        "&",
        "A-",
        "A>",
        "/",
        "9",
        "[CEG]",
        "\"Am\"",
        "!a b",
        "+a b",
        "1,",
        "|:A|1B:|2",
        "::",
        "A&",
        "x!x",
        "` ! ",
    ];
    let start = Instant::now();
    for piece in pieces {
        let text = long(piece, 1 << 20);
        let began = Instant::now();
        let tune = parse_tune(&text);
        assert!(tune.voices.iter().all(|v| v.elements.len() <= MAX_ELEMENTS));
        assert!(tune.diagnostics.kept().len() <= Diagnostics::KEPT);
        assert!(expand(&tune).notes.len() <= MAX_NOTES + 64);
        assert!(began.elapsed() < SLOWEST, "{piece:?} took {:?}", began.elapsed());
    }
    println!("{} pieces in {:?}", pieces.len(), start.elapsed());
}

#[test]
fn a_line_of_ten_megabytes_and_books_of_nothing() {
    let began = Instant::now();
    let verdict = judge(&long("A2 B>c | ", 10 << 20));
    assert!(!verdict.parses);
    assert_eq!(parse_tunebook(&"X:\n".repeat(20_000)).len(), 20_000);
    assert!(parse_tune(&"\n".repeat(1 << 20)).voices.len() == 1);
    parse_tune(&format!("X:1\nK:C\n{}", (0..50_000).map(|i| format!("V:{i}\nA|\n")).collect::<String>()));
    assert!(began.elapsed() < SLOWEST, "took {:?}", began.elapsed());
}

#[test]
fn repeats_and_parts_cannot_explode() {
    let endings: String = (1..=31).map(|i| format!("[{i} A:|")).collect();
    for text in [
        format!("X:1\nP:{}\nK:C\nP:A\n{}\n", "(((A9)9)9)9", "A|".repeat(5000)),
        format!("X:1\nP:{}\nK:C\nP:A\n{}\n", "A".repeat(1000), "z|".repeat(50_000)),
        format!("X:1\nK:C\n|:{}{endings}\n", "A|".repeat(20_000)),
        format!("X:1\nK:C\n{}\n", "|::::::::A::::::::|".repeat(20_000)),
    ] {
        let began = Instant::now();
        let performance = expand(&parse_tune(&text));
        assert!(performance.notes.len() <= MAX_NOTES + 64);
        assert!(began.elapsed() < SLOWEST, "took {:?}", began.elapsed());
    }
}

#[test]
fn time_too_fine_stops_the_playing_and_says_so() {
    let primes = [59, 61, 53, 47, 43, 41, 37, 31, 29, 23, 19, 17, 13, 11];
    let body: String = primes.iter().map(|p| format!("({p}:{}:1A/4096 ", p - 1)).collect();
    let performance = expand(&parse_tune(&format!("X:1\nT:t\nM:4/4\nL:1/4096\nK:C\n{}\n", body.repeat(3))));
    assert!(
        performance.diagnostics.kept().iter().any(|d| d.code.as_str() == "E032"),
        "{:?}",
        performance.diagnostics
    );
}
