//! Model files: what is written is read back bit for bit, PyTorch's two biases are added, and no damage goes unseen,
//! panics or allocates beyond the file's size.

use std::path::Path;

use proptest::prelude::*;
use serde_json::json;
use songrnn_fast::corpus::Vocab;
use songrnn_fast::model::file::{ModelFile, ModelFileError, ModelProblem, locate};
use songrnn_fast::model::tensors::{TensorError, TensorFile, TensorRef};
use songrnn_fast::model::{CellKind, ModelShape, init};

fn model(cell: CellKind, layers: usize) -> ModelFile {
    let vocab = Vocab::from_chars("X:1\nabcé".chars());
    let shape = ModelShape { cell, vocab: vocab.len(), hidden: 5, layers };
    let mut params = init::uniform(&shape, 7);
    params[3] = -0.0;
    ModelFile { shape, vocab, config: json!({"training": {"lr": 0.002}}), params }
}

fn saved(model: &ModelFile) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    model.save(&path).unwrap();
    (folder, path)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn problem(path: &Path) -> ModelProblem {
    ModelFile::load(path).map(|_| ()).unwrap_err().problem
}

#[test]
fn what_is_written_is_read_back_bit_for_bit() {
    for cell in [CellKind::Lstm, CellKind::Gru, CellKind::Rnn] {
        for layers in [1, 3] {
            let model = model(cell, layers);
            let (_folder, path) = saved(&model);
            let read = ModelFile::load(&path).unwrap();
            assert_eq!(read.shape, model.shape);
            assert_eq!(read.vocab, model.vocab);
            assert_eq!(bits(&read.params), bits(&model.params), "{cell} {layers}");
            assert_eq!(read.config["training"]["lr"], 0.002);
            assert_eq!(read.config["model"]["hidden"], 5);
        }
    }
}

#[test]
fn equal_models_give_equal_bytes() {
    let (_a, a) = saved(&model(CellKind::Lstm, 2));
    let (_b, b) = saved(&model(CellKind::Lstm, 2));
    assert_eq!(std::fs::read(a).unwrap(), std::fs::read(b).unwrap());
}

#[test]
fn the_tensors_are_pytorchs() {
    let model = model(CellKind::Lstm, 2);
    let (_folder, path) = saved(&model);
    let bytes = std::fs::read(&path).unwrap();
    // The crate's own reader, not ours.
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names: Vec<&str> = file.names();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "head.bias",
            "head.weight",
            "rnn.bias_hh_l0",
            "rnn.bias_hh_l1",
            "rnn.bias_ih_l0",
            "rnn.bias_ih_l1",
            "rnn.weight_hh_l0",
            "rnn.weight_hh_l1",
            "rnn.weight_ih_l0",
            "rnn.weight_ih_l1"
        ]
    );
    let v = model.vocab.len();
    assert_eq!(file.tensor("rnn.weight_ih_l0").unwrap().shape(), [20, v]);
    assert_eq!(file.tensor("rnn.weight_ih_l1").unwrap().shape(), [20, 5]);
    assert_eq!(file.tensor("head.weight").unwrap().shape(), [v, 5]);
    assert!(file.tensor("rnn.bias_hh_l0").unwrap().data().iter().all(|&byte| byte == 0));
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = metadata.metadata().clone().unwrap();
    assert_eq!(metadata["format"], "songrnn-fast/1");
    let tokens: Vec<String> = serde_json::from_str(&metadata["vocab"]).unwrap();
    assert_eq!(tokens, model.vocab.tokens());
}

/// Writes a file as another program would: no checksum, what `change` makes of metadata and tensors.
type Parts = (Vec<(&'static str, String)>, Vec<(String, Vec<usize>, Vec<f32>)>);

fn foreign(model: &ModelFile, change: impl FnOnce(&mut Parts)) -> (tempfile::TempDir, std::path::PathBuf) {
    let metadata = vec![
        ("format", "songrnn-fast/1".to_string()),
        ("config", json!({"model": model.shape}).to_string()),
        ("vocab", json!(model.vocab.tokens()).to_string()),
    ];
    let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    for spec in model.shape.tensors() {
        let values = model.params[spec.range].to_vec();
        if let Some(layer) = spec.name.strip_prefix("rnn.bias_ih_l")
            && model.shape.cell != CellKind::Gru
        {
            tensors.push((format!("rnn.bias_hh_l{layer}"), spec.dims.clone(), vec![0.25; values.len()]));
        }
        tensors.push((spec.name, spec.dims, values));
    }
    let mut parts = (metadata, tensors);
    change(&mut parts);
    let views: Vec<(String, safetensors::tensor::TensorView<'_>)> = parts
        .1
        .iter()
        .map(|(name, dims, data)| {
            // A name that ends in "|F16" is written as that type.
            let (name, dtype, width) = match name.strip_suffix("|F16") {
                Some(name) => (name, safetensors::Dtype::F16, 2),
                None => (name.as_str(), safetensors::Dtype::F32, 4),
            };
            let bytes: &'static [u8] = data
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .take(width * data.len())
                .collect::<Vec<u8>>()
                .leak();
            (name.to_string(), safetensors::tensor::TensorView::new(dtype, dims.clone(), bytes).unwrap())
        })
        .collect();
    let metadata = parts.0.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("foreign.safetensors");
    std::fs::write(&path, safetensors::serialize(views, Some(metadata)).unwrap()).unwrap();
    (folder, path)
}

#[test]
fn two_biases_of_a_pytorch_file_are_added() {
    let model = model(CellKind::Lstm, 1);
    let (_folder, path) = foreign(&model, |_| {});
    let read = ModelFile::load(&path).unwrap();
    let bias = model.shape.layer_ranges(0).bias_ih;
    for (i, (a, b)) in read.params.iter().zip(&model.params).enumerate() {
        let expected = if bias.contains(&i) { b + 0.25 } else { *b };
        assert_eq!(*a, expected, "{i}");
    }
}

#[test]
fn every_fault_has_a_name() {
    let model = model(CellKind::Gru, 1);
    let set = |key: &'static str, value: &'static str| {
        move |parts: &mut Parts| parts.0.iter_mut().find(|(k, _)| *k == key).unwrap().1 = value.into()
    };
    let check = |change: Box<dyn FnOnce(&mut Parts)>, good: fn(&ModelProblem) -> bool| {
        let (_folder, path) = foreign(&model, change);
        let problem = problem(&path);
        assert!(good(&problem), "{problem:?}");
    };
    check(Box::new(|p| p.0.clear()), |p| matches!(p, ModelProblem::Foreign { missing: "format", .. }));
    check(Box::new(|p| p.0.retain(|m| m.0 != "vocab")), |p| {
        matches!(p, ModelProblem::Foreign { missing: "vocab", .. })
    });
    check(Box::new(set("format", "songrnn-fast/2")), |p| matches!(p, ModelProblem::Version { .. }));
    check(Box::new(set("config", "{")), |p| matches!(p, ModelProblem::Config(_)));
    check(Box::new(set("config", "{}")), |p| matches!(p, ModelProblem::Config(_)));
    check(Box::new(set("config", r#"{"model":{"cell":"gru","hidden":0,"layers":1}}"#)), |p| {
        matches!(p, ModelProblem::Shape(_))
    });
    check(Box::new(set("config", r#"{"model":{"cell":"gru","hidden":60000,"layers":60}}"#)), |p| {
        matches!(p, ModelProblem::Shape(_))
    });
    check(Box::new(set("config", r#"{"model":{"cell":"gru","hidden":9000,"layers":1}}"#)), |p| {
        matches!(p, ModelProblem::Tensors(TensorError::Dims { .. }))
    });
    check(Box::new(set("vocab", "[1]")), |p| matches!(p, ModelProblem::Vocab(_)));
    check(Box::new(set("vocab", r#"["<start>","<start>"]"#)), |p| matches!(p, ModelProblem::Vocab(_)));
    check(Box::new(set("vocab", r#"["<start>","<end>","a"]"#)), |p| {
        matches!(p, ModelProblem::VocabSize { vocab: 3, .. })
    });
    check(
        Box::new(|p| p.1.retain(|t| t.0 != "rnn.weight_hh_l0")),
        |p| matches!(p, ModelProblem::Tensors(TensorError::Missing { name, .. }) if name == "rnn.weight_hh_l0"),
    );
    check(Box::new(|p| p.1[1].1.reverse()), |p| matches!(p, ModelProblem::Tensors(TensorError::Dims { .. })));
    check(Box::new(|p| p.1[0].0 += "|F16"), |p| matches!(p, ModelProblem::Tensors(TensorError::Type { .. })));
    check(Box::new(|p| p.1[0].2[0] = f32::NAN), |p| matches!(p, ModelProblem::NotFinite { index: 0, .. }));
}

#[test]
fn other_files_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    assert!(matches!(problem(&path), ModelProblem::NotFound));
    assert!(matches!(problem(folder.path()), ModelProblem::Tensors(TensorError::NotAFile)));
    std::fs::write(&path, "").unwrap();
    assert!(matches!(problem(&path), ModelProblem::Tensors(TensorError::NotSafetensors(_))));
    std::fs::write(&path, "X:1\nT:a tune that is no model\nK:G\nGABc|\n").unwrap();
    assert!(matches!(problem(&path), ModelProblem::Tensors(TensorError::NotSafetensors(_))));
    // A header that claims exabytes, and one that claims more tensors' bytes than there are.
    std::fs::write(&path, [u64::MAX.to_le_bytes().as_slice(), b"{}"].concat()).unwrap();
    assert!(matches!(problem(&path), ModelProblem::Tensors(TensorError::NotSafetensors(_))));
    let header = br#"{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}"#;
    std::fs::write(&path, [(header.len() as u64).to_le_bytes().as_slice(), header].concat()).unwrap();
    assert!(matches!(problem(&path), ModelProblem::Tensors(TensorError::Length { .. })));
}

#[test]
fn every_truncation_is_refused() {
    let (_folder, path) = saved(&model(CellKind::Rnn, 1));
    let bytes = std::fs::read(&path).unwrap();
    for length in (0..bytes.len()).step_by(7) {
        std::fs::write(&path, &bytes[..length]).unwrap();
        assert!(matches!(problem(&path), ModelProblem::Tensors(_)), "{length} bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Wherever a bit flips, loading fails or (a bit that means nothing, such as the case of a JSON escape) gives the
    /// same model.
    #[test]
    fn a_flipped_bit_is_never_silent(at in any::<proptest::sample::Index>(), bit in 0..8u32, header in any::<bool>()) {
        let model = model(CellKind::Lstm, 1);
        let (_folder, path) = saved(&model);
        let mut bytes = std::fs::read(&path).unwrap();
        let header_length = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let range = if header { header_length } else { bytes.len() };
        bytes[at.index(range)] ^= 1 << bit;
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(read) = ModelFile::load(&path) {
            prop_assert_eq!(read.shape, model.shape);
            prop_assert_eq!(bits(&read.params), bits(&model.params));
            prop_assert_eq!(read.vocab, model.vocab);
        }
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), claim in 0..400u64) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("garbage");
        std::fs::write(&path, &bytes).unwrap();
        prop_assert!(ModelFile::load(&path).is_err());
        std::fs::write(&path, [claim.to_le_bytes().as_slice(), b"{\"__metadata__\":", &bytes].concat()).unwrap();
        prop_assert!(ModelFile::load(&path).is_err());
    }
}

#[test]
fn further_tensors_are_read_from_a_checkpoint() {
    let model = model(CellKind::Lstm, 1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    let more = [
        TensorRef { name: "state.h".into(), dims: vec![3], data: &[1.0, f32::MIN_POSITIVE / 2.0, -0.0] },
        TensorRef { name: "state.c".into(), dims: vec![0], data: &[] },
    ];
    model.save_with(&path, &[("training".to_string(), "{}".to_string())].into(), &more).unwrap();
    let (read, mut file) = ModelFile::load_with(&path).unwrap();
    assert_eq!(bits(&read.params), bits(&model.params));
    assert_eq!(bits(&file.read("state.h", &[3]).unwrap()), bits(more[0].data));
    assert!(file.read("state.c", &[0]).unwrap().is_empty());
    assert!(matches!(file.read("state.h", &[4]), Err(TensorError::Dims { .. })));
    assert!(TensorFile::open(&path).unwrap().metadata().contains_key("training"));
}

#[test]
fn a_run_folder_gives_its_best_weights_else_its_last() {
    let model = model(CellKind::Rnn, 1);
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("1");
    std::fs::create_dir(&run).unwrap();
    let error: ModelFileError = locate(Some(&run)).unwrap_err();
    assert!(matches!(error.problem, ModelProblem::NoCheckpoint));
    model.save(&run.join("last.safetensors")).unwrap();
    assert_eq!(locate(Some(&run)).unwrap(), run.join("last.safetensors"));
    model.save(&run.join("best.safetensors")).unwrap();
    assert_eq!(locate(Some(&run)).unwrap(), run.join("best.safetensors"));
    assert!(matches!(locate(Some(&folder.path().join("none"))).unwrap_err().problem, ModelProblem::NotFound));
}
