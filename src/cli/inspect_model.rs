//! `songrnn-fast inspect RUN|FILE.safetensors`: what a model file holds.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::corpus::sources::other_format;
use crate::model::{ModelFile, file};

/// The model file meant by `path`: a safetensors file itself, or the best one of a run folder.
pub fn model_file(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        let best = path.join(file::BEST);
        return best.is_file().then_some(best);
    }
    // Asked before it is opened: opening a pipe that nobody writes to would wait for ever.
    if !path.is_file() {
        return None;
    }
    let mut start = [0u8; 16];
    let mut opened = std::fs::File::open(path).ok()?;
    let read = opened.read(&mut start).ok()?;
    matches!(other_format(&start[..read]), Some((found, _)) if found.contains("safetensors"))
        .then(|| path.to_owned())
}

/// What is in it, as text or JSON.
pub fn describe(path: &Path, as_json: bool) -> anyhow::Result<String> {
    let model = ModelFile::load(path)?;
    let (shape, params) = (model.shape, model.params.len());
    let norm = model.params.iter().map(|&p| f64::from(p) * f64::from(p)).sum::<f64>().sqrt();
    if as_json {
        let value = json!({
            "file": path, "cell": shape.cell, "hidden": shape.hidden, "layers": shape.layers, "vocab": shape.vocab,
            "parameters": params, "parameter_norm": norm, "tokens": model.vocab.tokens(), "config": model.config,
        });
        return Ok(format!("{value}\n"));
    }
    let characters: String =
        model.vocab.tokens().iter().filter(|t| t.chars().count() == 1).map(String::as_str).collect();
    let mut out = format!(
        "{}: a model file\n  shape       {shape}\n  parameters  {params} ({norm:.3} in L2 norm)\n  characters  {characters:?}\n",
        path.display()
    );
    for tensor in shape.tensors() {
        out += &format!("  {:<20} {:?}\n", tensor.name, tensor.dims);
    }
    out += &format!("  trained as\n{}\n", serde_json::to_string_pretty(&model.config)?);
    Ok(out)
}
