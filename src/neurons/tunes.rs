//! Which tunes neurons are found with and which are held out: a run's own training and validation tunes, or others.

use std::path::Path;

use crate::config::RunConfig;
use crate::corpus::tunes::tunes_of;
use crate::corpus::{Pack, Split};
use crate::train::data::BUILT_IN;

/// More tunes than are ever read; a corpus may hold millions.
const MOST: usize = 2_000;

/// Tunes to rank neurons on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RankingTunes {
    /// Neurons are found with these.
    pub find: Vec<String>,
    /// And scored on these.
    pub held_out: Vec<String>,
    /// For people: where they come from.
    pub origin: String,
}

impl RankingTunes {
    /// The training and validation tunes of the run that a model file lies in, from the packs in its folder; or why
    /// they cannot be had.
    pub fn of_run(model: &Path) -> Result<RankingTunes, String> {
        let folder = model.parent().unwrap_or(Path::new(""));
        let config = folder.join("config.toml");
        let text = std::fs::read_to_string(&config)
            .map_err(|error| format!("the model lies in no run folder ({}: {error})", config.display()))?;
        let config = RunConfig::from_toml(&text).map_err(|why| format!("{}: {why}", config.display()))?;
        // A corpus that the user packed stays where it is; everything else was packed into the run folder.
        let open = |name: &str, data: &[std::path::PathBuf]| {
            let own = folder.join(name);
            let path = match data {
                [one] if !own.exists() && Pack::is_pack(one) => one.clone(),
                _ => own,
            };
            Pack::open(&path).map_err(|error| error.to_string())
        };
        let corpus = open("corpus.pack", &config.data.train)?;
        let (find, held_out) = if config.data.val.is_empty() {
            (texts(&corpus, Some(Split::Train)), texts(&corpus, Some(Split::Validation)))
        } else {
            (texts(&corpus, None), texts(&open("val.pack", &config.data.val)?, None))
        };
        if held_out.is_empty() {
            return Err("the run has no validation tunes".into());
        }
        let origin = format!("the training and the validation tunes of {}", folder.display());
        Ok(RankingTunes { find, held_out, origin })
    }

    /// Tunes of a packed corpus: every third is held out.
    pub fn of_pack(pack: &Pack, origin: String) -> RankingTunes {
        RankingTunes::thirds(texts(pack, None), origin)
    }

    /// The built-in tunebook: every third tune is held out.
    pub fn built_in() -> RankingTunes {
        RankingTunes::thirds(tunes_of(BUILT_IN), "the built-in tunebook".into())
    }

    fn thirds(tunes: Vec<String>, origin: String) -> RankingTunes {
        let (mut find, mut held_out) = (Vec::new(), Vec::new());
        for (at, tune) in tunes.into_iter().enumerate() {
            if at % 3 == 2 { held_out.push(tune) } else { find.push(tune) }
        }
        RankingTunes { find, held_out, origin: format!("{origin}, every third tune held out") }
    }
}

/// Tunes of a part, evenly spaced where there are many.
fn texts(pack: &Pack, split: Option<Split>) -> Vec<String> {
    let tunes = pack.tunes_of(split);
    let step = tunes.len().div_ceil(MOST).max(1);
    tunes.iter().step_by(step).map(|&tune| pack.text(tune as usize)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_tune_is_on_both_sides() {
        let tunes = RankingTunes::built_in();
        assert!(tunes.held_out.len() > 20 && tunes.find.len() > 2 * tunes.held_out.len() - 3);
        assert!(tunes.held_out.iter().all(|tune| !tunes.find.contains(tune)));
        let pack = Pack::from_texts(&["a", "b", "c", "d"], true).unwrap();
        let tunes = RankingTunes::of_pack(&pack, "here".into());
        assert_eq!((tunes.find.join(""), tunes.held_out.join("")), ("abd".into(), "c".into()));
        assert_eq!(tunes.origin, "here, every third tune held out");
    }

    #[test]
    fn a_file_that_lies_in_no_run() {
        let folder = tempfile::tempdir().unwrap();
        let why = RankingTunes::of_run(&folder.path().join("m.safetensors")).unwrap_err();
        assert!(why.contains("no run folder"), "{why}");
    }
}
