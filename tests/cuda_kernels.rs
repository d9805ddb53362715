//! What the Rust side says of the kernels against what they were compiled with.

mod common;
#[path = "common/device.rs"]
mod device;

use std::fmt::Write as _;

use songrnn_fast::engine::Precision;
use songrnn_fast::engine::cuda::driver::emulated::{EmulatedDriver, Library};
use songrnn_fast::engine::cuda::layout::Layout;
use songrnn_fast::engine::cuda::{params, sampler};
use songrnn_fast::model::{CellKind, ModelShape};

#[test]
fn parameter_structs_have_the_kernels_sizes() {
    let Some(library) = device::library() else { return };
    for (kernel, size) in params::sizes() {
        let info = library.info(kernel).unwrap_or_else(|| panic!("no kernel {kernel}"));
        assert_eq!(info.params, size, "{kernel}");
    }
}

/// (H, CS) of a list in kernels/recurrent_variants.h.
fn listed(header: &str, list: &str) -> Vec<(usize, usize)> {
    let start = header.find(&format!("#define {list}(X)")).unwrap_or_else(|| panic!("no {list}"));
    let lines = header[start..].lines().skip(1);
    let items =
        lines.map(|line| line.trim().trim_end_matches('\\').trim()).take_while(|l| l.starts_with("X("));
    items
        .map(|item| {
            let mut numbers = item.trim_start_matches("X(").split(',').map(|n| n.trim().parse().unwrap());
            (numbers.next().unwrap(), numbers.next().unwrap())
        })
        .collect()
}

/// The table of `src/engine/cuda/rnn/variants.rs`, from the kernels.
fn table(library: &Library) -> String {
    let header = include_str!("../kernels/recurrent_variants.h");
    let mut text = String::from(
        "// Made by `UPDATE_VARIANTS=1 cargo test --test cuda_kernels` from kernels/recurrent_variants.h and the kernels: \
         (H, CS,\n// forward threads and bytes of shared memory, backward threads and bytes).\n",
    );
    for cell in ["lstm", "gru", "rnn"] {
        let upper = cell.to_uppercase();
        writeln!(text, "const {upper}: &[Row] = &[").unwrap();
        for kind in ["BLOCK", "CLUSTER"] {
            let forward = listed(header, &format!("RECURRENT_FORWARD_{upper}_{kind}"));
            assert_eq!(forward, listed(header, &format!("RECURRENT_BACKWARD_{upper}_{kind}")));
            for (units, cluster) in forward {
                let info = |way: &str, precision: &str| {
                    let name = format!("recurrent_{way}_{cell}_{precision}_h{units}_c{cluster}");
                    library.info(&name).unwrap_or_else(|| panic!("no kernel {name}"))
                };
                let (forward, backward) = (info("forward", "bf16"), info("backward", "bf16"));
                assert_eq!((forward, backward), (info("forward", "f16"), info("backward", "f16")));
                writeln!(
                    text,
                    "    ({units}, {cluster}, {}, {}, {}, {}),",
                    forward.threads, forward.shared, backward.threads, backward.shared
                )
                .unwrap();
            }
        }
        text.push_str("];\n");
    }
    text
}

#[test]
fn launch_shapes_are_the_kernels_own() {
    let Some(library) = device::library() else { return };
    let found = table(&library);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/engine/cuda/rnn/variants.rs");
    if std::env::var_os("UPDATE_VARIANTS").is_some() {
        std::fs::write(path, &found).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap();
    assert_eq!(written, found, "run UPDATE_VARIANTS=1 cargo test --test cuda_kernels");
    // Whole tunes in one kernel: recorded for sixteen classes.
    for cell in [CellKind::Lstm, CellKind::Gru, CellKind::Rnn] {
        for hidden in [64, 128, 160] {
            let layout = Layout::new(ModelShape { cell, vocab: 16, hidden, layers: 1 }, hidden);
            let facts = EmulatedDriver::facts_of(9, 0);
            let shape = sampler::persistent(&layout, Precision::F16, &facts).unwrap();
            let info = library.info(&shape.kernel).unwrap_or_else(|| panic!("no kernel {}", shape.kernel));
            assert_eq!(
                (info.threads, info.shared),
                (shape.threads, shape.shared as usize),
                "{}",
                shape.kernel
            );
        }
    }
    for (kernel, shared) in params::shared_memory() {
        assert_eq!(
            library.info(kernel).unwrap_or_else(|| panic!("no kernel {kernel}")).shared,
            shared,
            "{kernel}"
        );
    }
}
