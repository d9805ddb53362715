//! Without a GPU: a refusal in words and no panic. With one: memory, a captured graph, events.

use super::*;
use crate::engine::cuda::driver::{Buffer, Event, Graph, Pinned};
use std::sync::Arc;

/// Device 0; None on a machine without an NVIDIA driver, after checking what is said there.
fn device() -> Option<Arc<dyn Driver>> {
    match RealDriver::open(0) {
        Ok(driver) => Some(Arc::new(driver)),
        Err(DriverError::Missing(why)) => {
            assert!(!why.is_empty());
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn devices_and_open_agree() {
    match devices() {
        Ok(found) => {
            assert!(matches!(RealDriver::open(found.len()), Err(DriverError::Missing(_))));
            for facts in found {
                assert!(!facts.name.is_empty() && facts.multiprocessors > 0 && facts.memory > 0);
                assert!(facts.libraries.iter().any(|(name, _)| name == "cuBLASLt"));
            }
        }
        Err(error) => {
            assert!(matches!(error, DriverError::Missing(_)), "{error}");
            assert!(RealDriver::open(0).is_err());
            // SAFETY: asks only whether the library can be loaded.
            if !unsafe { sys::is_culib_present() } {
                let text = error.to_string();
                assert!(text.contains("was not found") && text.contains("without an NVIDIA card"), "{text}");
            }
        }
    }
}

#[test]
fn memory_graph_and_events() {
    let Some(driver) = device() else { return };
    let first = Event::record(&driver).unwrap();
    let buffer = Buffer::new(&driver, 64).unwrap();
    assert_eq!(buffer.at() % 256, 0);
    buffer.write(&[7u32; 16]).unwrap();
    assert_eq!(buffer.read::<u32>(1, 15).unwrap(), [7; 15]);

    // Captured, not run; then run once for each launch.
    let graph = Graph::capture::<DriverError>(&driver, || driver.zero(buffer.at() + 4, 8)).unwrap();
    assert_eq!(buffer.read::<u32>(0, 4).unwrap(), [7; 4]);
    graph.launch().unwrap();
    assert_eq!(buffer.read::<u32>(0, 4).unwrap(), [7, 0, 0, 7]);
    buffer.write(&[9u32; 16]).unwrap();
    graph.launch().unwrap();
    assert_eq!(buffer.read::<u32>(0, 4).unwrap(), [9, 0, 0, 9]);

    let mut pinned = Pinned::new(&driver, 64).unwrap();
    pinned.bytes_mut()[0] = 3;
    pinned.enqueue_upload(buffer.at(), 4).unwrap();
    pinned.enqueue_download(32, buffer.at(), 4).unwrap();
    let last = Event::record(&driver).unwrap();
    last.wait().unwrap();
    assert_eq!(pinned.bytes()[32..36], [3, 0, 0, 0]);
    assert!(last.since(&first).unwrap() >= 0.0);
}

#[test]
fn a_capture_refuses_what_it_cannot_hold_and_can_be_begun_again() {
    let Some(driver) = device() else { return };
    let buffer = Buffer::zeroed(&driver, 16).unwrap();
    let result = Graph::capture(&driver, || buffer.write(&[1u32; 4]));
    assert!(matches!(result.err(), Some(DriverError::Failed { .. })));
    // Memory may come and go meanwhile.
    let graph = Graph::capture::<DriverError>(&driver, || {
        let other = Buffer::new(&driver, 1 << 20)?;
        driver.copy(buffer.at(), buffer.at() + 8, 8)?;
        drop(other);
        Ok(())
    });
    graph.unwrap().launch().unwrap();
    assert_eq!(buffer.read::<u32>(0, 4).unwrap(), [0; 4]);
}

#[test]
fn errors_say_what_failed() {
    let Some(driver) = device() else { return };
    match driver.allocate(1 << 50) {
        Err(DriverError::OutOfMemory { needed, available, total }) => {
            assert!(needed == 1 << 50 && available <= total && total == driver.facts().memory.max(total));
        }
        other => panic!("{other:?}"),
    }
    let launch = Launch { kernel: "no_such", grid: [1; 3], threads: 32, cluster: 1, shared: 0, params: &[] };
    let error = driver.launch(&launch).unwrap_err().to_string();
    assert!(error.contains("no_such"), "{error}");
    // The refusal has not broken the device.
    assert!(Buffer::zeroed(&driver, 16).is_ok());
}
