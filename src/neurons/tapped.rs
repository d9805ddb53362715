//! Activations of every unit over some tunes, aligned with the characters that were just read.

use crate::corpus::Vocab;
use crate::engine::{Engine, EngineError, LayerActivations};
use crate::rng::permutation;

/// Of a long tune no more characters are read.
const MOST_OF_A_TUNE: usize = 2_000;

/// What of a unit is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Its output, the hidden state h.
    H,
    /// Its cell state, as tanh(c); LSTM only.
    C,
}

impl Kind {
    /// `h` or `c`.
    pub fn key(self) -> &'static str {
        match self {
            Kind::H => "h",
            Kind::C => "c",
        }
    }

    /// For people: `h` or `tanh(c)`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::H => "h",
            Kind::C => "tanh(c)",
        }
    }

    /// The kinds that a cell has.
    pub fn of(cell: crate::model::CellKind) -> &'static [Kind] {
        if cell.has_cell_state() { &[Kind::H, Kind::C] } else { &[Kind::H] }
    }

    /// What an engine recorded of it \[T, H\], as it is shown: -1 to 1.
    pub fn values(self, layer: &LayerActivations) -> Vec<f32> {
        match self {
            Kind::H => layer.h.clone(),
            Kind::C => layer.c.iter().map(|c| c.tanh()).collect(),
        }
    }
}

/// A unit and what of it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Feature {
    /// Layer, from 0.
    pub layer: usize,
    /// Unit, from 0.
    pub unit: usize,
    /// What of it.
    pub kind: Kind,
}

/// What units did at the characters of some tunes, one tune after another; N characters.
#[derive(Debug, Clone, Default)]
pub struct Tapped {
    /// Values of every feature \[N\], in the order of [`features`].
    pub columns: Vec<Vec<f32>>,
    /// Labels of every character, one bit a label of [`super::LABELS`] \[N\].
    pub labels: Vec<u16>,
    /// The characters \[N\].
    pub chars: Vec<char>,
    /// Characters of each tune, in order.
    pub lengths: Vec<usize>,
}

/// All features of a model: by layer, kind and unit.
pub fn features(layers: usize, hidden: usize, kinds: &[Kind]) -> Vec<Feature> {
    (0..layers)
        .flat_map(|layer| kinds.iter().map(move |&kind| (layer, kind)))
        .flat_map(|(layer, kind)| (0..hidden).map(move |unit| Feature { layer, unit, kind }))
        .collect()
}

/// `<start>` and the characters of a text as the model reads them: unknown ones as `<unk>`, or `<start>` where there is
/// none, as in an evaluation; and how many of those there are.
pub fn encode(vocab: &Vocab, text: &str) -> (Vec<u16>, usize) {
    let mut unknown = 0;
    let mut ids = vec![vocab.start()];
    ids.extend(text.chars().map(|c| {
        vocab.id(c).unwrap_or_else(|| {
            unknown += 1;
            vocab.unk().unwrap_or(vocab.start())
        })
    }));
    (ids, unknown)
}

/// Activations after each character of a text \[T\] was read, every layer's: `<start>` is read first and left out.
pub fn tap(engine: &mut dyn Engine, vocab: &Vocab, text: &str) -> Result<Vec<LayerActivations>, EngineError> {
    let (ids, _) = encode(vocab, text);
    let mut layers = engine.tap(&ids)?;
    for layer in &mut layers {
        for rows in [&mut layer.h, &mut layer.c, &mut layer.gates] {
            // The first of T + 1 equal rows.
            let row = rows.len() / ids.len();
            rows.drain(..row);
        }
    }
    Ok(layers)
}

/// Reads tunes in an order drawn by `seed` until `most` characters have been read.
pub fn read(
    engine: &mut dyn Engine,
    vocab: &Vocab,
    tunes: &[String],
    kinds: &[Kind],
    most: usize,
    seed: u64,
) -> Result<Tapped, EngineError> {
    let shape = engine.shape();
    let columns = shape.layers * shape.hidden * kinds.len();
    let mut tapped = Tapped { columns: vec![Vec::new(); columns], ..Tapped::default() };
    for tune in permutation(seed, 0, tunes.len()) {
        let tune = &tunes[tune as usize];
        let room = most.saturating_sub(tapped.chars.len()).min(MOST_OF_A_TUNE);
        if room == 0 {
            break;
        }
        let chars: Vec<char> = tune.chars().take(room).collect();
        if chars.is_empty() {
            continue;
        }
        let text: String = chars.iter().collect();
        let layers = tap(engine, vocab, &text)?;
        let mut columns = tapped.columns.iter_mut();
        for layer in &layers {
            for kind in kinds {
                let values = kind.values(layer);
                for (unit, column) in columns.by_ref().take(shape.hidden).enumerate() {
                    column.extend(values.iter().skip(unit).step_by(shape.hidden));
                }
            }
        }
        // Of the whole tune: its end is not where reading stopped.
        tapped.labels.extend(super::labels::bits(tune).into_iter().take(chars.len()));
        tapped.lengths.push(chars.len());
        tapped.chars.extend(chars);
    }
    Ok(tapped)
}
