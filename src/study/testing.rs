//! Studies made up for tests: a full one with numbers near published ones, and hostile ones.

use super::results::*;
use crate::abc::CharClass;
use crate::model::CellKind;

/// LSTM 1x150 without dropout.
pub fn base() -> Variant {
    Variant { cell: CellKind::Lstm, hidden: 150, layers: 1, dropout: 0.0 }
}

/// Uniform noise between -1 and 1, from a state.
pub fn noise(state: &mut u64) -> f64 {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// The paper's four experiments.
pub fn experiments() -> Vec<Experiment> {
    let make = |name: &str, title: &str, variants: Vec<Variant>| Experiment {
        name: name.into(),
        title: title.into(),
        variants,
        baseline: base(),
    };
    let cells = [CellKind::Rnn, CellKind::Gru, CellKind::Lstm];
    vec![
        make("cell", "RNN and GRU against LSTM", cells.map(|cell| Variant { cell, ..base() }).to_vec()),
        make("units", "Units", [50, 100, 150, 200, 250].map(|hidden| Variant { hidden, ..base() }).to_vec()),
        make("layers", "Layers", [1, 2, 3].map(|layers| Variant { layers, ..base() }).to_vec()),
        make(
            "dropout",
            "Dropout",
            [0.0, 0.1, 0.2, 0.3].map(|dropout| Variant { dropout, ..base() }).to_vec(),
        ),
    ]
}

/// Validation loss that a variant settles at.
pub fn level(variant: &Variant) -> f64 {
    let cell = match variant.cell {
        CellKind::Lstm => 0.0,
        CellKind::Gru => 0.012,
        CellKind::Rnn => 0.31,
    };
    let units = 0.22 * (-(variant.hidden as f64) / 90.0).exp();
    1.63 + cell + units - 0.008 * (variant.layers - 1) as f64 - 0.09 * variant.dropout
}

/// A trial whose losses settle at `level`.
pub fn trial(protocol: Protocol, variant: Variant, seed: u64, level: f64, state: &mut u64) -> Trial {
    let contract = protocol == Protocol::Contract;
    let epochs = if contract { 22 + (noise(state) * 6.0) as u64 } else { 100 };
    let wobble = if contract { 0.004 } else { 0.03 };
    let curve: Vec<CurvePoint> = (1..=epochs)
        .map(|e| {
            let e = e as f64;
            let down = 2.4 * (-e / if contract { 2.5 } else { 9.0 }).exp();
            let up = if contract { 0.004 * (e - 14.0).max(0.0) } else { 0.0 };
            let train = level - 0.25 + down - 0.012 * e.min(25.0) + 1.2 * variant.dropout * 0.4;
            CurvePoint {
                epoch: e,
                train: Some(train + wobble * noise(state)),
                validation: Some(level + down + up + wobble * noise(state)),
            }
        })
        .collect();
    let lowest = |a: &&CurvePoint, b: &&CurvePoint| a.validation.unwrap().total_cmp(&b.validation.unwrap());
    let best = *curve.iter().min_by(lowest).unwrap();
    let nats = best.validation.unwrap();
    let part = |nats: f64, chars, tunes| Some(PartLoss { nats, body_nats: Some(nats - 0.21), chars, tunes });
    let mut class = |(i, &class): (usize, &CharClass)| ClassLoss {
        class,
        nats: nats * [0.4, 1.6, 0.5, 0.9, 1.5, 1.9, 0.8, 0.9, 0.7, 1.0, 1.3, 1.7, 0.3][i]
            + 0.004 * noise(state),
        chars: [4000, 18000, 3000, 6000, 17000, 300, 900, 5500, 3400, 500, 1500, 700, 153][i],
    };
    let classes: Vec<ClassLoss> = CharClass::ALL.iter().enumerate().map(&mut class).collect();
    Trial {
        protocol,
        variant,
        seed,
        parameters: ((variant.hidden * variant.hidden * 4 + variant.hidden * 500) * variant.layers) as u64
            * variant.cell.gates() as u64
            / 4,
        folder: format!("trials/{}-{seed}", variant.key()),
        epochs: epochs as f64,
        best_epoch: best.epoch,
        stopped_early: contract && epochs < 25,
        train: if contract {
            part(nats - 0.4 + 0.5 * variant.dropout + 0.01 * noise(state), 354_000, 805)
        } else {
            None
        },
        validation: if contract {
            part(nats, 63_000, 153)
        } else {
            part(level + 0.008 * noise(state), 67_000, 153)
        },
        test: if contract { part(nats + 0.03 + 0.01 * noise(state), 20_000, 60) } else { None },
        slices: (!contract).then_some(nats + 0.1),
        classes: if contract { classes } else { Vec::new() },
        chars_per_second: 25_000.0 + 500.0 * noise(state),
        seconds: 400.0,
        threads: 1,
        curve,
    }
}

fn measure(key: &str, name: &str, unit: &str, value: f64, error: f64, corpus: Option<f64>) -> Measure {
    Measure {
        key: key.into(),
        name: name.into(),
        unit: unit.into(),
        value: Some(value),
        error: Some(error),
        corpus,
    }
}

fn tune_set(temperature: f64) -> TuneSet {
    let share = |p: f64| (p.clamp(0.0, 1.0), (p.clamp(0.0, 1.0) * (1.0 - p.clamp(0.0, 1.0)) / 60.0).sqrt());
    let of = |key: &str, name: &str, p: f64, corpus| {
        let (value, error) = share(p);
        measure(key, name, "share", value, error, Some(corpus))
    };
    let t = temperature;
    TuneSet {
        temperature,
        tunes: 60,
        folder: None,
        measures: vec![
            of("parses", "parse without an error", 1.08 - 0.4 * t * t * 0.5, 0.68),
            of("closes", "close before the cap", 1.0 - 0.12 * t, 1.0),
            of("bars_filled", "bars filled to the meter", 1.02 - 0.19 * t * t, 0.93),
            of("key_fit", "notes inside the key", 0.99 - 0.1 * t, 0.96),
            of("repeats", "repeats balanced", 0.95 - 0.2 * t, 0.9),
            measure("copied", "longest run copied", "chars", 120.0 * (-t).exp() + 8.0, 3.0, Some(41.0)),
            measure(
                "pitches",
                "pitch-class distance",
                "bits",
                0.02 + 0.05 * (t - 0.8).powi(2),
                0.004,
                Some(0.012),
            ),
            measure("length", "length of a tune", "seconds", 42.0 - 4.0 * t, 2.5, Some(39.0)),
        ],
    }
}

/// A full study with numbers near published ones: three seeds, both protocols, tunes, neurons.
pub fn full() -> Results {
    let mut state = 7;
    let seeds = vec![1, 2, 3];
    let mut trials: Vec<Trial> = Vec::new();
    for experiment in experiments() {
        for variant in experiment.variants {
            for protocol in [Protocol::Contract, Protocol::Assignment] {
                if trials.iter().any(|trial| trial.variant == variant && trial.protocol == protocol) {
                    continue;
                }
                for &seed in &seeds {
                    let level = level(&variant) + 0.006 * noise(&mut state);
                    trials.push(trial(protocol, variant, seed, level, &mut state));
                }
            }
        }
    }
    let ngram = |protocol, of: &str, low: f64| NgramTable {
        protocol,
        of: of.into(),
        nats: [0.98, 0.42, 0.11, 0.0, 0.04, 0.12].map(|more| low + more).to_vec(),
        body_nats: Some([0.9, 0.4, 0.1, 0.01, 0.0, 0.1].map(|more| low - 0.2 + more).to_vec()),
    };
    let neuron = |unit, label: &str, held_out: f64| NeuronScore {
        layer: 0,
        unit,
        kind: "c".into(),
        label: label.into(),
        label_name: label.into(),
        positive: true,
        found: held_out + 0.01,
        held_out,
        control: 0.58,
        mean_on: 0.7,
        mean_off: -0.4,
        sentence: format!("Cell {unit} of layer 1 is high in a {label} and low elsewhere."),
    };
    Results {
        version: "0.1.0".into(),
        commit: Some("0123abc".into()),
        date: "2026-11-25".into(),
        machine: "a processor with 2 cores".into(),
        data: DataFacts {
            train_names: vec!["train.txt".into()],
            val_names: vec!["val.txt".into()],
            test_names: vec!["test.txt".into()],
            train_tunes: 805,
            train_chars: 365_000,
            val_tunes: 153,
            val_chars: 65_000,
            test_tunes: 60,
            test_chars: 20_000,
            vocab: 95,
            header_share: 0.39,
        },
        settings: Settings {
            batch: 32,
            seq_len: 100,
            epochs: 30,
            patience: Some(5),
            lr: 0.002,
            precision: "f32".into(),
            engine: "cpu avx2".into(),
            assignment_epochs: 100,
        },
        seeds,
        quick: false,
        experiments: experiments(),
        trials,
        ngrams: vec![
            ngram(Protocol::Contract, "validation", 1.93),
            ngram(Protocol::Contract, "test", 1.95),
            ngram(Protocol::Assignment, "slices", 2.068),
            ngram(Protocol::Assignment, "validation", 1.997),
        ],
        best: Some((Variant { hidden: 250, ..base() }, 2)),
        tune_sets: [0.3, 0.5, 0.7, 0.85, 1.0, 1.25, 1.5, 2.0].map(tune_set).to_vec(),
        neurons: vec![
            neuron(17, "chord symbol", 0.991),
            neuron(18, "chord symbol", 0.98),
            neuron(3, "header", 0.97),
            neuron(90, "bar line", 0.83),
        ],
    }
}

/// Without the trials that `drop` is true of.
pub fn without(mut results: Results, drop: impl Fn(&Trial) -> bool) -> Results {
    results.trials.retain(|trial| !drop(trial));
    results
}

/// A full study and everything that is likely to break what is said about one.
pub fn all() -> Vec<(&'static str, Results)> {
    let mut hostile = full();
    for experiment in &mut hostile.experiments {
        experiment.title =
            "</text><script>alert(1)</script> [x](javascript:1) | \u{202e}\u{0} & \"'\n\n# x".into();
        experiment.name = "../../etc/<b>\"".into();
    }
    for measure in hostile.tune_sets.iter_mut().flat_map(|set| &mut set.measures) {
        measure.name = format!("<script>{}</script>|", "w".repeat(400));
        measure.unit = "]]>&".into();
    }
    hostile.neurons.iter_mut().for_each(|n| n.sentence = "<img src=x onerror=alert(1)>|`".into());
    hostile.machine = "</svg>".into();
    let mut broken = full();
    for (i, trial) in broken.trials.iter_mut().enumerate() {
        let bad = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e308, -1e308, 0.0][i % 6];
        if i % 2 == 0 {
            trial.validation.iter_mut().chain(trial.train.iter_mut()).for_each(|part| part.nats = bad);
            trial.slices = trial.slices.map(|_| bad);
            trial.curve.iter_mut().step_by(3).for_each(|point| point.validation = Some(bad));
            trial.curve.iter_mut().step_by(4).for_each(|point| point.epoch = bad);
            trial.classes.iter_mut().for_each(|one| (one.nats, one.chars) = (bad, u64::MAX));
            (trial.best_epoch, trial.epochs, trial.chars_per_second) = (bad, bad, bad);
        }
    }
    broken.ngrams[0].nats = vec![f64::NAN; 3];
    broken.ngrams[2].nats.clear();
    for set in &mut broken.tune_sets {
        set.measures[0].value = Some(f64::NAN);
        set.measures[1].error = Some(f64::INFINITY);
        set.measures[2].corpus = Some(f64::NEG_INFINITY);
    }
    broken.tune_sets[0].temperature = f64::NAN;
    broken.neurons[0].held_out = f64::NAN;
    let mut one = without(full(), |trial| trial.seed != 1);
    one.seeds = vec![1];
    one.quick = true;
    let mut empty = full();
    empty.trials.clear();
    empty.ngrams.clear();
    empty.tune_sets.clear();
    empty.neurons.clear();
    empty.best = None;
    let mut nothing = empty.clone();
    nothing.experiments.clear();
    nothing.seeds.clear();
    nothing.data = DataFacts::default();
    let mut grid = full();
    grid.experiments = vec![Experiment {
        name: "all".into(),
        title: String::new(),
        variants: grid.experiments.iter().flat_map(|e| e.variants.clone()).collect(),
        baseline: base(),
    }];
    let mut no_parts = without(full(), |trial| trial.protocol == Protocol::Assignment);
    for trial in &mut no_parts.trials {
        (trial.validation, trial.test) = (None, None);
        trial.curve.iter_mut().for_each(|point| point.validation = None);
        trial.classes.clear();
    }
    let gone = Variant { cell: CellKind::Gru, hidden: 7, layers: 9, dropout: 0.5 };
    let mut strange = full();
    strange.experiments[0].baseline = gone;
    strange.experiments[1].variants.clear();
    strange.best = Some((gone, 5));
    vec![
        ("full", full()),
        ("hostile", hostile),
        ("not finite", broken),
        ("one seed", one),
        ("no trials", empty),
        ("nothing", nothing),
        ("a user's grid", grid),
        ("training loss only", no_parts),
        ("a baseline that was never trained", strange),
        (
            "missing trials",
            without(full(), |t| t.seed == 2 && t.variant.hidden == 200 || t.variant.layers == 3),
        ),
        ("no baseline", without(full(), |trial| trial.variant == base())),
        ("assignment only", without(full(), |trial| trial.protocol == Protocol::Contract)),
        ("contract only", without(full(), |trial| trial.protocol == Protocol::Assignment)),
        ("other seeds", {
            let mut results = full();
            results.trials.iter_mut().filter(|t| t.variant != base()).for_each(|t| t.seed += 100);
            results
        }),
    ]
}
