//! Whole tunes on the device: one kernel for all of it where the model fits one, else a graph of one step that is
//! replayed. Tunes are taken from a counter on the device; the host looks how many are left every so many steps.

use bytemuck::Zeroable;

use super::driver::{Buffer, DriverError, Facts, Graph, Launch};
use super::layout::Layout;
use super::network::{Memory, Pass};
use super::params::{HEAD_MAX_CLASSES, PersistentSampleParams, SampleParams, SampleStream, StepHyper};
use super::queue::Queue;
use super::rnn::RnnPlan;
use super::workspace::{Carried, Input, STREAM_GROUP, Workspace};
use crate::engine::{Chunk, EngineError, Precision, SampleRequest, SampledTune};

/// Streams at once: enough to fill any device.
const MOST_STREAMS: usize = 1056;

/// Characters between two looks at what is left.
const LOOK_EVERY: usize = 32;

/// Bytes of sampled characters at once; more tunes are sampled in turns.
const MOST_OUT: usize = 256 << 20;

/// Where results and counters lie.
struct Results {
    out: Buffer,
    lengths: Buffer,
    closed: Buffer,
    /// next_tune, remaining
    counters: Buffer,
    streams: Buffer,
    prime: Buffer,
    banned: Buffer,
}

/// Samples `request.tunes` tunes; the request has been checked.
pub fn sample(
    queue: &Queue,
    plan: &dyn RnnPlan,
    layout: &Layout,
    memory: &Memory,
    request: &SampleRequest,
) -> Result<Vec<SampledTune>, EngineError> {
    let most = (MOST_OUT / 2 / request.max_chars).clamp(1, 1 << 20);
    let mut tunes = Vec::with_capacity(request.tunes);
    while tunes.len() < request.tunes {
        let part = SampleRequest {
            tunes: most.min(request.tunes - tunes.len()),
            first_index: request.first_index.wrapping_add(tunes.len() as u64),
            ..request.clone()
        };
        tunes.extend(part_of(queue, plan, layout, memory, &part)?);
    }
    Ok(tunes)
}

fn part_of(
    queue: &Queue,
    plan: &dyn RnnPlan,
    layout: &Layout,
    memory: &Memory,
    request: &SampleRequest,
) -> Result<Vec<SampledTune>, EngineError> {
    let width = request.tunes.min(MOST_STREAMS).next_multiple_of(STREAM_GROUP);
    let driver = &queue.driver;
    let mut banned = vec![0u8; layout.classes];
    request.banned.iter().for_each(|&id| banned[usize::from(id)] = 1);
    let results = Results {
        out: Buffer::new(driver, 2 * request.tunes * request.max_chars)?,
        lengths: Buffer::zeroed(driver, 4 * request.tunes)?,
        closed: Buffer::zeroed(driver, request.tunes)?,
        counters: Buffer::zeroed(driver, 8)?,
        streams: Buffer::new(driver, width * size_of::<SampleStream>())?,
        prime: Buffer::new(driver, 2 * request.prime.len())?,
        banned: Buffer::new(driver, banned.len())?,
    };
    results.prime.write(&request.prime)?;
    results.banned.write(&banned)?;
    let params = SampleParams {
        logits: 0,
        ids: 0,
        resets: 0,
        streams: results.streams.at(),
        out: results.out.at(),
        lengths: results.lengths.at(),
        closed: results.closed.at(),
        next_tune: results.counters.at(),
        remaining: results.counters.at() + 4,
        prime: results.prime.at(),
        banned: results.banned.at(),
        seed: request.seed,
        first_index: request.first_index,
        temperature: request.choice.temperature,
        top_p: request.choice.top_p,
        // More than V is all.
        top_k: request.choice.top_k.min(layout.shape.vocab) as i32,
        prime_len: request.prime.len() as i32,
        max_chars: request.max_chars as i32,
        end: i32::from(request.end),
        tunes: request.tunes as i32,
        width: width as i32,
        vocab: layout.shape.vocab as i32,
        classes: layout.classes as i32,
    };
    let one_kernel = if plan.tier() == "stepwise" {
        Err("the stepwise tier was asked for".into())
    } else {
        persistent(layout, queue.precision, driver.facts())
    };
    let resident = |shape: &Persistent| {
        let params = PersistentSampleParams::zeroed();
        let launch = Launch {
            kernel: &shape.kernel,
            grid: [shape.cluster, 1, 1],
            threads: shape.threads,
            cluster: shape.cluster,
            shared: shape.shared,
            params: bytemuck::bytes_of(&params),
        };
        // An error is the launch's to tell.
        driver.active_clusters(&launch).map_or(true, |clusters| clusters > 0)
    };
    match one_kernel {
        Ok(shape) if resident(&shape) => in_one_kernel(queue, layout, memory, params, &shape, &results)?,
        _ => by_graph(queue, plan, layout, memory, params, &results)?,
    }
    let lengths: Vec<u32> = results.lengths.read(0, request.tunes)?;
    let closed: Vec<u8> = results.closed.read(0, request.tunes)?;
    let out: Vec<u16> = results.out.read(0, request.tunes * request.max_chars)?;
    Ok((0..request.tunes)
        .map(|tune| SampledTune {
            ids: out[tune * request.max_chars..][..(lengths[tune] as usize).min(request.max_chars)].to_vec(),
            closed: closed[tune] != 0,
        })
        .collect())
}

/// Launch shape of a kernel that samples whole tunes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Persistent {
    /// Its name.
    pub kernel: String,
    /// Threads a block.
    pub threads: u32,
    /// Dynamic shared memory, bytes.
    pub shared: u32,
    /// Blocks a cluster.
    pub cluster: u32,
}

/// The kernel that samples whole tunes of a model on a device, or why there is none. Layouts of the shared memory: as in
/// `kernels/sample_persistent.cuh` and `kernels/sample_persistent_f32.cu`.
pub fn persistent(layout: &Layout, precision: Precision, facts: &Facts) -> Result<Persistent, String> {
    let (cell, h, classes, slots) = (layout.shape.cell, layout.units, layout.classes, layout.slots);
    if layout.shape.layers != 1 {
        return Err(format!("{} layers; whole tunes in one kernel need a model of one", layout.shape.layers));
    }
    if classes > HEAD_MAX_CLASSES {
        return Err(format!("{} characters, at most {HEAD_MAX_CLASSES}", layout.shape.vocab));
    }
    let too_large = || {
        format!(
            "the weights do not fit the {} bytes of shared memory that a block has here",
            facts.shared_per_block
        )
    };
    if precision != Precision::F32 {
        if ![64, 128, 160].contains(&h) {
            return Err(format!("{h} units in {precision}; made for up to 160"));
        }
        let (units, tiles) = if slots == 4 { (8, 2) } else { (16, 1) };
        let owners = h / units;
        let warps = owners.max(8);
        let fragments = tiles * h / 16;
        // Twenty warps leave a thread 96 registers.
        let in_shared = if warps > 16 { fragments - 14 } else { 0 };
        let shared = owners * in_shared * 512
            + classes * h * 2
            + 8 * (h + 8) * 2
            + classes * 4
            + 8 * (classes + 4) * 4
            + 8 * 4;
        if shared > facts.shared_per_block as usize {
            return Err(too_large());
        }
        let kernel = format!("sample_persistent_{cell}_{precision}_h{h}");
        return Ok(Persistent { kernel, threads: 32 * warps as u32, shared: shared as u32, cluster: 1 });
    }
    let cells = usize::from(layout.shape.cell.has_cell_state());
    for cluster in [1usize, 2, 4, 8] {
        let own = h / cluster;
        let floats = own * slots * (h + 4)
            + classes * (h + 4)
            + classes
            + h / 4 * 36
            + own * 8 * slots
            + cells * own * 8
            + 8 / cluster * classes
            + 8;
        let allowed = cluster == 1 || cluster <= facts.max_cluster as usize;
        if allowed && h.is_multiple_of(cluster) && 4 * floats <= facts.shared_per_block as usize {
            let kernel = format!("sample_persistent_{cell}_f32");
            return Ok(Persistent {
                kernel,
                threads: 512,
                shared: 4 * floats as u32,
                cluster: cluster as u32,
            });
        }
    }
    Err(too_large())
}

fn begin(queue: &Queue, params: &SampleParams) -> Result<(), DriverError> {
    queue.run("sample_begin", [(params.width as usize).div_ceil(256), 1, 1], 256, params)
}

fn in_one_kernel(
    queue: &Queue,
    layout: &Layout,
    memory: &Memory,
    params: SampleParams,
    shape: &Persistent,
    results: &Results,
) -> Result<(), DriverError> {
    // next_tune, remaining: the kernel takes every tune from the counter, the first ones too.
    results.counters.write(&[0u32, params.tunes as u32])?;
    let groups = (params.width as u32 / STREAM_GROUP as u32).min(queue.driver.facts().multiprocessors).max(1);
    let weight = |offset: usize| {
        if queue.precision == Precision::F32 {
            memory.params.at() + 4 * offset as u64
        } else {
            memory.shadow.at() + 2 * offset as u64
        }
    };
    let params = PersistentSampleParams {
        s: params,
        w: weight(layout.layers[0].weight_hh.start),
        table: memory.table.at(),
        head_w: weight(layout.head_weight.start),
        head_bias: memory.params.at() + 4 * layout.head_bias.start as u64,
        units: layout.units as i32,
        pad: 0,
    };
    queue.driver.launch(&Launch {
        kernel: &shape.kernel,
        grid: [groups * shape.cluster, 1, 1],
        threads: shape.threads,
        cluster: shape.cluster,
        shared: shape.shared,
        params: bytemuck::bytes_of(&params),
    })
}

fn by_graph(
    queue: &Queue,
    plan: &dyn RnnPlan,
    layout: &Layout,
    memory: &Memory,
    mut params: SampleParams,
    results: &Results,
) -> Result<(), EngineError> {
    let driver = &queue.driver;
    let width = params.width as usize;
    let input = Input { steps: 1, streams: width, library: false };
    let space = Workspace::new(driver, layout, queue.precision, input, false, plan.layers().scratch(width))?;
    let carried = Carried::zero(driver, layout, queue.precision, width)?;
    // Ids and resets are written by the kernels; the rest of the block is not looked at.
    let mut block = vec![0u8; input.bytes()];
    input.fill(&mut block, &Chunk::new(1, width), &StepHyper::default(), None);
    space.block.write(&block)?;
    params.logits = space.logits.at();
    params.ids = space.ids();
    params.resets = space.resets();
    let pass =
        Pass { queue, plan, layout, memory, space: &space, carried: &carried, dropout: false, pieces: None };
    begin(queue, &params)?;
    let step = || -> Result<(), DriverError> {
        pass.forward(false)?;
        pass.step_logits()?;
        queue.run("sample_choose", [width.div_ceil(4), 1, 1], 128, &params)
    };
    // The first step directly, so that every kernel is loaded before the capture.
    step()?;
    let graph = Graph::capture(driver, step)?;
    loop {
        for _ in 0..LOOK_EVERY {
            graph.launch()?;
        }
        if results.counters.read::<u32>(1, 1)?[0] == 0 {
            return Ok(());
        }
    }
}
