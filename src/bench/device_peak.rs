//! What a GPU can do at most: large products through its product library (cuBLASLt), and copying its memory. Both by the
//! device's own clock.

use std::sync::Arc;

use crate::engine::Precision;
use crate::engine::cuda::driver::{Buffer, Driver, DriverError, Event, Form, Product};

/// Sizes of square products: doubled until one takes long enough to fill the device and the clock.
const SIZES: std::ops::RangeInclusive<u32> = 7..=13;

/// Milliseconds after which a product is long enough.
const LONG: f32 = 2.0;

/// Bytes that are copied.
const COPY_BYTES: usize = 256 << 20;

/// Repeats; the best counts.
const REPEATS: usize = 5;

/// GFLOP/s and GB/s (read and written).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DevicePeak {
    /// Of products of a precision, with float sums.
    pub gflops: f64,
    /// Of copying within the device.
    pub copy_gb_s: f64,
}

/// Measures a device; None where it has no product library or no clock worth reading.
pub fn measure(driver: &Arc<dyn Driver>, precision: Precision) -> Result<Option<DevicePeak>, DriverError> {
    if !driver.facts().clock {
        return Ok(None);
    }
    let mut gflops: f64 = 0.0;
    for size in SIZES {
        let Some((ms, rate)) = product(driver, precision, 1 << size)? else { return Ok(None) };
        gflops = gflops.max(rate);
        if ms > LONG {
            break;
        }
    }
    let bytes = COPY_BYTES.min(driver.facts().memory as usize / 16);
    let (from, to) = (filled(driver, bytes)?, Buffer::new(driver, bytes)?);
    let ms = best(driver, || driver.copy(to.at(), from.at(), bytes).map(|()| true))?.unwrap_or(f32::INFINITY);
    Ok(Some(DevicePeak { gflops, copy_gb_s: 2.0 * bytes as f64 / f64::from(ms) / 1e6 }))
}

/// Milliseconds and GFLOP/s of an [n, n, n] product; None where no library serves it.
fn product(
    driver: &Arc<dyn Driver>,
    precision: Precision,
    n: u32,
) -> Result<Option<(f32, f64)>, DriverError> {
    let size = if precision == Precision::F32 { 4 } else { 2 };
    let bytes = n as usize * n as usize * size;
    let (a, b, c) = (filled(driver, bytes)?, filled(driver, bytes)?, Buffer::new(driver, bytes)?);
    let c_float = precision == Precision::F32;
    let of = Product { form: Form::Nt, precision, c_float, m: n, n, k: n, lda: n, ldb: n, ldc: n };
    let ms = best(driver, || driver.product(&of, a.at(), b.at(), c.at()))?;
    Ok(ms.map(|ms| (ms, 2.0 * f64::from(n).powi(3) / f64::from(ms) / 1e6)))
}

/// The least milliseconds of some work after a warm-up; None where it says that it did nothing.
fn best(
    driver: &Arc<dyn Driver>,
    mut work: impl FnMut() -> Result<bool, DriverError>,
) -> Result<Option<f32>, DriverError> {
    let mut least = f32::INFINITY;
    for repeat in 0..=REPEATS {
        let begun = Event::record(driver)?;
        if !work()? {
            return Ok(None);
        }
        let ended = Event::record(driver)?;
        ended.wait()?;
        if repeat > 0 {
            least = least.min(ended.since(&begun)?);
        }
    }
    // A clock that stands still measures nothing.
    Ok((least > 0.0 && least.is_finite()).then_some(least))
}

/// Memory full of small numbers in any format: products of zeros draw less power and run faster than real ones.
fn filled(driver: &Arc<dyn Driver>, bytes: usize) -> Result<Buffer, DriverError> {
    let buffer = Buffer::new(driver, bytes)?;
    let mut state = 1u32;
    let pattern: Vec<u16> = (0..bytes.min(1 << 16) / 2)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Between 0.06 and 0.12 as f16, smaller as bf16 and as the upper half of an f32, either sign.
            0x2c00 | (state >> 16 & 0x83ff) as u16
        })
        .collect();
    buffer.write(&pattern)?;
    let mut done = 2 * pattern.len();
    while done < bytes {
        let more = done.min(bytes - done);
        driver.copy(buffer.at() + done as u64, buffer.at(), more)?;
        done += more;
    }
    Ok(buffer)
}
