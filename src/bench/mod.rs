//! What `songrnn-fast bench` and `cargo bench` measure, and how.
//!
//! [`cases`] are what is measured; [`measure`] runs one on an engine; [`stats`] sums up its times; [`roofline`] counts
//! its operations and holds them against [`peak`] and [`device_peak`], what the processor and a GPU can do at most; [`result`] makes rows of it in the
//! columns of [`record`]; [`export`] and [`plot`] show them; [`peers`] and [`versus`] stand others beside them.

pub mod cases;
pub mod device_peak;
pub mod export;
pub mod measure;
pub mod peak;
pub mod peers;
pub mod plot;
pub mod provenance;
pub mod record;
pub mod result;
pub mod roofline;
pub mod stats;
pub mod versus;

use std::path::Path;

use cases::Case;
use measure::Budget;
use provenance::Provenance;
use result::CaseResult;
use roofline::Ceilings;

use crate::engine::Device;
use crate::machine;

/// Measures one case, or says why it cannot be: a shape that is refused, a tier that does not serve, memory that is not
/// there.
pub fn run(case: &Case, budget: &Budget, ceilings: &mut Ceilings, from: &Provenance) -> CaseResult {
    if let Err(why) = feasible(case) {
        return CaseResult::refused(case, why);
    }
    match measure::measure(case, budget) {
        Ok(measured) => {
            let ceiling = ceilings.of(case, &measured.info);
            CaseResult::measured(case, &measured, ceiling, from)
        }
        Err(why) => CaseResult::refused(case, why.to_string()),
    }
}

/// Measures one case in turn with PyTorch, see [`versus`].
pub fn run_versus(
    case: &Case,
    python: &Path,
    budget: &Budget,
    ceilings: &mut Ceilings,
    from: &Provenance,
) -> CaseResult {
    let ran = feasible(case).and_then(|()| versus::pytorch(case, python, budget.repeats, budget.seconds));
    match ran {
        Ok((versus, measured)) => {
            let ceiling = ceilings.of(case, &measured.info);
            CaseResult { versus: Some(versus), ..CaseResult::measured(case, &measured, ceiling, from) }
        }
        Err(why) => CaseResult::refused(case, why),
    }
}

/// Refuses what would take more memory than there is. A GPU tells that itself; a processor's system may end the program
/// instead.
pub fn feasible(case: &Case) -> Result<(), String> {
    case.shape().check()?;
    let on_host = matches!(case.device, Device::Cpu | Device::Emulated);
    match machine::available_memory() {
        Some(available) if on_host && roofline::bytes(case) > available => Err(format!(
            "about {:.1} GB of memory needed, {:.1} GB are free",
            roofline::bytes(case) as f64 / 1e9,
            available as f64 / 1e9
        )),
        _ => Ok(()),
    }
}
