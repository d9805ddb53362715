//! `cargo bench`: the cases of `songrnn-fast bench` under criterion, for comparing two commits: it keeps the last run's
//! times and tells what changed. The processor's cases always; the CUDA ones where there is a GPU and kernels for it.
//!
//! `cargo bench -- lstm` runs the cases whose name holds `lstm`. For figures with their provenance use the program.

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

use songrnn_fast::bench::cases::{Case, Set, Wanted, What};
use songrnn_fast::bench::measure::Session;
use songrnn_fast::engine::{self, Device, Kernel, Precision, check_device};

/// Seconds a case is run before it is measured.
const WARM_UP: f64 = 0.5;

/// The cases of a device.
fn cases(device: Device) -> Vec<Case> {
    let on_gpu = device != Device::Cpu;
    let (sets, kernels, precisions) = if on_gpu {
        (
            vec![Set::A, Set::B, Set::C],
            vec![Kernel::Fused, Kernel::Cudnn, Kernel::Stepwise],
            vec![Precision::F32, Precision::Bf16, Precision::F16],
        )
    } else {
        (vec![Set::Paper, Set::Batch1], vec![Kernel::Auto], vec![Precision::F32, Precision::Bf16])
    };
    let wanted = |what, sets: Vec<Set>| Wanted {
        what,
        sets,
        cells: None,
        hidden: Vec::new(),
        layers: Vec::new(),
        batch: Vec::new(),
        seq_len: Vec::new(),
        vocab: 96,
        precisions: Some(precisions.clone()),
        device,
        kernels: kernels.clone(),
        threads: vec![0],
        tune_starts: 0,
    };
    let mut all = wanted(What::Train, sets).cases();
    all.extend(wanted(What::Layer, vec![Set::A]).cases());
    all.extend(wanted(What::Sample, vec![Set::A]).cases());
    all
}

fn steps(criterion: &mut Criterion) {
    let mut all = cases(Device::Cpu);
    match check_device(Device::Cuda(0), Kernel::Auto) {
        Ok(()) => all.extend(cases(Device::Cuda(0))),
        Err(why) => println!("SKIP the CUDA cases: {why}"),
    }
    let mut group = criterion.benchmark_group("step");
    for case in all {
        let name = format!("{} {} {}", case.describe().replace(", ", " "), case.device, case.kernel.name());
        if let Err(why) = engine::build(&case.spec()) {
            println!("SKIP {name}: {why}");
            continue;
        }
        // Warmed up when it is run: cases that the filter leaves out cost little.
        let mut session: Option<Session> = None;
        group.throughput(criterion::Throughput::Elements(case.characters() as u64));
        group.bench_function(&name, |bencher| {
            let session = session.get_or_insert_with(|| Session::open(&case, WARM_UP).expect("it was built"));
            bencher.iter_custom(|count| {
                let ms = session.run(count as usize).expect("a case that has warmed up runs on");
                Duration::from_secs_f64(ms * count as f64 / 1e3)
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = steps
}
criterion_main!(benches);
