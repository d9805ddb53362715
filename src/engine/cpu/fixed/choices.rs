//! Logits of many streams, turned so that a stream is a lane.
#![allow(unsafe_code)]

use super::super::short::transpose16;

/// Streams, and classes, that are turned together.
pub const LANES: usize = 16;

/// `to[class * width + stream] = from[stream * stride + class]` for all `to` has room for; sizes are multiples of sixteen.
pub fn transpose(from: &[f32], stride: usize, to: &mut [f32], width: usize) {
    let classes = to.len() / width;
    assert!(width.is_multiple_of(LANES) && classes.is_multiple_of(LANES) && stride >= classes);
    assert!(from.len() >= width * stride && to.len() == classes * width);
    // SAFETY: sizes as asserted; the module runs only where AVX-512 is there.
    unsafe { all(from.as_ptr(), stride, to.as_mut_ptr(), width, classes) }
}

#[target_feature(enable = "avx512f")]
unsafe fn all(from: *const f32, stride: usize, to: *mut f32, width: usize, classes: usize) {
    for stream in (0..width).step_by(LANES) {
        for class in (0..classes).step_by(LANES) {
            // SAFETY: the caller's sizes.
            unsafe {
                transpose16(from.add(stream * stride + class), stride, to.add(class * width + stream), width)
            };
        }
    }
}
