//! The end of a run: test loss under the best weights, three tunes, and where everything lies. Results go to standard
//! output. Doing it again (`--resume` of a finished run) gives the same.

use std::io::Write;

use serde_json::json;

use super::TrainError;
use super::evaluate::{Reported, bits, evaluate};
use super::progress::{duration, short};
use super::state::Finish;
use super::trainer::Trainer;
use crate::cli::Outcome;
use crate::model::file::{BEST, LAST, ModelFile};
use crate::sample::{Formats, TuneText, judge_all, write_set};

/// Where the tunes shown at the end are written, in the run folder.
const FINAL: &str = "samples/final";

/// Tunes shown at the end.
const TUNES: usize = 3;

/// Index of the first tune shown at the end: far from those sampled on the way, so that none is shown twice.
const FIRST_INDEX: u64 = 1 << 40;

/// Tests the best weights, samples three tunes and says what came out.
pub fn finish(
    trainer: &mut Trainer,
    why: Finish,
    stop: &mut dyn FnMut() -> bool,
) -> Result<Outcome, TrainError> {
    let best = trainer.folder.join(BEST);
    let model = if trainer.state.best.is_some() { best } else { trainer.folder.join(LAST) };
    trainer.engine.load_params(&ModelFile::load(&model)?.params)?;
    let test = match &trainer.data.test {
        None => None,
        Some(part) => match evaluate(trainer.engine.as_mut(), part, stop)? {
            Some(reported) => Some(reported),
            None => return Ok(Outcome::Interrupted),
        },
    };
    if let Some(test) = &test {
        trainer.metrics.write(&json!({
            "event": "test",
            "step": trainer.state.step,
            "nats_per_char": test.nats_per_char,
            "bits_per_char": test.bits_per_char,
            "chars": test.chars,
            "tunes": test.tunes,
        }))?;
    }
    let tunes = trainer.sample(FIRST_INDEX, TUNES)?;
    // A run that is finished a second time writes the same tunes again.
    write_set(&trainer.folder.join(FINAL), &judge_all(&tunes, true), Formats::ALL, true)?;
    trainer.metrics.sync()?;
    let text = summary(trainer, why, test.as_ref(), &tunes);
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|source| TrainError::Io {
        action: "write to",
        path: "standard output".into(),
        source,
    })?;
    Ok(Outcome::Done)
}

fn summary(trainer: &Trainer, why: Finish, test: Option<&Reported>, tunes: &[TuneText]) -> String {
    let state = &trainer.state;
    let folder = trainer.folder.display();
    let mut text = String::new();
    for tune in tunes {
        text += &tune.text;
        text += "\n\n";
    }
    let ended = match why {
        Finish::Complete => "finished".to_string(),
        Finish::Patience => {
            format!("stopped early: {} validations without a better loss", state.evals_since_best)
        }
    };
    text += &format!(
        "{ended} after {} epochs, {} steps, {}\n",
        state.epochs,
        state.step,
        duration(trainer.seconds())
    );
    if let Some(best) = &state.best {
        let of = if trainer.data.val.is_some() { "validation" } else { "training" };
        text += &loss_line(
            &format!("best {of} loss"),
            best.loss.0,
            &format!("epoch {}, step {}", best.epoch, best.step),
        );
        if let Some((order, nats)) = state.ngram.as_ref().and_then(|ngram| ngram.best()) {
            let gain = nats - best.loss.0;
            let verdict = if gain > 0.0 {
                format!("the network is {gain:.4} nats better")
            } else {
                format!("the network is {:.4} nats worse: train longer, or give it more tunes", -gain)
            };
            text += &loss_line(&format!("{order}-gram, no network"), nats, &verdict);
        }
    }
    if let Some(test) = test {
        let note = format!("{} tunes, {} characters", test.tunes, short(test.chars as f64));
        text += &loss_line("test loss", test.nats_per_char, &note);
    }
    if state.watch.skipped > 0 {
        text += &format!("{} steps skipped, {} rollbacks\n", state.watch.skipped, state.watch.rollbacks);
    }
    text += &format!("model:   {folder}/{}\n", if state.best.is_some() { BEST } else { LAST });
    text +=
        &format!("tunes:   {folder}/{FINAL}/ (.txt, .abc, .mid)   samples on the way: {folder}/samples/\n");
    text += &format!("losses:  {folder}/metrics.jsonl\n");
    text += &format!("next:    songrnn-fast sample --model {folder} -n 64\n");
    text
}

fn loss_line(what: &str, nats: f64, note: &str) -> String {
    format!("{what:<22} {nats:.4} nats, {:.4} bits a character ({note})\n", bits(nats))
}
