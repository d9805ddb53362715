//! cuDNN's descriptors, destroyed when dropped.

use std::ffi::c_void;

use cudarc::cudnn::sys as dnn;

use super::check;
use crate::engine::Precision;
use crate::engine::cuda::driver::DriverError;
use crate::engine::cuda::driver::recurrent::{Algorithm, RnnSpec};
use crate::model::CellKind;

fn data_type(precision: Precision) -> dnn::cudnnDataType_t {
    match precision {
        Precision::F32 => dnn::cudnnDataType_t::CUDNN_DATA_FLOAT,
        Precision::Bf16 => dnn::cudnnDataType_t::CUDNN_DATA_BFLOAT16,
        Precision::F16 => dnn::cudnnDataType_t::CUDNN_DATA_HALF,
    }
}

/// Recurrent layers, with the dropout descriptor (of no dropout) that they refer to.
pub struct Layers {
    pub rnn: dnn::cudnnRNNDescriptor_t,
    dropout: dnn::cudnnDropoutDescriptor_t,
}

impl Layers {
    pub fn new(handle: dnn::cudnnHandle_t, spec: &RnnSpec) -> Result<Layers, DriverError> {
        let mut layers = Layers { rnn: std::ptr::null_mut(), dropout: std::ptr::null_mut() };
        // SAFETY: writes one handle.
        check("cudnnCreateDropoutDescriptor", unsafe {
            dnn::cudnnCreateDropoutDescriptor(&mut layers.dropout)
        })?;
        // SAFETY: no dropout needs no states.
        check("cudnnSetDropoutDescriptor", unsafe {
            dnn::cudnnSetDropoutDescriptor(layers.dropout, handle, 0.0, std::ptr::null_mut(), 0, 0)
        })?;
        // SAFETY: writes one handle.
        check("cudnnCreateRNNDescriptor", unsafe { dnn::cudnnCreateRNNDescriptor(&mut layers.rnn) })?;
        let algorithm = match spec.algorithm {
            Algorithm::Standard => dnn::cudnnRNNAlgo_t::CUDNN_RNN_ALGO_STANDARD,
            Algorithm::PersistStatic => dnn::cudnnRNNAlgo_t::CUDNN_RNN_ALGO_PERSIST_STATIC,
            Algorithm::PersistSmall => dnn::cudnnRNNAlgo_t::CUDNN_RNN_ALGO_PERSIST_STATIC_SMALL_H,
            Algorithm::PersistDynamic => dnn::cudnnRNNAlgo_t::CUDNN_RNN_ALGO_PERSIST_DYNAMIC,
        };
        let cell = match spec.cell {
            CellKind::Lstm => dnn::cudnnRNNMode_t::CUDNN_LSTM,
            CellKind::Gru => dnn::cudnnRNNMode_t::CUDNN_GRU,
            CellKind::Rnn => dnn::cudnnRNNMode_t::CUDNN_RNN_TANH,
        };
        let maths = match (spec.precision, spec.tf32) {
            (Precision::F32, true) => dnn::cudnnMathType_t::CUDNN_DEFAULT_MATH,
            (Precision::F32, false) => dnn::cudnnMathType_t::CUDNN_FMA_MATH,
            _ => dnn::cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
        };
        // Two biases: a GRU has two, and the persistent algorithms take no other mode; the second stays zero elsewhere.
        // SAFETY: plain values and two descriptors that were just made.
        check("cudnnSetRNNDescriptor_v8", unsafe {
            dnn::cudnnSetRNNDescriptor_v8(
                layers.rnn,
                algorithm,
                cell,
                dnn::cudnnRNNBiasMode_t::CUDNN_RNN_DOUBLE_BIAS,
                dnn::cudnnDirectionMode_t::CUDNN_UNIDIRECTIONAL,
                dnn::cudnnRNNInputMode_t::CUDNN_LINEAR_INPUT,
                data_type(spec.precision),
                dnn::cudnnDataType_t::CUDNN_DATA_FLOAT,
                maths,
                spec.inputs as i32,
                spec.units as i32,
                spec.units as i32,
                spec.layers as i32,
                layers.dropout,
                0, // no padded input and output: sequences are packed
            )
        })?;
        Ok(layers)
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        // SAFETY: made above, destroyed once; null where making it failed.
        unsafe {
            if !self.rnn.is_null() {
                dnn::cudnnDestroyRNNDescriptor(self.rnn);
            }
            if !self.dropout.is_null() {
                dnn::cudnnDestroyDropoutDescriptor(self.dropout);
            }
        }
    }
}

/// Packed sequences of vectors.
pub struct DataDescriptor(pub dnn::cudnnRNNDataDescriptor_t);

impl DataDescriptor {
    pub fn new(precision: Precision, lengths: &[i32], width: usize) -> Result<DataDescriptor, DriverError> {
        let mut descriptor = std::ptr::null_mut();
        // SAFETY: writes one handle.
        check("cudnnCreateRNNDataDescriptor", unsafe { dnn::cudnnCreateRNNDataDescriptor(&mut descriptor) })?;
        let descriptor = DataDescriptor(descriptor);
        let longest = lengths.first().copied().unwrap_or(0);
        let mut padding = [0u8; 8];
        // SAFETY: as many lengths as are told, copied by the call.
        check("cudnnSetRNNDataDescriptor", unsafe {
            dnn::cudnnSetRNNDataDescriptor(
                descriptor.0,
                data_type(precision),
                dnn::cudnnRNNDataLayout_t::CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED,
                longest,
                lengths.len() as i32,
                width as i32,
                lengths.as_ptr(),
                padding.as_mut_ptr().cast::<c_void>(),
            )
        })?;
        Ok(descriptor)
    }
}

impl Drop for DataDescriptor {
    fn drop(&mut self) {
        // SAFETY: made above.
        unsafe { dnn::cudnnDestroyRNNDataDescriptor(self.0) };
    }
}

/// A dense tensor.
pub struct TensorDescriptor(pub dnn::cudnnTensorDescriptor_t);

impl TensorDescriptor {
    /// For the library to fill.
    pub fn empty() -> Result<TensorDescriptor, DriverError> {
        let mut descriptor = std::ptr::null_mut();
        // SAFETY: writes one handle.
        check("cudnnCreateTensorDescriptor", unsafe { dnn::cudnnCreateTensorDescriptor(&mut descriptor) })?;
        Ok(TensorDescriptor(descriptor))
    }

    pub fn new(precision: Precision, dims: [usize; 3]) -> Result<TensorDescriptor, DriverError> {
        let descriptor = TensorDescriptor::empty()?;
        let strides = [dims[1] * dims[2], dims[2], 1].map(|n| n as i32);
        let dims = dims.map(|n| n as i32);
        // SAFETY: three sizes and three strides, copied by the call.
        check("cudnnSetTensorNdDescriptor", unsafe {
            let of = data_type(precision);
            dnn::cudnnSetTensorNdDescriptor(descriptor.0, of, 3, dims.as_ptr(), strides.as_ptr())
        })?;
        Ok(descriptor)
    }

    /// Refuses where the library filled in another number of elements.
    pub fn expect(&self, what: &str, elements: usize) -> Result<(), DriverError> {
        let (mut dims, mut strides) = ([1i32; 8], [0i32; 8]);
        let (mut of, mut count) = (dnn::cudnnDataType_t::CUDNN_DATA_FLOAT, 0);
        // SAFETY: room for as many as are asked for.
        check("cudnnGetTensorNdDescriptor", unsafe {
            dnn::cudnnGetTensorNdDescriptor(
                self.0,
                3,
                &mut of,
                &mut count,
                dims.as_mut_ptr(),
                strides.as_mut_ptr(),
            )
        })?;
        let found: usize = dims[..count.clamp(0, 3) as usize].iter().map(|&n| n.max(0) as usize).product();
        if found == elements && count > 0 {
            return Ok(());
        }
        let meaning = format!("{what} has {found} elements, expected {elements}");
        Err(DriverError::Failed { call: "cudnnGetRNNWeightParams".into(), meaning })
    }
}

impl Drop for TensorDescriptor {
    fn drop(&mut self) {
        // SAFETY: made above.
        unsafe { dnn::cudnnDestroyTensorDescriptor(self.0) };
    }
}
