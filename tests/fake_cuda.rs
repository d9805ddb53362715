//! The driver over CUDA's own libraries, against fakes of them (`fake_cuda/`): a libcuda that does its work as late as
//! CUDA may, a libcublasLt of three loops and a libcudnn, compiled here and put first in LD_LIBRARY_PATH of a process of
//! its own.
//! What is tested is our side: order and lifetimes of calls, captures, row-major products, errors in words.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use songrnn_fast::engine::Precision;
#[cfg(feature = "cust")]
use songrnn_fast::engine::cuda::driver::cust::CustDriver;
use songrnn_fast::engine::cuda::driver::real::{RealDriver, devices};
use songrnn_fast::engine::cuda::driver::{
    Buffer, Driver, DriverError, Event, Form, Graph, Launch, Pinned, Product,
};
use songrnn_fast::engine::cuda::images;

const SCENARIO: &str = "FAKE_CUDA_SCENARIO";

const CUDNN_SELFTEST: &str = "cudnn_selftest";

fn compile(compiler: &str, output: &Path) -> Command {
    let mut cc = Command::new(compiler);
    cc.args(["-std=c11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-o"]).arg(output);
    cc
}

fn finish(mut cc: Command) {
    let output = cc.args(["-lm", "-ldl", "-lpthread"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The folder with the fake libraries; None where there is no C compiler.
fn libraries() -> Option<&'static PathBuf> {
    static FOLDER: OnceLock<Option<(tempfile::TempDir, PathBuf)>> = OnceLock::new();
    let built = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fake_cuda");
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
        if Command::new(&compiler).arg("--version").output().is_err() {
            return None;
        }
        let libraries: [(&str, &[&str]); 3] = [
            ("libcuda.so.1", &["cuda.c"]),
            ("libcublasLt.so.13", &["cublaslt.c"]),
            ("libcudnn.so.9", &["cudnn.c", "cudnn_rnn.c", "cudnn_cells.c"]),
        ];
        for (name, files) in libraries {
            let mut cc = compile(&compiler, &folder.path().join(name));
            cc.args(["-shared", "-fPIC"]).arg(format!("-Wl,-soname,{name}"));
            cc.args(files.iter().map(|file| source.join(file)));
            if name != "libcuda.so.1" {
                cc.arg(folder.path().join("libcuda.so.1"));
            }
            finish(cc);
        }
        let mut cc = compile(&compiler, &folder.path().join(CUDNN_SELFTEST));
        cc.arg(source.join("cudnn_selftest.c"));
        cc.args(["libcudnn.so.9", "libcuda.so.1"].map(|name| folder.path().join(name)));
        finish(cc);
        let path = folder.path().to_path_buf();
        Some((folder, path))
    });
    built.as_ref().map(|(_, path)| path)
}

/// Runs `in_a_process_of_its_own` with a scenario and settings of the fakes; they must find nothing to complain of.
fn run(scenario: &str, settings: &[(&str, &str)]) {
    if images::built().is_err() {
        eprintln!("SKIP: this build has no kernels, so no device can be opened");
        return;
    }
    let Some(folder) = libraries() else {
        eprintln!("SKIP: no C compiler");
        return;
    };
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "in_a_process_of_its_own", "--ignored", "--nocapture"])
        .env("LD_LIBRARY_PATH", folder)
        .env(SCENARIO, scenario)
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{scenario}: {text}");
    assert!(text.contains("1 passed"), "{scenario} did not run: {text}");
    assert!(!text.contains("fake cuda:") && !text.contains("fake cudnn:"), "{scenario}: {text}");
}

#[test]
fn the_whole_driver() {
    run("whole", &[]);
}

#[test]
fn products_are_row_major_and_exact() {
    run("products", &[]);
}

#[test]
fn captures() {
    run("captures", &[]);
}

#[test]
fn a_library_that_computes_something_else_is_not_used() {
    run("wrong library", &[("FAKE_BLAS_WRONG", "tf32")]);
    run("wrong library", &[("FAKE_BLAS_WRONG", "transposed")]);
}

#[test]
fn devices_that_cannot_be_used_are_refused_in_words() {
    run("old driver", &[("FAKE_CUDA_DRIVER", "12040")]);
    run("no device", &[("FAKE_CUDA_DEVICES", "0")]);
    run("old device", &[("FAKE_CUDA_CAPABILITY", "7.5")]);
    run("two devices", &[("FAKE_CUDA_DEVICES", "2"), ("FAKE_CUDA_CAPABILITY", "8.6")]);
}

#[test]
fn memory_runs_out() {
    run("little memory", &[("FAKE_CUDA_MEMORY", "50000000")]);
    // Not even the library's workspace: then it is not used.
    run("tiny memory", &[("FAKE_CUDA_MEMORY", "1000000")]);
}

#[test]
fn every_failing_call_of_opening_gives_everything_back() {
    for (call, number) in [
        ("cuCtxSetCurrent", 1),
        ("cuDeviceGetName", 1),
        ("cuDevicePrimaryCtxRetain", 1),
        ("cuStreamCreate", 1),
        ("cuModuleLoadDataEx", 1),
        ("cuModuleLoadDataEx", 2),
        ("cuStreamSynchronize", 200),
    ] {
        run("opening fails", &[("FAKE_CUDA_FAIL", &format!("{call}:{number}:1"))]);
    }
}

#[test]
fn a_broken_device_says_that_it_must_be_reopened() {
    run("breaks", &[("FAKE_CUDA_FAIL", "cuMemcpyDtoDAsync_v2:2:700")]);
}

/// The fake cuDNN by itself: equations, gradients against finite differences, rounding, statuses; and that it says so
/// when it is misused, or made to take gates for each other's.
#[test]
fn the_fake_cudnn_can_be_trusted() {
    let Some(folder) = libraries() else {
        eprintln!("SKIP: no C compiler");
        return;
    };
    for (argument, wrong, expected) in
        [("all", "", Some(0)), ("misuse", "", Some(0)), ("all", "gates", Some(1))]
    {
        let output = Command::new(folder.join(CUDNN_SELFTEST))
            .arg(argument)
            .env("LD_LIBRARY_PATH", folder)
            .env("FAKE_CUDNN_WRONG", wrong)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), expected, "{argument} {wrong}: {text}");
        let complaints = text.lines().filter(|line| line.starts_with("fake cudnn: ")).count();
        assert_eq!(complaints, if argument == "misuse" { 8 } else { 0 }, "{argument} {wrong}: {text}");
    }
}

/// The same over the `cust` crate, which links libcuda: see scripts/check-cust.sh.
#[cfg(feature = "cust")]
#[test]
fn cust_does_the_same() {
    for scenario in ["whole", "captures", "cust"] {
        run(scenario, &[("FAKE_CUDA_CUST", "1")]);
    }
}

#[test]
#[ignore = "started by the other tests, with the fake libraries"]
fn in_a_process_of_its_own() {
    let Ok(scenario) = std::env::var(SCENARIO) else { return };
    match scenario.as_str() {
        "whole" => whole(),
        "products" => products(),
        "captures" => captures_inside(),
        "wrong library" => {
            let driver = RealDriver::open(0).unwrap();
            let (_, why) = driver.facts().libraries.iter().find(|(name, _)| name == "cuBLASLt").unwrap();
            assert!(why.contains("not used: product") && why.contains("relative squared error"), "{why}");
            assert_eq!(driver.product(&square(16), 256, 256, 256), Ok(false));
        }
        "old driver" => refused(0, &["CUDA 12.4", "CUDA 13.0", "580"]),
        "no device" => refused(0, &["no device"]),
        "old device" => refused(0, &["7.5"]),
        "two devices" => {
            refused(2, &["CUDA device 2", "0 to 1"]);
            let facts = devices().unwrap();
            assert_eq!(facts.len(), 2);
            assert_eq!((facts[1].capability, facts[1].max_cluster), ((8, 6), 0));
            assert_eq!(facts[1].name, "Fake device 1");
            let driver = RealDriver::open(1).unwrap();
            let launch =
                Launch { kernel: "k", grid: [2, 1, 1], threads: 32, cluster: 2, shared: 0, params: &[0; 8] };
            assert_eq!(driver.active_clusters(&launch), Ok(0));
        }
        "little memory" => {
            let driver = open();
            let _most = Buffer::new(&driver, 10_000_000).unwrap();
            let Err(DriverError::OutOfMemory { needed, available, total }) = driver.allocate(20_000_000)
            else {
                panic!("allocated")
            };
            assert_eq!((needed, total), (20_000_000, 50_000_000));
            assert!(available < 10_000_000);
        }
        "tiny memory" => {
            let driver = open();
            let (_, why) = &driver.facts().libraries[1];
            assert!(why.contains("not used: out of device memory"), "{why}");
        }
        "opening fails" => {
            let Err(error) = RealDriver::open(0) else { return }; // the call's number was never reached
            assert!(error.to_string().contains("CUDA_ERROR_INVALID_VALUE, invalid argument"), "{error}");
            // What was open has been given back (else the fake says so), and all is as before.
            assert!(RealDriver::open(0).is_ok());
        }
        "breaks" => {
            let driver = open();
            let buffer = Buffer::zeroed(&driver, 64).unwrap();
            driver.copy(buffer.at(), buffer.at() + 32, 32).unwrap();
            for attempt in 0..2 {
                let error = driver.copy(buffer.at(), buffer.at() + 32, 32).unwrap_err().to_string();
                let wanted = ["ILLEGAL_ADDRESS", "must be reopened", "illegal memory access"];
                assert!(wanted.iter().all(|word| error.contains(word)), "{attempt}: {error}");
            }
            assert!(buffer.read::<u8>(0, 1).is_err());
            drop(buffer);
            drop(driver);
            assert!(RealDriver::open(0).is_ok());
        }
        #[cfg(feature = "cust")]
        "cust" => {
            let driver = open();
            let launch =
                Launch { kernel: "k", grid: [2, 1, 1], threads: 32, cluster: 2, shared: 0, params: &[0; 8] };
            assert_eq!(driver.active_clusters(&launch), Ok(0));
            assert!(driver.launch(&launch).unwrap_err().to_string().contains("cannot launch clusters"));
            let error =
                driver.launch(&Launch { kernel: "no_such", cluster: 1, ..launch }).unwrap_err().to_string();
            assert!(error.contains("no kernel of this name"), "{error}");
            let error =
                driver.launch(&Launch { threads: 2048, cluster: 1, ..launch }).unwrap_err().to_string();
            assert!(error.contains("CUDA_ERROR_INVALID_VALUE, invalid argument"), "{error}");
            assert_eq!(driver.product(&square(16), 256, 256, 256), Ok(false));
            assert!(matches!(
                driver.allocate(1 << 40),
                Err(DriverError::OutOfMemory { total: 0x4000_0000, .. })
            ));
            assert!(matches!(CustDriver::open(1), Err(DriverError::Missing(_))));
            assert_eq!(songrnn_fast::engine::cuda::driver::cust::devices().unwrap()[0], *driver.facts());
        }
        other => panic!("no scenario {other}"),
    }
}

fn over_cust() -> bool {
    std::env::var_os("FAKE_CUDA_CUST").is_some()
}

fn open() -> Arc<dyn Driver> {
    #[cfg(feature = "cust")]
    if over_cust() {
        return Arc::new(CustDriver::open(0).unwrap());
    }
    Arc::new(RealDriver::open(0).unwrap())
}

fn refused(ordinal: usize, words: &[&str]) {
    let Err(DriverError::Missing(why)) = RealDriver::open(ordinal) else { panic!("opened") };
    assert!(words.iter().all(|word| why.contains(word)), "{why}");
}

fn whole() {
    let driver = open();
    let facts = driver.facts();
    assert_eq!(
        (facts.name.as_str(), facts.capability, facts.cuda.as_str()),
        ("Fake device 0", (9, 0), "13.0")
    );
    assert_eq!((facts.multiprocessors, facts.shared_per_block, facts.memory), (132, 232_448, 1 << 30));
    if !over_cust() {
        assert_eq!(facts.max_cluster, 16);
        assert_eq!(facts.libraries[1], ("cuBLASLt".into(), "13.1.0".into()));
    }

    // An upload's source may go away at once, although the fake copies only when it must.
    let buffer = Buffer::new(&driver, 1024).unwrap();
    assert_eq!(buffer.at() % 256, 0);
    buffer.write(&vec![1u32; 256]).unwrap();
    driver.zero(buffer.at() + 16, 16).unwrap();
    driver.copy(buffer.at() + 512, buffer.at(), 512).unwrap();
    assert_eq!(buffer.read::<u32>(129, 6).unwrap(), [1, 1, 1, 0, 0, 0]);
    assert!(driver.copy(buffer.at() + 768, buffer.at(), 512).is_err());

    // Pinned memory and events, from another thread too.
    let mut pinned = Pinned::new(&driver, 64).unwrap();
    pinned.bytes_mut().copy_from_slice(&[5; 64]);
    let start = Event::record(&driver).unwrap();
    pinned.enqueue_upload(buffer.at(), 16).unwrap();
    pinned.enqueue_download(16, buffer.at() + 8, 16).unwrap();
    let end = Event::record(&driver).unwrap();
    assert!(end.since(&start).is_err(), "neither has passed");
    std::thread::scope(|scope| scope.spawn(|| end.wait().unwrap()).join().unwrap());
    assert_eq!(pinned.bytes()[16..32], [5, 5, 5, 5, 5, 5, 5, 5, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(end.since(&start).unwrap() >= 0.0);
    // Dropped with a copy under way: dropping waits.
    pinned.enqueue_download(0, buffer.at(), 64).unwrap();
    drop(pinned);

    // Kernels: in the fake every name but `no_such` is one, with 8 bytes of parameters.
    let launch =
        Launch { kernel: "some", grid: [32, 2, 1], threads: 128, cluster: 1, shared: 0, params: &[0; 8] };
    driver.launch(&launch).unwrap();
    driver.launch(&Launch { shared: 232_448, ..launch }).unwrap();
    assert_eq!(driver.active_clusters(&launch), Ok(16 * 132));
    assert_eq!(driver.active_clusters(&Launch { shared: 100_000, ..launch }), Ok(2 * 132));
    if over_cust() {
        return;
    }
    driver.launch(&Launch { cluster: 8, ..launch }).unwrap();
    driver.launch(&Launch { cluster: 16, ..launch }).unwrap();
    assert_eq!(driver.active_clusters(&Launch { cluster: 16, shared: 200_000, ..launch }), Ok(8));
    assert_eq!(driver.active_clusters(&Launch { cluster: 32, ..launch }), Ok(0));
    assert_eq!(driver.active_clusters(&Launch { cluster: 3, ..launch }), Ok(0));
    assert_eq!(driver.active_clusters(&Launch { shared: 300_000, ..launch }), Ok(0));
    for (wrong, word) in [
        (Launch { params: &[0; 16], ..launch }, "8 bytes, not 16"),
        (Launch { kernel: "no_such", ..launch }, "no kernel of this name"),
        (Launch { shared: 232_449, ..launch }, "232449 bytes of shared memory for some"),
        (Launch { cluster: 3, ..launch }, "CUDA_ERROR_INVALID_CLUSTER_SIZE, cluster misconfiguration"),
        (Launch { threads: 2048, ..launch }, "grid [32, 2, 1], 2048 threads"),
    ] {
        let error = driver.launch(&wrong).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

fn square(size: u32) -> Product {
    Product {
        form: Form::Nn,
        precision: Precision::F32,
        c_float: true,
        m: size,
        n: size,
        k: size,
        lda: size,
        ldb: size,
        ldc: size,
    }
}

fn products() {
    let driver = open();
    // [[1, 2], [3, 4]] [[5, 6], [7, 8]], by hand; rows 4 elements apart.
    let a = Buffer::zeroed(&driver, 64).unwrap();
    let b = Buffer::zeroed(&driver, 64).unwrap();
    let c = Buffer::zeroed(&driver, 64).unwrap();
    a.write(&[1f32, 2., 0., 0., 3., 4.]).unwrap();
    b.write(&[5f32, 6., 0., 0., 7., 8.]).unwrap();
    let product = Product { lda: 4, ldb: 4, ldc: 4, ..square(2) };
    for (form, expected) in [
        (Form::Nn, [19f32, 22., 0., 0., 43., 50.]),
        (Form::Nt, [17., 23., 0., 0., 39., 53.]),
        (Form::Tn, [26., 30., 0., 0., 38., 44.]),
    ] {
        let product = Product { form, ..product };
        // The first time while a capture is under way, so that the plan is made within.
        let graph = Graph::capture::<DriverError>(&driver, || {
            assert!(driver.product(&product, a.at(), b.at(), c.at())?);
            Ok(())
        })
        .unwrap();
        graph.launch().unwrap();
        assert_eq!(c.read::<f32>(0, 6).unwrap(), expected);
        driver.zero(c.at(), 64).unwrap();
        assert_eq!(driver.product(&product, a.at(), b.at(), c.at()), Ok(true));
        assert_eq!(c.read::<f32>(0, 6).unwrap(), expected);
    }
    // Not served: a misaligned operand; a leading dimension that is too small (twice: the refusal is remembered).
    assert_eq!(driver.product(&product, a.at() + 4, b.at(), c.at()), Ok(false));
    for _ in 0..2 {
        let bad = Product { lda: 1, ..product };
        assert!(!matches!(driver.product(&bad, a.at(), b.at(), c.at()), Ok(true)));
    }
}

fn captures_inside() {
    let driver = open();
    let buffer = Buffer::zeroed(&driver, 64).unwrap();
    let pinned = Pinned::new(&driver, 64).unwrap();

    // What cannot be captured is refused, and the capture ends.
    let refusals: [&dyn Fn() -> Result<(), DriverError>; 5] = [
        &|| buffer.write(&[1u32]),
        &|| buffer.read::<u32>(0, 1).map(drop),
        &|| Event::record(&driver).map(drop),
        &|| driver.begin_capture(),
        &|| Graph::capture(&driver, || Ok::<(), DriverError>(())).map(drop),
    ];
    for refusal in &refusals[..4] {
        let error = Graph::capture(&driver, refusal).err().unwrap().to_string();
        assert!(error.contains("cannot be part of a captured graph"), "{error}");
    }

    // Nothing happens while it is captured, everything each time it is launched; memory may come and go, a kernel may be
    // used for the first time.
    buffer.write(&[1u8; 64]).unwrap();
    let launch =
        Launch { kernel: "new", grid: [8, 1, 1], threads: 32, cluster: 1, shared: 99_999, params: &[0; 8] };
    let graph = Graph::capture::<DriverError>(&driver, || {
        let other = Buffer::new(&driver, 1 << 20)?;
        let other_pinned = Pinned::new(&driver, 16)?;
        driver.launch(&launch)?;
        driver.zero(buffer.at(), 8)?;
        driver.copy(buffer.at() + 8, buffer.at() + 4, 8)?;
        pinned.enqueue_download(0, buffer.at(), 24)?;
        drop((other, other_pinned));
        Ok(())
    })
    .unwrap();
    assert_eq!(buffer.read::<u8>(0, 24).unwrap(), [1; 24]);
    let expected: Vec<u8> = [[0u8; 12], [1; 12]].concat();
    for _ in 0..2 {
        graph.launch().unwrap();
        Event::record(&driver).unwrap().wait().unwrap();
        assert_eq!(pinned.bytes()[..24], expected);
        buffer.write(&[1u8; 24]).unwrap();
    }
    let id = driver.record().unwrap();
    driver.release_event(id);
    assert!(driver.wait(id).is_err(), "released");
    // Released with launches under way.
    graph.launch().unwrap();
    drop(graph);
    assert_eq!(buffer.read::<u8>(0, 12).unwrap(), [0; 12]);
}
