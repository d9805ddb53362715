//! What a text has in common with the training tunes' music: a suffix automaton over all of it, which finds at every
//! place of another text the longest run that ends there and stands in some training tune. Linear in both texts.
//!
//! (Blumer et al. 1985, "The smallest automaton recognizing the subwords of a text".)

use std::ops::Range;

/// Between two tunes: a byte that no UTF-8 has, so that no run goes over a tune's end.
const SEPARATOR: u8 = 0xff;
/// No state, no edge.
const NONE: u32 = u32::MAX;

/// The music of a tune: every line after the first `K:` line that is neither a field (`w:`, `P:`) nor a comment, white
/// space left out. Without a `K:` line it begins at the first line with a bar line in it that is no field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Music {
    /// Without white space.
    pub text: String,
    /// For each byte of `text` the byte of the tune it stands at.
    places: Vec<u32>,
}

impl Music {
    /// Of a tune; at most 4 GiB of it.
    pub fn of(tune: &str) -> Music {
        let mut music = Music::default();
        let no_key = !tune.lines().any(|line| line.starts_with("K:"));
        let mut at = 0usize;
        let mut begun = false;
        for line in tune.split('\n') {
            let field = is_field(line);
            if !begun && line.starts_with("K:") {
                begun = true;
            } else if !field && !line.starts_with('%') {
                begun |= no_key && line.contains('|');
                if begun {
                    music.add(line, at);
                }
            }
            at += line.len() + 1;
        }
        music
    }

    fn add(&mut self, line: &str, at: usize) {
        for (i, c) in line.char_indices().filter(|(_, c)| !c.is_whitespace()) {
            let Ok(place) = u32::try_from(at + i) else { return };
            self.text.push(c);
            self.places.extend((0..c.len_utf8() as u32).map(|k| place + k));
        }
    }

    /// The bytes of the tune that a range of `text`'s bytes was taken from, white space between included.
    pub fn place(&self, range: Range<usize>) -> Range<usize> {
        let at = |i: usize| self.places.get(i).map_or(0, |&place| place as usize);
        if range.is_empty() { 0..0 } else { at(range.start)..at(range.end - 1) + 1 }
    }
}

/// `w:la la`, but not `G:|`, which is a note before a repeat.
fn is_field(line: &str) -> bool {
    matches!(line.as_bytes(), [letter, b':', rest @ ..]
        if letter.is_ascii_alphabetic() && rest.first() != Some(&b'|'))
}

/// A transition of the automaton, in a list per state.
#[derive(Debug, Clone, Copy)]
struct Edge {
    to: u32,
    next: u32,
    symbol: u8,
}

/// The automaton over some tunes' music. About 40 bytes a state, at most two states a byte of music.
#[derive(Debug, Clone)]
pub struct Index {
    /// Length of each state's longest string, in bytes.
    len: Vec<u32>,
    link: Vec<u32>,
    head: Vec<u32>,
    /// Where one occurrence of the state's strings ends, exclusive, in the concatenation.
    end: Vec<u32>,
    /// The first and the last tune that the state's strings occur in.
    tunes: Vec<(u32, u32)>,
    edges: Vec<Edge>,
    /// Where each tune begins in the concatenation.
    starts: Vec<u32>,
}

/// For every byte of a text the longest run that ends there, in bytes, and the longest of all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runs {
    /// \[bytes\]
    pub lengths: Vec<u32>,
    /// The longest run: where it ends (exclusive), and the index of a tune it stands in.
    pub longest: Option<(usize, u32)>,
}

impl Index {
    /// Of these musics; their bytes together must be fewer than 2^30.
    pub fn new<'a>(musics: impl Iterator<Item = &'a str>) -> Index {
        let mut index = Index {
            len: vec![0],
            link: vec![NONE],
            head: vec![NONE],
            end: vec![0],
            tunes: vec![(NONE, 0)],
            edges: Vec::new(),
            starts: Vec::new(),
        };
        let mut last = 0;
        let mut position = 0u32;
        for (tune, music) in (0u32..).zip(musics) {
            index.starts.push(position);
            for symbol in music.bytes().chain([SEPARATOR]) {
                position += 1;
                last = index.extend(last, symbol, position, tune);
            }
        }
        index.spread_tunes();
        index
    }

    /// Tunes in it.
    pub fn tunes(&self) -> usize {
        self.starts.len()
    }

    fn state(&mut self, len: u32, link: u32, head: u32, end: u32, tunes: (u32, u32)) -> u32 {
        self.len.push(len);
        self.link.push(link);
        self.head.push(head);
        self.end.push(end);
        self.tunes.push(tunes);
        self.len.len() as u32 - 1
    }

    fn edge(&self, state: u32, symbol: u8) -> Option<usize> {
        let mut at = self.head[state as usize];
        while at != NONE {
            let edge = self.edges[at as usize];
            if edge.symbol == symbol {
                return Some(at as usize);
            }
            at = edge.next;
        }
        None
    }

    fn follow(&self, state: u32, symbol: u8) -> Option<u32> {
        self.edge(state, symbol).map(|edge| self.edges[edge].to)
    }

    fn add_edge(&mut self, state: u32, symbol: u8, to: u32) {
        let next = self.head[state as usize];
        self.head[state as usize] = self.edges.len() as u32;
        self.edges.push(Edge { to, next, symbol });
    }

    fn extend(&mut self, last: u32, symbol: u8, end: u32, tune: u32) -> u32 {
        let new = self.state(self.len[last as usize] + 1, 0, NONE, end, (tune, tune));
        let mut from = last;
        let found = loop {
            if let Some(edge) = self.edge(from, symbol) {
                break Some(edge);
            }
            self.add_edge(from, symbol, new);
            match self.link[from as usize] {
                NONE => break None,
                link => from = link,
            }
        };
        let Some(edge) = found else { return new };
        let to = self.edges[edge].to;
        if self.len[to as usize] == self.len[from as usize] + 1 {
            self.link[new as usize] = to;
            return new;
        }
        let (link, end) = (self.link[to as usize], self.end[to as usize]);
        let clone = self.state(self.len[from as usize] + 1, link, NONE, end, (NONE, 0));
        let mut at = self.head[to as usize];
        while at != NONE {
            let edge = self.edges[at as usize];
            self.add_edge(clone, edge.symbol, edge.to);
            at = edge.next;
        }
        loop {
            match self.edge(from, symbol) {
                Some(edge) if self.edges[edge].to == to => self.edges[edge].to = clone,
                _ => break,
            }
            match self.link[from as usize] {
                NONE => break,
                link => from = link,
            }
        }
        self.link[to as usize] = clone;
        self.link[new as usize] = clone;
        new
    }

    /// A state's strings occur wherever those of the states that link to it do.
    fn spread_tunes(&mut self) {
        let mut order: Vec<u32> = (1..self.len.len() as u32).collect();
        order.sort_unstable_by_key(|&state| std::cmp::Reverse(self.len[state as usize]));
        for state in order {
            let (first, last) = self.tunes[state as usize];
            let link = self.link[state as usize];
            if link != NONE {
                let tunes = &mut self.tunes[link as usize];
                *tunes = (tunes.0.min(first), tunes.1.max(last));
            }
        }
    }

    /// What `music` has in common with the indexed tunes, or with those `other_than` one of them.
    pub fn runs(&self, music: &str, other_than: Option<u32>) -> Runs {
        let allowed = |state: u32| other_than.is_none_or(|tune| self.tunes[state as usize] != (tune, tune));
        let mut runs = Runs { lengths: Vec::with_capacity(music.len()), longest: None };
        let (mut state, mut length, mut longest) = (0u32, 0u32, 0u32);
        for (i, symbol) in music.bytes().enumerate() {
            loop {
                if let Some(next) = self.follow(state, symbol).filter(|&next| allowed(next)) {
                    state = next;
                    length += 1;
                    break;
                }
                match self.link[state as usize] {
                    NONE => {
                        length = 0;
                        break;
                    }
                    link => {
                        state = link;
                        length = self.len[link as usize];
                    }
                }
            }
            runs.lengths.push(length);
            if length > longest {
                longest = length;
                let place = self.end[state as usize].saturating_sub(1);
                let tune = self.starts.partition_point(|&start| start <= place).saturating_sub(1);
                runs.longest = Some((i + 1, tune as u32));
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn music_is_what_sounds() {
        let tune = "X:1\nT:A | B\nK:D\nA B|\nw:la la\n% no\n  c2 é|\nG:|\n";
        let music = Music::of(tune);
        assert_eq!(music.text, "AB|c2é|G:|");
        let c = music.text.find("c2é").unwrap();
        assert_eq!(&tune[music.place(c..c + 4)], "c2 é");
        assert_eq!(Music::of("T:no key\nM:4/4\nsome words\nAB|\nc").text, "AB|c");
        for nothing in ["", "X:1", "K:D", "K:D\n", "words"] {
            assert_eq!(Music::of(nothing).text, "", "{nothing:?}");
        }
    }

    #[test]
    fn the_longest_run_and_its_tune_are_found() {
        let index = Index::new(["abcab|", "xyzabq", ""].into_iter());
        assert_eq!(index.tunes(), 3);
        let runs = index.runs("kzabq", None);
        assert_eq!(runs.lengths, [0, 1, 2, 3, 4]);
        assert_eq!(runs.longest, Some((5, 1)));
        assert_eq!(index.runs("ab|x", None), Runs { lengths: vec![1, 2, 3, 1], longest: Some((3, 0)) });
        assert_eq!(index.runs("KKK", None), Runs { lengths: vec![0; 3], longest: None });
        // Its own text does not count for a tune that is left out.
        assert_eq!(index.runs("abcab|", Some(0)).lengths, [1, 2, 0, 1, 2, 0]);
    }

    proptest! {
        #[test]
        fn runs_are_what_searching_finds(
            tunes in proptest::collection::vec("[abé]{0,12}", 0..5), text in "[abé]{0,14}", without in 0u32..5,
        ) {
            let index = Index::new(tunes.iter().map(String::as_str));
            for other_than in [None, Some(without)] {
                let runs = index.runs(&text, other_than);
                let (bytes, tunes) = (text.as_bytes(), tunes.iter().zip(0u32..));
                for end in 1..=bytes.len() {
                    let stands = |length: &usize| {
                        let run = &bytes[end - length..end];
                        let mut others = tunes.clone().filter(|(_, i)| other_than != Some(*i));
                        *length == 0 || others.any(|(t, _)| t.as_bytes().windows(*length).any(|w| w == run))
                    };
                    let longest = (0..=end).rev().find(stands).unwrap();
                    prop_assert_eq!(runs.lengths[end - 1] as usize, longest);
                }
                if let (Some((end, tune)), None) = (runs.longest, other_than) {
                    let length = *runs.lengths.iter().max().unwrap() as usize;
                    let (tune, _) = tunes.clone().nth(tune as usize).unwrap();
                    prop_assert!(tune.as_bytes().windows(length).any(|w| w == &bytes[end - length..end]));
                }
            }
        }
    }
}
