//! Places in the stream that are measured between: the device's events.

use std::collections::VecDeque;
use std::sync::Arc;

use super::driver::{Driver, DriverError, Event};
use crate::engine::{EngineError, Mark};

/// Marks that are remembered; older ones are forgotten.
const KEPT: usize = 1024;

/// See the module's documentation.
#[derive(Default)]
pub struct Marks {
    events: VecDeque<Event>,
    /// Number of the first event kept.
    first: u64,
}

impl Marks {
    /// Marks this place in the stream.
    pub fn add(&mut self, driver: &Arc<dyn Driver>) -> Result<Mark, DriverError> {
        if self.events.len() == KEPT {
            self.events.pop_front();
            self.first += 1;
        }
        self.events.push_back(Event::record(driver)?);
        Ok(Mark(self.first + self.events.len() as u64 - 1))
    }

    /// Milliseconds from one to the other by the device's clock.
    pub fn between(&self, from: Mark, to: Mark) -> Result<f64, EngineError> {
        let event = |mark: Mark| {
            let place = mark.0.checked_sub(self.first).and_then(|i| self.events.get(i as usize));
            place.ok_or_else(|| {
                EngineError::Device(format!("mark {} is not known: the last {KEPT} are kept", mark.0))
            })
        };
        event(to)?.wait()?;
        Ok(f64::from(event(to)?.since(event(from)?)?))
    }
}
