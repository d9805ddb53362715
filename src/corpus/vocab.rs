//! The vocabulary: characters and the special tokens, as ids.

use super::CorpusError;

/// Stands before a tune.
pub const START: &str = "<start>";
/// Stands after a tune.
pub const END: &str = "<end>";
/// Stands for a character that was not in the training tunes.
pub const UNKNOWN: &str = "<unk>";

/// The most entries a vocabulary has: ids are u16, and 65535 means "not predicted" ([`crate::engine::IGNORE`]).
pub const MAX_VOCAB: usize = 65_535;
/// The most characters: [`MAX_VOCAB`] less the special tokens.
pub const MAX_CHARACTERS: usize = MAX_VOCAB - 3;

/// No id: a hole in the ASCII table.
const NONE: u16 = u16::MAX;

/// Id <-> token. Order: `<start>`, `<end>`, `<unk>`, then the characters in code point order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocab {
    tokens: Vec<String>,
    /// Id -> character; None for special tokens. \[V\]
    chars: Vec<Option<char>>,
    /// Ids of the ASCII characters, NONE where there is none.
    ascii: [u16; 128],
    /// The other characters with their ids, sorted.
    others: Vec<(char, u16)>,
    start: u16,
    end: u16,
    unk: Option<u16>,
}

/// A character that the model does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("character {character:?} at position {position} is not in the model's vocabulary")]
pub struct UnknownCharacter {
    /// The character.
    pub character: char,
    /// Its position in characters, from 0.
    pub position: usize,
}

impl Vocab {
    /// A vocabulary of the special tokens and these characters (sorted, deduplicated here). Of more than
    /// [`MAX_CHARACTERS`] the lowest code points are taken; [`super::pack_to`] refuses such a corpus.
    pub fn from_chars(chars: impl IntoIterator<Item = char>) -> Vocab {
        let mut chars: Vec<char> = chars.into_iter().collect();
        chars.sort_unstable();
        chars.dedup();
        chars.truncate(MAX_CHARACTERS);
        let specials = [START, END, UNKNOWN].map(str::to_owned);
        let tokens: Vec<String> = specials.into_iter().chain(chars.into_iter().map(String::from)).collect();
        Vocab::from_tokens(tokens).expect("special tokens and distinct characters")
    }

    /// From a model file's token list; refuses duplicates, a missing `<start>` or `<end>`, tokens that are neither
    /// special nor one character. `<unk>` may be missing.
    pub fn from_tokens(tokens: Vec<String>) -> Result<Vocab, CorpusError> {
        let refuse = |why: String| Err(CorpusError::Vocabulary(why));
        if tokens.len() > MAX_VOCAB {
            return refuse(format!("{} tokens, expected at most {MAX_VOCAB}", tokens.len()));
        }
        let mut vocab = Vocab {
            chars: Vec::with_capacity(tokens.len()),
            ascii: [NONE; 128],
            others: Vec::new(),
            start: NONE,
            end: NONE,
            unk: None,
            tokens: Vec::new(),
        };
        for (id, token) in tokens.iter().enumerate() {
            let id = id as u16; // below MAX_VOCAB
            let twice = format!("token {token:?} stands there twice, expected once");
            let slot = match token.as_str() {
                START => &mut vocab.start,
                END => &mut vocab.end,
                UNKNOWN => vocab.unk.get_or_insert(NONE),
                _ => {
                    let mut chars = token.chars();
                    let (Some(c), None) = (chars.next(), chars.next()) else {
                        let shown: String = token.chars().take(40).collect();
                        return refuse(format!(
                            "token {id} is {shown:?}, expected one character, {START}, {END} or {UNKNOWN}"
                        ));
                    };
                    vocab.chars.push(Some(c));
                    match vocab.ascii.get_mut(c as usize) {
                        Some(slot) if *slot != NONE => return refuse(twice),
                        Some(slot) => *slot = id,
                        None => vocab.others.push((c, id)),
                    }
                    continue;
                }
            };
            if *slot != NONE {
                return refuse(twice);
            }
            *slot = id;
            vocab.chars.push(None);
        }
        vocab.others.sort_unstable();
        if let Some(pair) = vocab.others.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return refuse(format!("token {:?} stands there twice, expected once", pair[0].0.to_string()));
        }
        for (id, name) in [(vocab.start, START), (vocab.end, END)] {
            if id == NONE {
                return refuse(format!("no {name} among its {} tokens, expected one", tokens.len()));
            }
        }
        vocab.tokens = tokens;
        Ok(vocab)
    }

    /// Entries V.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether it is empty (it never is).
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Index -> token.
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// Id of `<start>`.
    pub fn start(&self) -> u16 {
        self.start
    }

    /// Id of `<end>`.
    pub fn end(&self) -> u16 {
        self.end
    }

    /// Id of `<unk>`, where the vocabulary has one.
    pub fn unk(&self) -> Option<u16> {
        self.unk
    }

    /// Id of a character.
    #[inline]
    pub fn id(&self, character: char) -> Option<u16> {
        match self.ascii.get(character as usize) {
            Some(&id) => (id != NONE).then_some(id),
            None => self
                .others
                .binary_search_by_key(&character, |&(c, _)| c)
                .ok()
                .and_then(|at| self.others.get(at))
                .map(|&(_, id)| id),
        }
    }

    /// The character of an id; None for special tokens and ids out of range.
    #[inline]
    pub fn character(&self, id: u16) -> Option<char> {
        self.chars.get(usize::from(id)).copied().flatten()
    }

    /// Text -> ids (characters only).
    pub fn encode(&self, text: &str) -> Result<Vec<u16>, UnknownCharacter> {
        self.encode_with(text, None)
    }

    /// Text -> ids, unknown characters as `<unk>` (or an error where there is none).
    pub fn encode_lossy(&self, text: &str) -> Result<Vec<u16>, UnknownCharacter> {
        self.encode_with(text, self.unk)
    }

    fn encode_with(&self, text: &str, otherwise: Option<u16>) -> Result<Vec<u16>, UnknownCharacter> {
        text.chars()
            .enumerate()
            .map(|(position, character)| {
                self.id(character).or(otherwise).ok_or(UnknownCharacter { character, position })
            })
            .collect()
    }

    /// Ids -> text; special tokens and ids out of range are left out.
    pub fn decode(&self, ids: &[u16]) -> String {
        ids.iter().filter_map(|&id| self.character(id)).collect()
    }

    /// For each id of `self` the id in `model`, `<unk>` (or `<start>` where the model has no `<unk>`) for characters `model` lacks. \[V\]
    pub fn remap_to(&self, model: &Vocab) -> Vec<u16> {
        let otherwise = model.unk.unwrap_or(model.start);
        (0..self.len() as u16)
            .map(|id| match self.character(id) {
                Some(c) => model.id(c).unwrap_or(otherwise),
                None if id == self.start => model.start,
                None if id == self.end => model.end,
                None => otherwise,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(tokens: &[&str]) -> Vec<String> {
        tokens.iter().map(|t| t.to_string()).collect()
    }

    #[test]
    fn order_and_round_trip() {
        let vocab = Vocab::from_chars("zébra\nab𝄞".chars());
        assert_eq!(vocab.tokens(), ["<start>", "<end>", "<unk>", "\n", "a", "b", "r", "z", "é", "𝄞"]);
        assert_eq!((vocab.start(), vocab.end(), vocab.unk()), (0, 1, Some(2)));
        let ids = vocab.encode("bé𝄞\n").unwrap();
        assert_eq!(ids, [5, 8, 9, 3]);
        assert_eq!(vocab.decode(&ids), "bé𝄞\n");
        assert_eq!(vocab.decode(&[0, 4, 1, 999, u16::MAX]), "a");
        for (id, token) in vocab.tokens().iter().enumerate().skip(3) {
            assert_eq!(vocab.id(token.chars().next().unwrap()), Some(id as u16));
        }
    }

    #[test]
    fn unknown_characters_are_named_with_their_position() {
        let vocab = Vocab::from_chars("ab".chars());
        let unknown = vocab.encode("abß").unwrap_err();
        assert_eq!(unknown, UnknownCharacter { character: 'ß', position: 2 });
        assert_eq!(vocab.encode_lossy("aßc").unwrap(), [3, 2, 2]);
        let bare = Vocab::from_tokens(strings(&["a", "<end>", "<start>"])).unwrap();
        assert_eq!(bare.encode_lossy("az").unwrap_err().position, 1);
    }

    #[test]
    fn token_lists_that_are_no_vocabulary() {
        for (tokens, why) in [
            (&["<start>", "<end>", "a", "a"][..], "twice"),
            (&["<start>", "<end>", "é", "é"], "twice"),
            (&["<start>", "<end>", "<unk>", "<unk>"], "twice"),
            (&["<start>", "<start>", "<end>"], "twice"),
            (&["<start>", "a"], "no <end>"),
            (&["<end>", "a"], "no <start>"),
            (&["<start>", "<end>", "ab"], "expected one character"),
            (&["<start>", "<end>", ""], "expected one character"),
            (&[], "no <start>"),
        ] {
            let error = Vocab::from_tokens(strings(tokens)).unwrap_err().to_string();
            assert!(error.contains(why), "{tokens:?}: {error}");
        }
        let many = (0..=MAX_VOCAB as u32).map(|i| format!("{i}")).collect();
        assert!(Vocab::from_tokens(many).unwrap_err().to_string().contains("at most"));
    }

    #[test]
    fn more_characters_than_ids_are_cut() {
        let vocab = Vocab::from_chars((0u32..80_000).filter_map(char::from_u32));
        assert_eq!(vocab.len(), MAX_VOCAB);
    }

    #[test]
    fn remapping() {
        let pack = Vocab::from_chars("abc".chars());
        let model = Vocab::from_tokens(strings(&["c", "<end>", "a", "<unk>", "<start>"])).unwrap();
        assert_eq!(pack.remap_to(&model), [4, 1, 3, 2, 3, 0]);
        let without = Vocab::from_tokens(strings(&["c", "<end>", "a", "<start>"])).unwrap();
        assert_eq!(pack.remap_to(&without), [3, 1, 3, 2, 3, 0]);
    }
}
