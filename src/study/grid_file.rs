//! A grid as a TOML file: what is left out is the paper's; what cannot be is refused with its name and place.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::{F64Deserializer, I64Deserializer, StrDeserializer};
use serde::de::{self, Deserializer, IntoDeserializer, SeqAccess, Visitor};
use toml::Spanned;

use super::grid::{BASELINE, Grid, MOST, Varied};
use super::results::{Protocol, Variant};
use crate::config::DataConfig;
use crate::engine::{Device, Precision};
use crate::model::CellKind;

/// The most characters of a title.
const LONGEST_TITLE: usize = 200;

/// The most characters of a name.
const LONGEST_NAME: usize = 40;

/// The file as typed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GridFile {
    quick: Option<bool>,
    protocols: Option<Vec<Protocol>>,
    seeds: Option<Vec<u64>>,
    epochs: Option<u64>,
    patience: Option<u64>,
    batch: Option<usize>,
    seq_len: Option<usize>,
    lr: Option<f64>,
    clip: Option<f64>,
    precision: Option<Precision>,
    assignment_epochs: Option<u64>,
    assignment_seeds: Option<Vec<u64>>,
    baseline: Option<BaselineFile>,
    experiment: Option<Vec<Spanned<ExperimentFile>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BaselineFile {
    cell: Option<CellKind>,
    hidden: Option<usize>,
    layers: Option<usize>,
    dropout: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExperimentFile {
    name: String,
    title: Option<String>,
    cell: Option<List<CellKind>>,
    hidden: Option<List<usize>>,
    layers: Option<List<usize>>,
    dropout: Option<List<f64>>,
}

/// One value, or a list of them.
#[derive(Debug)]
struct List<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<List<T>, D::Error> {
        struct Any<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Any<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value or a list of values")
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<List<T>, E> {
                let one: I64Deserializer<E> = value.into_deserializer();
                Ok(List(vec![T::deserialize(one)?]))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<List<T>, E> {
                let one: F64Deserializer<E> = value.into_deserializer();
                Ok(List(vec![T::deserialize(one)?]))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<List<T>, E> {
                let one: StrDeserializer<'_, E> = value.into_deserializer();
                Ok(List(vec![T::deserialize(one)?]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<List<T>, A::Error> {
                let mut list = Vec::new();
                while let Some(value) = values.next_element()? {
                    list.push(value);
                }
                Ok(List(list))
            }
        }
        deserializer.deserialize_any(Any(PhantomData))
    }
}

/// The list, or the baseline's value where there is none.
fn list<T>(name: &str, asked: Option<List<T>>, otherwise: T) -> Result<Vec<T>, String> {
    match asked {
        None => Ok(vec![otherwise]),
        Some(List(values)) if values.is_empty() => {
            Err(format!("{name} is an empty list; give it a value, or leave it out for the baseline's"))
        }
        Some(List(values)) => Ok(values),
    }
}

impl Grid {
    /// From a TOML file's text. The error names what is wrong and where.
    pub fn from_toml(text: &str) -> Result<Grid, String> {
        let file: GridFile =
            toml::from_str(text).map_err(|error| error.to_string().trim_end().to_string())?;
        let paper = Grid::paper();
        let baseline = match file.baseline {
            None => BASELINE,
            Some(asked) => Variant {
                cell: asked.cell.unwrap_or(BASELINE.cell),
                hidden: asked.hidden.unwrap_or(BASELINE.hidden),
                layers: asked.layers.unwrap_or(BASELINE.layers),
                dropout: asked.dropout.unwrap_or(BASELINE.dropout),
            },
        };
        let seeds = file.seeds.unwrap_or(paper.seeds);
        let mut grid = Grid {
            quick: file.quick.unwrap_or(paper.quick),
            protocols: file.protocols.unwrap_or(paper.protocols),
            assignment_seeds: file.assignment_seeds.unwrap_or_else(|| seeds.clone()),
            seeds,
            epochs: file.epochs.unwrap_or(paper.epochs),
            patience: file.patience.unwrap_or(paper.patience),
            batch: file.batch.unwrap_or(paper.batch),
            seq_len: file.seq_len.unwrap_or(paper.seq_len),
            lr: file.lr.unwrap_or(paper.lr),
            clip: file.clip.unwrap_or(paper.clip),
            precision: file.precision.unwrap_or(paper.precision),
            assignment_epochs: file.assignment_epochs.unwrap_or(paper.assignment_epochs),
            baseline,
            experiments: Grid::papers_experiments(&baseline),
        };
        grid.check_variant(&baseline).map_err(|problem| format!("[baseline]: {problem}"))?;
        if let Some(experiments) = file.experiment {
            grid.experiments.clear();
            for spanned in experiments {
                let line =
                    1 + text.get(..spanned.span().start).map_or(0, |before| before.matches('\n').count());
                let asked = spanned.into_inner();
                let name = asked.name.clone();
                let resolved = grid.resolve(asked);
                let experiment =
                    resolved.map_err(|problem| format!("line {line}, [[experiment]] {name:?}: {problem}"))?;
                grid.experiments.push(experiment);
            }
        }
        grid.check()?;
        Ok(grid)
    }

    /// As TOML text, which [`Grid::from_toml`] reads.
    pub fn to_toml(&self) -> Result<String, String> {
        toml::to_string(self).map_err(|error| format!("the grid cannot be written: {error}"))
    }

    fn resolve(&self, asked: ExperimentFile) -> Result<Varied, String> {
        let base = &self.baseline;
        let experiment = Varied {
            title: asked.title.unwrap_or_else(|| asked.name.clone()),
            cell: list("cell", asked.cell, base.cell)?,
            hidden: list("hidden", asked.hidden, base.hidden)?,
            layers: list("layers", asked.layers, base.layers)?,
            dropout: list("dropout", asked.dropout, base.dropout)?,
            name: asked.name,
        };
        self.check_experiment(&experiment)?;
        Ok(experiment)
    }

    fn check_experiment(&self, experiment: &Varied) -> Result<(), String> {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let name = &experiment.name;
        if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(good) {
            return Err(format!(
                "name {name:?}: expected 1 to {LONGEST_NAME} letters, digits, - and _ (it names files)"
            ));
        }
        let length = experiment.title.chars().count();
        if length == 0 || length > LONGEST_TITLE {
            return Err(format!("title of {length} characters: expected 1 to {LONGEST_TITLE}"));
        }
        let variants = experiment.len();
        if variants > MOST {
            return Err(format!(
                "{variants} variants (every value of a list with every other's): expected at most {MOST}"
            ));
        }
        let all = experiment.variants();
        for (at, variant) in all.iter().enumerate() {
            self.check_variant(variant)?;
            if all[..at].contains(variant) {
                return Err(format!("{} stands there twice", variant.key()));
            }
        }
        Ok(())
    }

    /// Refuses sizes that mean nothing, with the words that a run has for them.
    fn check_variant(&self, variant: &Variant) -> Result<(), String> {
        let config = self.run_config(variant, 1, DataConfig::default(), 1, Device::Cpu);
        config.check().map_err(|problem| as_key(&problem))
    }

    /// Refuses a grid that means nothing, as one sentence.
    pub fn check(&self) -> Result<(), String> {
        if self.protocols.is_empty() {
            return Err("protocols is an empty list: expected \"contract\", \"assignment\" or both".into());
        }
        for (key, seeds) in [("seeds", &self.seeds), ("assignment_seeds", &self.assignment_seeds)] {
            if seeds.is_empty() {
                return Err(format!("{key} is an empty list: expected at least one"));
            }
            for (at, seed) in seeds.iter().enumerate() {
                if *seed > i64::MAX as u64 {
                    return Err(format!("{key}: {seed}: expected 0 to {}", i64::MAX));
                }
                if seeds[..at].contains(seed) {
                    return Err(format!("{key}: {seed} stands there twice"));
                }
            }
        }
        for (at, protocol) in self.protocols.iter().enumerate() {
            if self.protocols[..at].contains(protocol) {
                return Err("protocols: one stands there twice".into());
            }
        }
        if !(1..=1_000_000).contains(&self.assignment_epochs) {
            return Err(format!("assignment_epochs {}: expected 1 to 1000000", self.assignment_epochs));
        }
        if self.experiments.is_empty() {
            return Err("experiment is an empty list: leave it out for the paper's, or give some".into());
        }
        for (at, experiment) in self.experiments.iter().enumerate() {
            let name = &experiment.name;
            self.check_experiment(experiment)
                .map_err(|problem| format!("[[experiment]] {name:?}: {problem}"))?;
            if self.experiments[..at].iter().any(|other| other.name == *name) {
                return Err(format!("two experiments have the name {name:?}: give each its own"));
            }
        }
        let seeds = self.seeds.len().max(self.assignment_seeds.len());
        let trials = self.variants().len().saturating_mul(seeds).saturating_mul(self.protocols.len());
        if trials > MOST {
            return Err(format!("{trials} trials: expected at most {MOST}; take fewer variants or seeds"));
        }
        Ok(())
    }
}

/// `--seq-len 0: expected` -> `seq_len 0: expected`: flags are keys here.
fn as_key(problem: &str) -> String {
    let Some(rest) = problem.strip_prefix("--") else { return problem.into() };
    let end = rest.find(' ').unwrap_or(rest.len());
    rest[..end].replace('-', "_") + &rest[end..]
}
