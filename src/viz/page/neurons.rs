//! The neuron browser's data: what every unit did at every character of some texts, how surprised the model was, and
//! what it had expected.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::data::{NeuronPage, NeuronText};
use crate::corpus::Vocab;
use crate::engine::{Engine, EngineError};
use crate::model::ModelShape;
use crate::neurons::Ranking;
use crate::neurons::tapped::{self, Kind};

/// How many next characters are told.
const TOP: usize = 5;

/// The most neurons of a ranking that a page lists.
const RANKED: usize = 300;

/// The browser's data for a model over texts, each (title, origin, text). Activations of all texts together take at most
/// `budget` bytes of base64: where they would take more, tanh(c) is left out, then texts from the last on, and of the
/// first one its end; the page's note says so.
pub fn page(
    engine: &mut dyn Engine,
    vocab: &Vocab,
    model: String,
    texts: &[(String, String, String)],
    ranking: &Ranking,
    budget: usize,
) -> Result<NeuronPage, EngineError> {
    let shape = engine.shape();
    let plan = Plan::new(&shape, texts, budget);
    let mut page = NeuronPage {
        model,
        layers: shape.layers,
        hidden: shape.hidden,
        kinds: plan.kinds.iter().map(|kind| kind.key().to_owned()).collect(),
        note: plan.note,
        ..NeuronPage::default()
    };
    let mut ids = Vec::new();
    for ((title, origin, text), &length) in texts.iter().zip(&plan.lengths) {
        let chars: Vec<char> = text.chars().take(length).collect();
        let text: String = chars.iter().collect();
        ids.push(tapped::encode(vocab, &text).0);
        page.texts.push(NeuronText {
            title: title.clone(),
            origin: origin.clone(),
            chars: chars.into_iter().map(String::from).collect(),
            values: values(engine, vocab, &text, plan.kinds)?,
            ..NeuronText::default()
        });
    }
    expectations(engine, vocab, &ids, &mut page.texts)?;
    (page.ranking, page.chosen) = shown(ranking);
    Ok(page)
}

/// What fits.
struct Plan {
    kinds: &'static [Kind],
    /// Characters of each text; texts beyond are left out.
    lengths: Vec<usize>,
    note: String,
}

impl Plan {
    fn new(shape: &ModelShape, texts: &[(String, String, String)], budget: usize) -> Plan {
        let all = Kind::of(shape.cell);
        let mut lengths: Vec<usize> = texts.iter().map(|(.., text)| text.chars().count()).collect();
        let units = shape.layers * shape.hidden;
        let needed = |lengths: &[usize], kinds: usize| -> usize {
            lengths.iter().map(|length| encoded(length * units * kinds)).sum()
        };
        if needed(&lengths, all.len()) <= budget {
            return Plan { kinds: all, lengths, note: String::new() };
        }
        let kinds = &all[..1];
        let mut left_out = Vec::new();
        if kinds.len() < all.len() {
            left_out.push("tanh(c)".to_owned());
        }
        while lengths.len() > 1 && needed(&lengths, kinds.len()) > budget {
            lengths.pop();
        }
        match texts.len() - lengths.len() {
            0 => {}
            1 => left_out.push("the last text".to_owned()),
            n => left_out.push(format!("the last {n} texts")),
        }
        if let [length] = &mut lengths[..]
            && encoded(*length * units * kinds.len()) > budget
        {
            let fits = budget / 4 * 3 / (units * kinds.len());
            left_out.push(format!("all but the first {fits} characters of the first text"));
            *length = fits;
        }
        let note = format!(
            "Left out, to keep the page's activations within {:.1} MB: {}.",
            budget as f64 / 1e6,
            left_out.join(", ")
        );
        Plan { kinds, lengths, note }
    }
}

/// Bytes of base64.
fn encoded(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

/// Activations \[kinds\]\[layers\]\[T\]\[H\], -1 to 1 as int8 -127 to 127, in base64.
fn values(engine: &mut dyn Engine, vocab: &Vocab, text: &str, kinds: &[Kind]) -> Result<String, EngineError> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let layers = tapped::tap(engine, vocab, text)?;
    let mut bytes = Vec::new();
    for kind in kinds {
        for layer in &layers {
            let rounded = |value: f32| (value.clamp(-1.0, 1.0) * 127.0).round() as i8;
            bytes.extend(kind.values(layer).into_iter().map(|value| rounded(value).to_ne_bytes()[0]));
        }
    }
    Ok(STANDARD.encode(bytes))
}

/// Surprisal and the most probable characters before each character; the texts run side by side.
fn expectations(
    engine: &mut dyn Engine,
    vocab: &Vocab,
    ids: &[Vec<u16>],
    texts: &mut [NeuronText],
) -> Result<(), EngineError> {
    let (streams, size) = (ids.len(), vocab.len());
    let steps = ids.iter().map(|ids| ids.len() - 1).max().unwrap_or(0);
    let mut logits = vec![0.0f32; streams * size];
    for t in 0..steps {
        // Where a text is over its stream reads on, and nobody looks.
        let read: Vec<u16> = ids.iter().map(|ids| ids.get(t).copied().unwrap_or(vocab.end())).collect();
        engine.step(&read, &vec![u8::from(t == 0); streams], &mut logits)?;
        for ((ids, text), logits) in ids.iter().zip(texts.iter_mut()).zip(logits.chunks_exact(size)) {
            let Some(&next) = ids.get(t + 1) else { continue };
            let log = log_softmax(logits);
            text.surprisal.push(-log[usize::from(next)] as f32);
            text.top.push(top(vocab, &log));
        }
    }
    Ok(())
}

/// Natural logarithms of the softmax \[V\].
fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&z| (f64::from(z) - largest).exp()).sum();
    logits.iter().map(|&z| f64::from(z) - largest - sum.ln()).collect()
}

/// The most probable tokens, the lowest id first among equals.
fn top(vocab: &Vocab, log: &[f64]) -> Vec<(String, f32)> {
    let mut order: Vec<usize> = (0..log.len()).collect();
    order.sort_by(|&a, &b| log[b].total_cmp(&log[a]));
    order.truncate(TOP);
    order.into_iter().map(|id| (vocab.tokens()[id].clone(), log[id].exp() as f32)).collect()
}

/// The best neurons and the chosen ones, with the places of these.
fn shown(ranking: &Ranking) -> (Vec<crate::study::results::NeuronScore>, Vec<usize>) {
    let kept: Vec<usize> =
        (0..ranking.scores.len()).filter(|at| *at < RANKED || ranking.chosen.contains(at)).collect();
    let chosen = ranking.chosen.iter().filter_map(|at| kept.iter().position(|kept| kept == at)).collect();
    (kept.into_iter().map(|at| ranking.scores[at].clone()).collect(), chosen)
}

#[cfg(test)]
#[path = "neurons_tests.rs"]
mod tests;
