//! Numbers between the host and the device's storage types.

use super::driver::{Buffer, DriverError};
use crate::engine::Precision;

/// `count` values of type E from `offset` values on.
pub fn read(
    buffer: &Buffer,
    precision: Precision,
    offset: usize,
    count: usize,
) -> Result<Vec<f32>, DriverError> {
    Ok(match precision {
        Precision::F32 => buffer.read::<f32>(offset, count)?,
        Precision::Bf16 => buffer
            .read::<u16>(offset, count)?
            .into_iter()
            .map(|x| half::bf16::from_bits(x).to_f32())
            .collect(),
        Precision::F16 => {
            buffer.read::<u16>(offset, count)?.into_iter().map(|x| half::f16::from_bits(x).to_f32()).collect()
        }
    })
}

/// Writes values as E.
pub fn write(buffer: &Buffer, precision: Precision, values: &[f32]) -> Result<(), DriverError> {
    match precision {
        Precision::F32 => buffer.write(values),
        Precision::Bf16 => {
            buffer.write(&values.iter().map(|&x| half::bf16::from_f32(x).to_bits()).collect::<Vec<u16>>())
        }
        Precision::F16 => {
            buffer.write(&values.iter().map(|&x| half::f16::from_f32(x).to_bits()).collect::<Vec<u16>>())
        }
    }
}

/// The type saved gates have: f32 for f32, else f16.
pub fn gate_precision(precision: Precision) -> Precision {
    if precision == Precision::F32 { Precision::F32 } else { Precision::F16 }
}
