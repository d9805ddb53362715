use super::*;

#[test]
fn the_papers_grid() {
    let grid = Grid::paper();
    assert_eq!(grid.check(), Ok(()));
    let keys: Vec<String> = grid.variants().iter().map(Variant::key).collect();
    let expected = [
        "lstm-1x150",
        "gru-1x150",
        "rnn-1x150",
        "lstm-1x50",
        "lstm-1x100",
        "lstm-1x200",
        "lstm-1x250",
        "lstm-2x150",
        "lstm-3x150",
        "lstm-1x150-dropout0.1",
        "lstm-1x150-dropout0.2",
        "lstm-1x150-dropout0.3",
    ];
    assert_eq!(keys, expected);
    assert_eq!(grid.jobs().len(), 2 * 12 * 3, "a shared variant is trained once");
    let experiments = grid.experiments();
    let sizes: Vec<(&str, usize)> = experiments.iter().map(|e| (e.name.as_str(), e.variants.len())).collect();
    assert_eq!(sizes, [("cell", 3), ("units", 5), ("layers", 3), ("dropout", 4)]);
    assert!(experiments.iter().all(|e| e.baseline == BASELINE && e.variants.contains(&BASELINE)));
    let quick = Grid::quick();
    assert!(quick.quick && quick.seeds == [1, 2] && quick.epochs < grid.epochs);
    assert_eq!((quick.assignment_epochs, &quick.assignment_seeds[..]), (100, &[1][..]));
    assert_eq!(quick.experiments, grid.experiments, "every experiment is still there");
    assert_eq!(quick.check(), Ok(()));
}

#[test]
fn toml_gives_back_every_grid() {
    let mut odd = Grid::paper();
    odd.lr = 0.1 + 0.2;
    odd.patience = 0;
    odd.experiments[0].title = "a \"title\"\nwith <b> and ü".into();
    odd.baseline.dropout = 0.25;
    for grid in [Grid::paper(), Grid::quick(), odd] {
        let text = grid.to_toml().unwrap();
        assert_eq!(Grid::from_toml(&text).unwrap(), grid, "{text}");
    }
    assert_eq!(Grid::from_toml("").unwrap(), Grid::paper());
}

#[test]
fn one_value_or_a_list_and_the_product_of_lists() {
    let text = "seeds = [7]\nprotocols = ['contract']\nepochs = 3\n\
                [[experiment]]\nname = 'big'\ntitle = 'GRU against LSTM, 3x512'\ncell = ['lstm', 'gru']\nhidden = 512\nlayers = 3\n\
                [[experiment]]\nname = 'drop'\nhidden = 256\nlayers = 2\ndropout = [0, 0.25, 0.5]\n\
                [[experiment]]\nname = 'product'\ncell = 'rnn'\nhidden = [10, 20]\nlayers = [1, 2]\n";
    let grid = Grid::from_toml(text).unwrap();
    let keys =
        |at: usize| -> Vec<String> { grid.experiments[at].variants().iter().map(Variant::key).collect() };
    assert_eq!(keys(0), ["lstm-3x512", "gru-3x512"]);
    assert_eq!(keys(1), ["lstm-2x256", "lstm-2x256-dropout0.25", "lstm-2x256-dropout0.5"]);
    assert_eq!(keys(2), ["rnn-1x10", "rnn-2x10", "rnn-1x20", "rnn-2x20"]);
    assert_eq!(
        grid.experiments()[0].baseline.key(),
        "lstm-3x512",
        "the first where the study's is not among them"
    );
    assert_eq!(grid.experiments[1].title, "drop");
    assert_eq!(grid.assignment_seeds, [7], "the same seeds where nothing else is said");
    assert_eq!((grid.epochs, grid.batch), (3, 32), "what is left out is the paper's");
    // The paper's experiments around another baseline.
    let around = Grid::from_toml("[baseline]\ncell = 'gru'\nhidden = 200\n").unwrap();
    assert_eq!(around.experiments()[2].variants[1].key(), "gru-2x200");
}

#[test]
fn what_cannot_be_is_refused_by_name_and_place() {
    let experiment = |line: &str| format!("\n[[experiment]]\nname = 'a'\n{line}\n");
    let cases = [
        ("epoch = 3".to_string(), "epoch"),
        ("epochs = -3".into(), "line 1"),
        ("epochs = 0".into(), "epochs 0: expected 1 to"),
        ("seq_len = 0".into(), "seq_len 0"),
        ("lr = nan".into(), "lr NaN"),
        ("lr = 'fast'".into(), "line 1"),
        ("clip = -1.0".into(), "clip -1"),
        ("batch = 70000".into(), "batch 70000"),
        ("seeds = []".into(), "seeds"),
        ("seeds = [1, 2, 1]".into(), "seeds: 1 stands there twice"),
        ("assignment_seeds = [4, 4]".into(), "assignment_seeds: 4 stands there twice"),
        ("protocols = []".into(), "protocols"),
        ("protocols = ['paper']".into(), "paper"),
        ("assignment_epochs = 0".into(), "assignment_epochs 0"),
        ("precision = 'f64'".into(), "f64"),
        ("experiment = []".into(), "experiment is an empty list"),
        ("[baseline]\nhidden = 0".into(), "[baseline]: hidden 0"),
        ("[baseline]\nunits = 3".into(), "units"),
        (experiment("hidden = [100, 0]"), "line 2, [[experiment]] \"a\": hidden 0: expected 1 to 65536"),
        (experiment("hidden = []"), "hidden is an empty list"),
        (experiment("hidden = 1.5"), "line 4"),
        (experiment("cell = ['lstm', 'transformer']"), "transformer"),
        (experiment("dropout = 1"), "dropout 1"),
        (experiment("dropout = [0.1, 0.1]"), "lstm-1x150-dropout0.1 stands there twice"),
        (experiment("widths = 3"), "widths"),
        (experiment("title = ''"), "title"),
        ("[[experiment]]\nname = '../x'".into(), "it names files"),
        ("[[experiment]]\ncell = 'gru'".into(), "name"),
        ("[[experiment]]\nname = 'a'\n[[experiment]]\nname = 'a'".into(), "two experiments"),
        (
            format!(
                "[[experiment]]\nname = 'a'\nhidden = {:?}\ndropout = [0, 0.5]",
                (1..6000).collect::<Vec<_>>()
            ),
            "at most 10000",
        ),
        ("not toml at all".into(), "line 1"),
    ];
    for (text, expected) in cases {
        let error = Grid::from_toml(&text).unwrap_err();
        assert!(error.contains(expected), "{text}\n-> {error}");
    }
}

#[test]
fn differences_are_named_with_both_values() {
    let has = Grid::paper();
    let asked = Grid { epochs: 7, lr: 1e-3, seeds: vec![9], quick: true, ..Grid::paper() };
    let lines = has.differences(&asked);
    assert_eq!(lines, ["epochs: the study has 40, asked for 7", "lr: the study has 0.002, asked for 0.001"]);
}
