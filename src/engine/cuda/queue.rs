//! Kernels as functions: grids, threads and parameters, in one place.

use std::sync::Arc;

use bytemuck::Pod;

use super::driver::{Address, Driver, DriverError, Form, Launch, Product};
use super::params::*;
use crate::engine::Precision;

/// A stream of kernels for one precision.
pub struct Queue {
    /// The device.
    pub driver: Arc<dyn Driver>,
    /// E.
    pub precision: Precision,
    /// Scratch for the partial sums of split products, [`Queue::PARTIALS`] floats or the largest gradient.
    pub partials: Address,
    /// Its size in floats.
    pub partials_len: usize,
}

/// A matrix and its leading dimension in elements.
#[derive(Debug, Clone, Copy)]
pub struct Matrix {
    /// Where it lies.
    pub at: Address,
    /// Elements from row to row.
    pub stride: usize,
}

/// Which slot of four gets no gradient: weights that do not exist (see `kernels/params.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Banned {
    /// None.
    Nothing,
    /// Rows whose number modulo 4 is this.
    Row(i32),
    /// Columns likewise.
    Column(i32),
}

impl Queue {
    /// Floats of scratch that let every split product fill a large device.
    pub const PARTIALS: usize = 4 << 20;

    /// Bytes of one E.
    pub fn size(&self) -> usize {
        if self.precision == Precision::F32 { 4 } else { 2 }
    }

    /// `name_f32`, `name_bf16`, `name_f16`.
    pub fn named(&self, name: &str) -> String {
        format!("{name}_{}", self.precision)
    }

    /// Launches a kernel without dynamic shared memory.
    pub fn run<P: Pod>(
        &self,
        kernel: &str,
        grid: [usize; 3],
        threads: u32,
        params: &P,
    ) -> Result<(), DriverError> {
        self.run_shared(kernel, grid, threads, 0, params)
    }

    /// Launches a kernel with `shared` bytes of dynamic shared memory.
    pub fn run_shared<P: Pod>(
        &self,
        kernel: &str,
        grid: [usize; 3],
        threads: u32,
        shared: u32,
        params: &P,
    ) -> Result<(), DriverError> {
        self.driver.launch(&Launch {
            kernel,
            grid: grid.map(|n| n as u32),
            threads,
            cluster: 1,
            shared,
            params: bytemuck::bytes_of(params),
        })
    }

    /// C [m, n] = A B (+ bias), C of type E or float.
    #[allow(clippy::too_many_arguments)]
    pub fn product(
        &self,
        form: Form,
        a: Matrix,
        b: Matrix,
        c: Matrix,
        bias: Address,
        c_float: bool,
        [m, n, k]: [usize; 3],
    ) -> Result<(), DriverError> {
        if bias == 0 {
            let product = Product {
                form,
                precision: self.precision,
                c_float,
                m: m as u32,
                n: n as u32,
                k: k as u32,
                lda: a.stride as u32,
                ldb: b.stride as u32,
                ldc: c.stride as u32,
            };
            if self.driver.product(&product, a.at, b.at, c.at)? {
                return Ok(());
            }
        }
        let name = match form {
            Form::Nt => "gemm_nt",
            Form::Nn => "gemm_nn",
            Form::Tn => "gemm_tn",
        };
        let params = gemm(a, b, c, bias, 0, c_float, [m, n, k], k.next_multiple_of(GEMM_TILE_K));
        self.gemm(name, [m, n, 1], &params)
    }

    /// out [m, n] = A^T B over `k` rows, float, in splits that fill the device; A [k, m] or, with `ids`, the one-hot
    /// matrix of `ids` `[k]`; B [k, n].
    pub fn gradient(
        &self,
        a: Matrix,
        ids: Address,
        b: Matrix,
        out: Address,
        [m, n, k]: [usize; 3],
        banned: Banned,
    ) -> Result<(), DriverError> {
        let cells = tiles(GEMM_TILE, m, n, 1).iter().product::<usize>();
        let wanted = (2 * self.driver.facts().multiprocessors as usize).div_ceil(cells);
        let most = k.div_ceil(256).min(self.partials_len / (m * n)).max(1);
        let k_split = k.div_ceil(wanted.clamp(1, most)).next_multiple_of(GEMM_TILE_K);
        let splits = k.div_ceil(k_split);
        let straight = splits == 1 && banned == Banned::Nothing;
        let c = Matrix { at: if straight { out } else { self.partials }, stride: n };
        let one_hot = ids != 0;
        let by_library = straight && !one_hot && {
            let product = Product {
                form: Form::Tn,
                precision: self.precision,
                c_float: true,
                m: m as u32,
                n: n as u32,
                k: k as u32,
                lda: a.stride as u32,
                ldb: b.stride as u32,
                ldc: n as u32,
            };
            self.driver.product(&product, a.at, b.at, c.at)?
        };
        if !by_library {
            let params = gemm(a, b, c, 0, ids, true, [m, n, k], k_split);
            self.gemm(if one_hot { "gemm_onehot" } else { "gemm_tn" }, [m, n, splits], &params)?;
        }
        if straight { Ok(()) } else { self.reduce(out, m, n, splits, banned) }
    }

    /// A product of our own kernels: large tiles where they fill the device twice, which reads less from memory.
    fn gemm(&self, name: &str, [m, n, splits]: [usize; 3], params: &GemmParams) -> Result<(), DriverError> {
        let name_here = self.named(name);
        if self.precision == Precision::F32 || params.ids != 0 {
            let shared = if self.precision == Precision::F32 { GEMM_SHARED_F32 } else { GEMM_SHARED_SHORT };
            return self.run_shared(&name_here, tiles(GEMM_TILE, m, n, splits), GEMM_THREADS, shared, params);
        }
        let large = tiles(GEMM_LARGE_TILE, m, n, splits);
        if large.iter().product::<usize>() >= 2 * self.driver.facts().multiprocessors as usize {
            let name = format!("{name_here}_large");
            return self.run_shared(&name, large, GEMM_LARGE_THREADS, GEMM_LARGE_SHARED, params);
        }
        let grid = tiles(GEMM_TILE, m, n, splits);
        self.run_shared(&name_here, grid, GEMM_THREADS, GEMM_SHARED_SHORT, params)
    }

    /// Sums of the columns of a [rows, columns] into each of `outs`.
    pub fn column_sums(
        &self,
        a: Address,
        rows: usize,
        columns: usize,
        outs: &[(Address, Banned)],
    ) -> Result<(), DriverError> {
        let rows_split = rows.div_ceil(64).max(16);
        let splits = rows.div_ceil(rows_split);
        let params = ColumnSumParams {
            a,
            partial: self.partials,
            rows: rows as i32,
            columns: columns as i32,
            rows_split: rows_split as i32,
            pad: 0,
        };
        self.run(&self.named("column_sum"), [columns.div_ceil(128), splits, 1], 128, &params)?;
        outs.iter().try_for_each(|&(out, banned)| self.reduce(out, 1, columns, splits, banned))
    }

    fn reduce(
        &self,
        out: Address,
        m: usize,
        n: usize,
        splits: usize,
        banned: Banned,
    ) -> Result<(), DriverError> {
        let params = ReduceParams {
            partial: self.partials,
            out,
            m: m as i32,
            n: n as i32,
            splits: splits as i32,
            banned_row: if let Banned::Row(slot) = banned { slot } else { -1 },
            banned_column: if let Banned::Column(slot) = banned { slot } else { -1 },
            pad: 0,
        };
        self.run("reduce_splits", [(m * n).div_ceil(256), 1, 1], 256, &params)
    }
}

fn tiles(tile: usize, m: usize, n: usize, splits: usize) -> [usize; 3] {
    [n.div_ceil(tile), m.div_ceil(tile), splits]
}

fn gemm(
    a: Matrix,
    b: Matrix,
    c: Matrix,
    bias: Address,
    ids: Address,
    c_float: bool,
    [m, n, k]: [usize; 3],
    k_split: usize,
) -> GemmParams {
    GemmParams {
        a: a.at,
        b: b.at,
        c: c.at,
        bias,
        ids,
        m: m as i32,
        n: n as i32,
        k: k as i32,
        lda: a.stride as i32,
        ldb: b.stride as i32,
        ldc: c.stride as i32,
        k_split: k_split as i32,
        c_float: i32::from(c_float),
    }
}
