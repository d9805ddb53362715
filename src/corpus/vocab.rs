//! The vocabulary: characters and the special tokens, as ids.

/// Id <-> token. Order: `<start>`, `<end>`, `<unk>`, then the characters in code point order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocab {
    tokens: Vec<String>,
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
    /// A vocabulary of the special tokens and these characters (sorted, deduplicated here).
    pub fn from_chars(_chars: impl IntoIterator<Item = char>) -> Vocab {
        todo!()
    }
    /// From a model file's token list; refuses duplicates, a missing `<start>` or `<end>`, tokens that are neither
    /// special nor one character. `<unk>` may be missing.
    pub fn from_tokens(_tokens: Vec<String>) -> Result<Vocab, super::CorpusError> {
        todo!()
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
        todo!()
    }
    /// Id of `<end>`.
    pub fn end(&self) -> u16 {
        todo!()
    }
    /// Id of `<unk>`, where the vocabulary has one.
    pub fn unk(&self) -> Option<u16> {
        todo!()
    }
    /// Id of a character.
    pub fn id(&self, _character: char) -> Option<u16> {
        todo!()
    }
    /// Text -> ids (characters only).
    pub fn encode(&self, _text: &str) -> Result<Vec<u16>, UnknownCharacter> {
        todo!()
    }
    /// Text -> ids, unknown characters as `<unk>` (or an error where there is none).
    pub fn encode_lossy(&self, _text: &str) -> Result<Vec<u16>, UnknownCharacter> {
        todo!()
    }
    /// Ids -> text; special tokens and ids out of range are left out.
    pub fn decode(&self, _ids: &[u16]) -> String {
        todo!()
    }
    /// For each id of `self` the id in `model`, `<unk>` (or `<start>` where the model has no `<unk>`) for characters `model` lacks. [V]
    pub fn remap_to(&self, _model: &Vocab) -> Vec<u16> {
        todo!()
    }
}
