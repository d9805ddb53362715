//! Needs the library and no device: it must take our descriptions of data and states.

use super::descriptors::{DataDescriptor, TensorDescriptor};
use crate::engine::Precision;
use crate::engine::cuda::driver::real::library::dnn_version;

#[test]
fn the_library_takes_our_descriptions() {
    let Ok(version) = dnn_version() else { return };
    assert!(version.starts_with("9."), "{version}");
    for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
        DataDescriptor::new(precision, &[7, 7, 7], 96).unwrap();
        DataDescriptor::new(precision, &[9, 4, 1], 150).unwrap();
        let tensor = TensorDescriptor::new(precision, [2, 3, 150]).unwrap();
        tensor.expect("a state", 2 * 3 * 150).unwrap();
        assert!(tensor.expect("a state", 7).is_err());
        // Rising lengths are not packed sequences.
        assert!(DataDescriptor::new(precision, &[], 150).is_err());
    }
}
