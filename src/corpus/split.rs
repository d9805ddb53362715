//! Which part of a corpus a tune belongs to: a function of its body's hash, so that duplicates never straddle it.

use xxhash_rust::xxh3::xxh3_64;

/// Which part of a corpus a tune belongs to: decided by a hash of its body, so that duplicates never straddle it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Split {
    /// 90%.
    Train = 0,
    /// 5%.
    Validation = 1,
    /// 5%.
    Test = 2,
}

impl Split {
    /// All of them, in the order of their numbers.
    pub const ALL: [Split; 3] = [Split::Train, Split::Validation, Split::Test];

    /// From its number in a packed file.
    pub fn from_number(number: u8) -> Option<Split> {
        Split::ALL.get(usize::from(number)).copied()
    }

    /// `train`, `validation`, `test`.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Validation => "validation",
            Split::Test => "test",
        }
    }
}

/// Hashes below this are for training: 90% of 2^64.
const VALIDATION_FROM: u64 = ((1u128 << 64) * 90 / 100) as u64;
/// Hashes from here on are for testing: 95% of 2^64.
const TEST_FROM: u64 = ((1u128 << 64) * 95 / 100) as u64;

/// Hash of a tune's body: xxh3 of the lines after the first `K:` line, runs of white space as one space, none at
/// either end. Where nothing stands after a `K:` line, or there is none: of the whole text without its `X:` lines.
/// `scratch` is working space.
pub fn body_hash(text: &str, scratch: &mut Vec<u8>) -> u64 {
    scratch.clear();
    if let Some(body) = after_key(text) {
        push_normalised(body, scratch);
    }
    if scratch.is_empty() {
        for line in text.split('\n').filter(|line| !line.starts_with("X:")) {
            push_normalised(line, scratch);
        }
    }
    xxh3_64(scratch)
}

/// What stands after the first line that begins with `K:`.
fn after_key(text: &str) -> Option<&str> {
    let mut rest = text;
    loop {
        let is_key = rest.starts_with("K:");
        rest = rest.get(memchr::memchr(b'\n', rest.as_bytes())? + 1..)?;
        if is_key {
            return Some(rest);
        }
    }
}

fn push_normalised(text: &str, out: &mut Vec<u8>) {
    for word in text.as_bytes().split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
}

/// Hash -> part, with the exceptions that a small corpus needs.
///
/// 90/5/5 by the hash. Two exceptions, so that a small corpus can be trained on and validated: where no tune falls
/// into the training part, the one with the lowest hash goes there; where no tune falls into the validation part and
/// there are at least three different ones, the one whose hash is nearest to that part's range goes there (never the
/// only one for training). The test part may be empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SplitRule {
    to_train: Option<u64>,
    to_validation: Option<u64>,
}

impl SplitRule {
    /// The part of a tune with this body hash.
    #[inline]
    pub fn of(&self, hash: u64) -> Split {
        if self.to_train == Some(hash) {
            Split::Train
        } else if self.to_validation == Some(hash) {
            Split::Validation
        } else {
            range_of(hash)
        }
    }
}

#[inline]
fn range_of(hash: u64) -> Split {
    if hash < VALIDATION_FROM {
        Split::Train
    } else if hash < TEST_FROM {
        Split::Validation
    } else {
        Split::Test
    }
}

/// What must be known of all hashes to decide on the exceptions: constant memory, any order.
#[derive(Debug, Clone, Default)]
pub struct SplitSurvey {
    lowest: Option<u64>,
    highest_train: Option<u64>,
    /// The two lowest different ones for testing, in order.
    lowest_test: [Option<u64>; 2],
    any_validation: bool,
}

impl SplitSurvey {
    /// Takes note of a tune's hash (duplicates change nothing).
    pub fn add(&mut self, hash: u64) {
        self.lowest = Some(self.lowest.map_or(hash, |low| low.min(hash)));
        match range_of(hash) {
            Split::Train => self.highest_train = self.highest_train.max(Some(hash)),
            Split::Validation => self.any_validation = true,
            Split::Test => {
                let [first, second] = self.lowest_test;
                if first.is_none_or(|first| hash < first) {
                    self.lowest_test = [Some(hash), first];
                } else if first != Some(hash) && second.is_none_or(|second| hash < second) {
                    self.lowest_test[1] = Some(hash);
                }
            }
        }
    }

    /// The rule for a corpus of `distinct` different tunes.
    pub fn rule(&self, distinct: u64) -> SplitRule {
        let mut rule = SplitRule::default();
        if self.highest_train.is_none() {
            rule.to_train = self.lowest;
        }
        if !self.any_validation && distinct >= 3 {
            // Below: the highest training hash, unless it is the only one. Above: the lowest test hash, unless it
            // has just been taken for training (then all are test tunes): the next one.
            let below = self.highest_train.filter(|_| self.lowest != self.highest_train);
            let above = self.lowest_test[usize::from(rule.to_train.is_some())];
            rule.to_validation = match (below, above) {
                (Some(b), Some(a)) => Some(if VALIDATION_FROM - b <= a - TEST_FROM { b } else { a }),
                (b, a) => b.or(a),
            };
        }
        rule
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> u64 {
        body_hash(text, &mut Vec::new())
    }

    #[test]
    fn header_and_white_space_do_not_matter_music_does() {
        let a = hash("X:1\nT:One\nK:G\nABc  d|\nefg");
        assert_eq!(a, hash("X:2\nT:Other\nM:C\nK:D\nABc d| efg"));
        assert_ne!(a, hash("X:1\nT:One\nK:G\nABc d|\neff"));
        assert_ne!(a, hash("X:1\nT:One\nK:G\nABcd|\nefg"));
    }

    #[test]
    fn without_music_the_header_counts_but_not_its_number() {
        assert_eq!(hash("X:1\nT:One\nK:G"), hash("X:7\nT:One\nK:G"));
        assert_ne!(hash("X:1\nT:One\nK:G"), hash("X:1\nT:Two\nK:G"));
        assert_eq!(hash("X:1\nabc"), hash("X:2\n abc"));
        assert_ne!(hash("abc"), hash("abd"));
        assert_eq!(hash("K:G\nabc"), hash("X:1\nK:C\nabc"));
    }

    #[test]
    fn parts_are_90_5_5() {
        let rule = SplitRule::default();
        let mut counts = [0u32; 3];
        for i in 0..20_000u32 {
            counts[rule.of(xxh3_64(&i.to_le_bytes())) as usize] += 1;
        }
        assert!((17_800..18_200).contains(&counts[0]), "{counts:?}");
        assert!((850..1150).contains(&counts[1]) && (850..1150).contains(&counts[2]), "{counts:?}");
    }

    fn parts(hashes: &[u64]) -> Vec<Split> {
        let mut survey = SplitSurvey::default();
        hashes.iter().for_each(|&h| survey.add(h));
        let rule = survey.rule(hashes.len() as u64);
        hashes.iter().map(|&h| rule.of(h)).collect()
    }

    #[test]
    fn small_corpora_can_be_trained_on_and_validated() {
        use Split::{Test, Train, Validation};
        let (v, t) = (VALIDATION_FROM, TEST_FROM);
        assert_eq!(parts(&[]), []);
        assert_eq!(parts(&[t]), [Train]);
        assert_eq!(parts(&[5, 6]), [Train, Train]);
        assert_eq!(parts(&[5, 7, 6]), [Train, Validation, Train]);
        assert_eq!(parts(&[5, v, 6]), [Train, Validation, Train]);
        assert_eq!(parts(&[5, v - 9, t + 1]), [Train, Train, Validation]);
        assert_eq!(parts(&[5, v - 1, t + 9]), [Train, Validation, Test]);
        assert_eq!(parts(&[5, t + 3, t + 9]), [Train, Validation, Test]);
        assert_eq!(parts(&[v, v + 1, v + 2]), [Train, Validation, Validation]);
        assert_eq!(parts(&[t + 2, t, t + 2, t + 1]), [Test, Train, Test, Validation]);
    }
}
