//! Recurrent weights on the chip for the whole chunk.
//!
//! bf16 and f16: `kernels/recurrent_*.cuh`, tensor cores, compiled for a few widths; other widths are padded up. f32:
//! `kernels/recurrent_f32.cuh`, plain arithmetic, any width whose weights fit the shared memory of a cluster.

use bytemuck::Zeroable;

use super::super::driver::{Address, DriverError, Facts, Launch};
use super::super::params::RecurrentParams;
use super::super::queue::Queue;
use super::{Answer, LayerKernels, RnnPlan, Wanted};
use crate::engine::Precision;
use crate::model::CellKind;

/// Streams that a block or cluster owns.
const ROWS: usize = 8;

/// Launch shape of one kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Threads a block.
    pub threads: u32,
    /// Dynamic shared memory, bytes.
    pub shared: u32,
}

/// One compiled width and cluster size, or for f32 one that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// H.
    pub units: usize,
    /// Blocks a cluster; 1 = none.
    pub cluster: u32,
    /// The forward kernel.
    pub forward: Shape,
    /// The backward kernel.
    pub backward: Shape,
    /// Clusters that run at once on the device: beyond them a chunk takes its time twice.
    pub active: u32,
}

impl Variant {
    fn fits(&self, facts: &Facts) -> bool {
        let shared = self.forward.shared.max(self.backward.shared);
        shared <= facts.shared_per_block && (self.cluster == 1 || self.cluster <= facts.max_cluster)
    }

    /// With the number of clusters of both kernels that the device runs at once, which differs from card to card: it
    /// depends on how many multiprocessors stand together. Without a driver to ask: as if all did.
    fn counted(mut self, wanted: &Wanted) -> Variant {
        self.active = wanted.facts.multiprocessors / self.cluster;
        let Some(driver) = wanted.driver else { return self };
        for (name, shape) in [("forward", self.forward), ("backward", self.backward)] {
            let kernel = self.kernel(name, wanted.shape.cell, wanted.precision);
            let params = RecurrentParams::zeroed();
            let launch = Launch {
                kernel: &kernel,
                grid: [self.cluster, 1, 1],
                threads: shape.threads,
                cluster: self.cluster,
                shared: shape.shared,
                params: bytemuck::bytes_of(&params),
            };
            // An error is the launch's to tell.
            self.active = driver.active_clusters(&launch).map_or(self.active, |n| n.min(self.active));
        }
        self
    }

    fn kernel(&self, name: &str, cell: CellKind, precision: Precision) -> String {
        match precision {
            Precision::F32 => format!("recurrent_{name}_{cell}_f32"),
            _ => format!("recurrent_{name}_{cell}_{precision}_h{}_c{}", self.units, self.cluster),
        }
    }
}

/// See the module's documentation.
pub struct Fused {
    cell: CellKind,
    precision: Precision,
    units: usize,
    /// All of one width, by cluster size.
    variants: Vec<Variant>,
}

/// Serves where weights fit.
pub fn plan(wanted: &Wanted) -> Answer {
    let (shape, facts) = (wanted.shape, wanted.facts);
    if facts.capability.0 < 8 {
        return Err(format!(
            "compute capability {}.{}, 8.0 or above is needed",
            facts.capability.0, facts.capability.1
        ));
    }
    let all = if wanted.precision == Precision::F32 {
        float_variants(shape.cell, shape.hidden.next_multiple_of(16))
    } else {
        short_variants(shape.cell)
    };
    let fitting: Vec<Variant> = all
        .iter()
        .filter(|v| v.units >= shape.hidden && v.fits(facts))
        .map(|v| v.counted(wanted))
        .filter(|v| v.active > 0)
        .collect();
    let Some(units) = fitting.iter().map(|v| v.units).min() else {
        return Err(if all.iter().any(|v| v.units >= shape.hidden) {
            format!(
                "the recurrent weights do not fit: a block has {} bytes of shared memory here and clusters have {} blocks",
                facts.shared_per_block, facts.max_cluster
            )
        } else {
            let most = all.iter().map(|v| v.units).max().unwrap_or(0);
            format!("{} units; at most {most} in {}", shape.hidden, wanted.precision)
        });
    };
    Ok(Box::new(Fused {
        cell: shape.cell,
        precision: wanted.precision,
        units,
        variants: fitting.into_iter().filter(|v| v.units == units).collect(),
    }))
}

/// H, CS, forward threads and bytes of shared memory, backward threads and bytes.
type Row = (usize, u32, u32, u32, u32, u32);

include!("variants.rs");

/// What is compiled for bf16 and f16.
fn short_variants(cell: CellKind) -> Vec<Variant> {
    let rows = match cell {
        CellKind::Lstm => LSTM,
        CellKind::Gru => GRU,
        CellKind::Rnn => RNN,
    };
    let shape = |threads, shared| Shape { threads, shared };
    rows.iter()
        .map(|&(units, cluster, ft, fs, bt, bs)| Variant {
            units,
            cluster,
            forward: shape(ft, fs),
            backward: shape(bt, bs),
            active: 0,
        })
        .collect()
}

/// Threads of a block of the f32 kernels.
const FLOAT_THREADS: u32 = 256;

/// The f32 kernels at this width over every size of cluster; shared memory as `kernels/recurrent_f32.cu` lays it out.
fn float_variants(cell: CellKind, units: usize) -> Vec<Variant> {
    // Into how many parts a sum over n is split among 256 threads, where q threads are taken by its results.
    let split = |q: usize, n: usize| {
        let most = (256 / q.max(1)).min(n).max(1);
        n.div_ceil(n.div_ceil(most))
    };
    let (slots, products, rows_a_unit) = match cell {
        CellKind::Lstm => (4, 4, 4),
        CellKind::Gru => (4, 3, 3),
        CellKind::Rnn => (1, 4, 1),
    };
    let h = units;
    [1usize, 2, 4, 8, 16]
        .into_iter()
        .filter(|cluster| h.is_multiple_of(*cluster))
        .map(|cluster| {
            let own = h / cluster;
            let groups = (own * slots).div_ceil(4);
            let rows = own * rows_a_unit;
            let forward =
                h * products * groups + 18 * h + 32 * groups * split(groups, h / 4) + 8 * own * (slots + 2);
            let backward = rows * h + 12 * rows + 8 * h * split(h / 4, rows) + 16 * h + 8 * own * (slots + 4);
            let shape = |floats: usize| Shape {
                threads: FLOAT_THREADS,
                shared: (4 * floats).min(u32::MAX as usize) as u32,
            };
            Variant {
                units,
                cluster: cluster as u32,
                forward: shape(forward),
                backward: shape(backward),
                active: 0,
            }
        })
        .collect()
}

impl Fused {
    /// The largest cluster of which all groups run at once: it shortens a step; else the one that runs the most groups.
    fn variant(&self, streams: usize) -> &Variant {
        let groups = streams.div_ceil(ROWS);
        let largest = self.variants.iter().filter(|v| groups <= v.active as usize).max_by_key(|v| v.cluster);
        largest.or_else(|| self.variants.iter().max_by_key(|v| v.active)).expect("a plan has variants")
    }

    fn run(&self, queue: &Queue, name: &str, layer: &RecurrentParams, back: bool) -> Result<(), DriverError> {
        let streams = layer.streams as usize;
        let variant = self.variant(streams);
        let shape = if back { variant.backward } else { variant.forward };
        let kernel = variant.kernel(name, self.cell, self.precision);
        queue.driver.launch(&Launch {
            kernel: &kernel,
            grid: [(streams / ROWS) as u32 * variant.cluster, 1, 1],
            threads: shape.threads,
            cluster: variant.cluster,
            shared: shape.shared,
            params: bytemuck::bytes_of(layer),
        })
    }
}

impl RnnPlan for Fused {
    fn tier(&self) -> &'static str {
        "fused"
    }

    fn detail(&self, streams: usize) -> String {
        match self.variant(streams).cluster {
            1 => format!("{} units in one block a group of {ROWS} streams", self.units),
            n => format!("{} units over a cluster of {n} blocks a group of {ROWS} streams", self.units),
        }
    }

    fn units(&self) -> usize {
        self.units
    }

    fn layers(&self) -> &dyn LayerKernels {
        self
    }
}

impl LayerKernels for Fused {
    fn scratch(&self, _: usize) -> usize {
        0
    }

    fn forward(&self, queue: &Queue, layer: &RecurrentParams, _: Address) -> Result<(), DriverError> {
        self.run(queue, "forward", layer, false)
    }

    fn backward(&self, queue: &Queue, layer: &RecurrentParams, _: Address) -> Result<(), DriverError> {
        self.run(queue, "backward", layer, true)
    }
}
