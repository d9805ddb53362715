//! The kernels' parameters: `kernels/params.h` field by field, where each is described. Addresses are device addresses,
//! 0 = null. `tests/cuda_kernels.rs` compares the sizes.
#![allow(missing_docs)] // Described in kernels/params.h, in one place.

use bytemuck::{Pod, Zeroable};

use super::driver::Address;

/// A target that is not predicted.
pub const IGNORE_TARGET: u16 = 0xffff;
/// Tile of a matrix product in C, and its step in the summed dimension.
pub const GEMM_TILE: usize = 64;
pub const GEMM_TILE_K: usize = 32;
pub const GEMM_THREADS: u32 = 128;
/// The same of the large products' kernels (bf16 and f16, not one-hot), for matrices that fill the device with them.
pub const GEMM_LARGE_TILE: usize = 128;
pub const GEMM_LARGE_THREADS: u32 = 128;
pub const GEMM_LARGE_SHARED: u32 = 65_536;
/// Classes up to which the head is one kernel.
pub const HEAD_MAX_CLASSES: usize = 256;
pub const HEAD_ROWS: usize = 64;
pub const HEAD_THREADS: u32 = 128;
/// Blocks of the norm's partial sums.
pub const NORM_BLOCKS: usize = 256;

#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct RecurrentParams {
    pub w: Address,
    pub table: Address,
    pub ids: Address,
    pub resets: Address,
    pub gates: Address,
    pub c: Address,
    pub hp: Address,
    pub y: Address,
    pub dy: Address,
    pub h_carry: Address,
    pub c_carry: Address,
    pub steps: i32,
    pub streams: i32,
    pub units: i32,
    pub store: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct CellStepParams {
    pub r: RecurrentParams,
    pub product: Address,
    pub dc: Address,
    pub dh_direct: Address,
    pub t: i32,
    pub pad: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct LibraryInputParams {
    pub ids: Address,
    pub order: Address,
    pub x: Address,
    pub rows: i32,
    pub classes: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct LibraryRowsParams {
    pub from: Address,
    pub to: Address,
    pub order: Address,
    pub rows: i32,
    pub from_width: i32,
    pub to_width: i32,
    pub back: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct LibraryStatesParams {
    pub h_carry: Address,
    pub c_carry: Address,
    pub library_h: Address,
    pub library_c: Address,
    pub streams_of: Address,
    pub resets: Address,
    pub layers: i32,
    pub sequences: i32,
    pub streams: i32,
    pub units: i32,
    pub width: i32,
    pub back: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct LibraryTensor {
    pub ours: i64,
    pub row_stride: i64,
    pub column_stride: i64,
    pub theirs: i64,
    pub their_stride: i64,
    pub rows: i32,
    pub columns: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct LibraryWeightsParams {
    pub tensors: Address,
    pub weights: Address,
    pub library: Address,
    pub grads: Address,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct GemmParams {
    pub a: Address,
    pub b: Address,
    pub c: Address,
    pub bias: Address,
    pub ids: Address,
    pub m: i32,
    pub n: i32,
    pub k: i32,
    pub lda: i32,
    pub ldb: i32,
    pub ldc: i32,
    pub k_split: i32,
    pub c_float: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct ReduceParams {
    pub partial: Address,
    pub out: Address,
    pub m: i32,
    pub n: i32,
    pub splits: i32,
    pub banned_row: i32,
    pub banned_column: i32,
    pub pad: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct ColumnSumParams {
    pub a: Address,
    pub partial: Address,
    pub rows: i32,
    pub columns: i32,
    pub rows_split: i32,
    pub pad: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct HeadParams {
    pub y: Address,
    pub w: Address,
    pub bias: Address,
    pub targets: Address,
    pub scale: Address,
    pub dlogits: Address,
    pub losses: Address,
    pub logits: Address,
    pub rows: i32,
    pub units: i32,
    pub vocab: i32,
    pub classes: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub struct StepHyper {
    pub lr: f32,
    pub clip: f32,
    pub weight_decay: f32,
    pub skip_above: f32,
    pub predicted: u32,
    pub optimizer: u32,
    pub k0: f32,
    pub k1: f32,
    pub k2: f32,
    pub dropout_threshold: u32,
    pub dropout_scale: f32,
    pub seed_lo: u32,
    pub seed_hi: u32,
    pub time: u32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub struct Scaler {
    pub updates: u64,
    pub loss_scale: f32,
    pub good_steps: u32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub struct Decision {
    pub head_scale: f32,
    pub factor: f32,
    pub step_size: f32,
    pub root_correction: f32,
    pub update: u32,
    pub pad: u32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub struct StepStats {
    pub loss_sum: f64,
    pub grad_norm: f32,
    pub loss_scale: f32,
    pub predicted: u32,
    pub updated: u32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct StepParams {
    pub hyper: Address,
    pub scaler: Address,
    pub decision: Address,
    pub stats: Address,
    pub losses: Address,
    pub squares: Address,
    pub rows: i32,
    pub blocks: i32,
    pub dynamic: i32,
    pub training: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct NormParams {
    pub grads: Address,
    pub squares: Address,
    pub n: i64,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct UpdateParams {
    pub params: Address,
    pub grads: Address,
    pub first: Address,
    pub second: Address,
    pub shadow: Address,
    pub hyper: Address,
    pub decision: Address,
    pub n: i64,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct ConvertParams {
    pub params: Address,
    pub shadow: Address,
    pub n: i64,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct UnscaleParams {
    pub grads: Address,
    pub scaler: Address,
    pub n: i64,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct MendParams {
    pub h: Address,
    pub c: Address,
    pub decision: Address,
    pub n: i64,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct TableParams {
    pub w: Address,
    pub bias_ih: Address,
    pub bias_hh: Address,
    pub table: Address,
    pub sum: Address,
    pub vocab: i32,
    pub columns: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct DropoutParams {
    pub x: Address,
    pub hyper: Address,
    pub steps: i32,
    pub streams: i32,
    pub units: i32,
    pub layer: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
pub struct SampleStream {
    pub tune: i32,
    pub position: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct SampleParams {
    pub logits: Address,
    pub ids: Address,
    pub resets: Address,
    pub streams: Address,
    pub out: Address,
    pub lengths: Address,
    pub closed: Address,
    pub next_tune: Address,
    pub remaining: Address,
    pub prime: Address,
    pub banned: Address,
    pub seed: u64,
    pub first_index: u64,
    pub temperature: f32,
    pub top_p: f32,
    pub top_k: i32,
    pub prime_len: i32,
    pub max_chars: i32,
    pub end: i32,
    pub tunes: i32,
    pub width: i32,
    pub vocab: i32,
    pub classes: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub struct PersistentSampleParams {
    pub s: SampleParams,
    pub w: Address,
    pub table: Address,
    pub head_w: Address,
    pub head_bias: Address,
    pub units: i32,
    pub pad: i32,
}

/// Dynamic shared memory of the products' and the head's kernels, bytes.
pub const GEMM_SHARED_F32: u32 = 16_384;
pub const GEMM_SHARED_SHORT: u32 = 32_768;
pub const HEAD_SHARED_F32: u32 = 20_480;
pub const HEAD_SHARED_SHORT: u32 = 61_440;

/// The same with the kernels they belong to, for the test.
pub fn shared_memory() -> [(&'static str, usize); 7] {
    [
        ("gemm_nt_f16_large", GEMM_LARGE_SHARED as usize),
        ("gemm_nt_f32", GEMM_SHARED_F32 as usize),
        ("gemm_onehot_f32", GEMM_SHARED_F32 as usize),
        ("gemm_tn_bf16", GEMM_SHARED_SHORT as usize),
        ("gemm_onehot_f16", GEMM_SHARED_SHORT as usize),
        ("head_f32", HEAD_SHARED_F32 as usize),
        ("head_bf16", HEAD_SHARED_SHORT as usize),
    ]
}

/// Every struct with its kernel's parameter size, for the test.
pub fn sizes() -> Vec<(&'static str, usize)> {
    vec![
        ("stepwise_begin_f32", size_of::<RecurrentParams>()),
        ("stepwise_forward_lstm_f32", size_of::<CellStepParams>()),
        ("library_one_hot_f32", size_of::<LibraryInputParams>()),
        ("library_rows_f32", size_of::<LibraryRowsParams>()),
        ("library_states_f32", size_of::<LibraryStatesParams>()),
        ("library_weights_f32", size_of::<LibraryWeightsParams>()),
        ("gemm_nt_f32", size_of::<GemmParams>()),
        ("reduce_splits", size_of::<ReduceParams>()),
        ("column_sum_f32", size_of::<ColumnSumParams>()),
        ("head_f32", size_of::<HeadParams>()),
        ("decide", size_of::<StepParams>()),
        ("norm_partials", size_of::<NormParams>()),
        ("update_f32", size_of::<UpdateParams>()),
        ("convert_bf16", size_of::<ConvertParams>()),
        ("unscale", size_of::<UnscaleParams>()),
        ("mend_f32", size_of::<MendParams>()),
        ("table_f32", size_of::<TableParams>()),
        ("dropout_f32", size_of::<DropoutParams>()),
        ("sample_choose", size_of::<SampleParams>()),
        ("sample_persistent_lstm_bf16_h160", size_of::<PersistentSampleParams>()),
    ]
}
