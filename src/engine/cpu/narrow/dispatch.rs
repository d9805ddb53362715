//! One entrance an instruction set and phase, and the order of the phases of one thread.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `kernels.rs`.

use super::super::geometry::Isa;
#[cfg(target_arch = "x86_64")]
use super::super::simd::{Avx2, Avx512};
use super::super::simd::{Portable, Simd};
use super::super::update::Step;
use super::forward::{Run, Work};
use super::{backward, forward, head, update};

macro_rules! entrances {
    (#[$attribute:meta] $module:ident, $S:ty) => {
        mod $module {
            use super::*;

            #[$attribute]
            pub unsafe fn forward(run: &Run, member: usize, layer: usize) {
                forward::layer::<$S>(run, member, layer);
            }
            #[$attribute]
            pub unsafe fn head(run: &Run, member: usize) {
                head::rows::<$S>(run, member);
            }
            #[$attribute]
            pub unsafe fn backward(run: &Run, member: usize, layer: usize) {
                backward::layer::<$S>(run, member, layer);
            }
            #[$attribute]
            pub unsafe fn below(run: &Run, member: usize, layer: usize) {
                backward::below::<$S>(run, member, layer);
            }
            #[$attribute]
            pub unsafe fn gradients(run: &Run, member: usize, layer: usize) {
                update::layer::<$S>(run, member, layer);
            }
            #[$attribute]
            pub unsafe fn head_gradients(run: &Run, member: usize) {
                update::head::<$S>(run, member);
            }
            #[$attribute]
            pub unsafe fn update(run: &Run, member: usize, step: &Step) {
                update::update::<$S>(run, member, step);
            }

            pub unsafe fn work(run: &Run, member: usize) {
                debug_assert_eq!(<$S>::LANES, run.plan.lanes);
                let layers = run.plan.shape.layers;
                let alone = run.work == Work::Layers;
                for layer in 0..layers {
                    forward(run, member, layer);
                    // Behind the last layer the head needs all units; a single layer's gradients do not wait.
                    run.meeting.barrier();
                }
                if !alone && run.work != Work::States {
                    head(run, member);
                }
                if !alone && run.work != Work::Train {
                    return;
                }
                run.meeting.barrier();
                for layer in (0..layers).rev() {
                    backward(run, member, layer);
                    gradients(run, member, layer);
                    if layer > 0 {
                        run.meeting.barrier();
                        below(run, member, layer);
                        run.meeting.barrier();
                    }
                }
                if alone {
                    return;
                }
                head_gradients(run, member);
                let Some(rule) = run.rule else { return };
                run.meeting.barrier();
                let stats = super::super::update::stats(run, 1.0);
                if stats.updated {
                    let clip = rule.hyper.clip;
                    let factor = if clip > 0.0 { (clip / (stats.grad_norm + 1e-6)).min(1.0) } else { 1.0 };
                    update(run, member, &Step::new(&rule.hyper, factor, rule.update));
                }
            }
        }
    };
}

entrances!(
    #[inline(never)]
    portable,
    Portable
);
#[cfg(target_arch = "x86_64")]
entrances!(
    #[target_feature(enable = "avx2,fma,f16c")]
    avx2,
    Avx2
);
#[cfg(target_arch = "x86_64")]
entrances!(
    #[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
    avx512,
    Avx512
);

/// All that one member of the run's team does.
pub fn work(run: &Run, member: usize) {
    let (space, store) = (run.space, run.store);
    let train = matches!(run.work, Work::Train | Work::Layers);
    assert!(member < run.meeting.members && space.now >= 1 && space.now <= space.steps, "room for the chunk");
    assert!(!train || (store.grads.len() > 0 && store.first.len() == run.rows()), "gradients are prepared");
    // SAFETY: `Isa` values come from detection; space and store are made for the plan, and the assertions hold what
    // that leaves open.
    unsafe {
        match run.plan.isa {
            Isa::Portable => portable::work(run, member),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::work(run, member),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => avx512::work(run, member),
            #[cfg(not(target_arch = "x86_64"))]
            _ => portable::work(run, member),
        }
    }
}
