//! `songrnn-fast eval`: the reported loss of a model over some tunes.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;

use super::{Outcome, UsageError};
use crate::engine::{self, EngineSpec, Kernel, Precision};
use crate::model::{ModelFile, locate};
use crate::train::data::open_all;
use crate::train::evaluate::{Part, evaluate};

/// Tell a model's loss over some tunes
///
/// Mean cross-entropy over every character and <end> of every tune of DATA (no split, duplicates kept), each tune from
/// a zero state. Characters that the model does not know are read as <unk>.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// A run folder (its best weights) or a model file; default: the newest run under runs/
    #[arg(long, value_name = "RUN|FILE")]
    pub model: Option<PathBuf>,
    /// Files or folders of .abc and .txt tunes, or one packed corpus
    #[arg(required = true)]
    pub data: Vec<PathBuf>,
    /// Print one JSON object: nats_per_char, bits_per_char, perplexity, chars, tunes
    #[arg(long)]
    pub json: bool,
    /// Number format [default: f32]
    #[arg(long, default_value = "f32", hide_default_value = true)]
    pub precision: Precision,
    /// auto, cpu or cuda[:N] [default: auto]
    #[arg(long)]
    pub device: Option<String>,
    /// Threads; 0: one a core
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
}

/// Runs `eval`.
pub fn run(args: &EvalArgs) -> anyhow::Result<Outcome> {
    let device = super::train::device(args.device.as_deref(), Kernel::Auto).map_err(UsageError)?;
    if args.threads > 1024 {
        return Err(UsageError(format!("--threads {}: expected 0 (one a core) to 1024", args.threads)).into());
    }
    let path = locate(args.model.as_deref())?;
    let model = ModelFile::load(&path)?;
    let pack = Arc::new(open_all(&args.data)?);
    let tunes = pack.tunes_of(None);
    let part = Part::new(pack, tunes, &model.vocab);
    let (unknown, characters) = part.unknown(&model.vocab);
    let spec = EngineSpec { device, ..EngineSpec::cpu(model.shape, args.precision, args.threads) };
    let mut engine = engine::build(&spec)?;
    engine.load_params(&model.params)?;
    if let Some(note) = engine.info().note {
        eprintln!("{note}");
    }
    let reported = evaluate(engine.as_mut(), &part, &mut || false)?
        .context("the evaluation was stopped before its end")?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&reported)?)?;
        return Ok(Outcome::Done);
    }
    writeln!(out, "model       {} ({})", path.display(), model.shape)?;
    writeln!(out, "tunes       {}", reported.tunes)?;
    writeln!(out, "characters  {} predicted (every character and <end>)", reported.chars)?;
    if unknown > 0 {
        let list: String = characters.iter().take(20).collect();
        writeln!(
            out,
            "unknown     {unknown} characters that the model does not know, read as <unk>: {list:?}"
        )?;
    }
    writeln!(out, "loss        {:.4} nats a character", reported.nats_per_char)?;
    writeln!(out, "            {:.4} bits a character", reported.bits_per_char)?;
    writeln!(out, "perplexity  {:.4}", reported.perplexity)?;
    Ok(Outcome::Done)
}
