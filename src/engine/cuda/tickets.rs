//! Statistics on their way back: pinned slots in a ring, each with the event that says it has arrived.

use std::collections::HashMap;
use std::sync::Arc;

use super::driver::{Address, Driver, DriverError, Event, Pinned};
use super::params::StepStats;
use crate::engine::{EngineError, Stats, Ticket};

/// Chunks whose statistics can be under way at once.
const SLOTS: usize = 64;

/// See the module's documentation.
pub struct Tickets {
    driver: Arc<dyn Driver>,
    pinned: Pinned,
    under_way: Vec<Option<(u64, Event)>>,
    arrived: HashMap<u64, Stats>,
    given: u64,
}

impl Tickets {
    /// No ticket yet.
    pub fn new(driver: &Arc<dyn Driver>) -> Result<Tickets, DriverError> {
        Ok(Tickets {
            driver: driver.clone(),
            pinned: Pinned::new(driver, SLOTS * size_of::<StepStats>())?,
            under_way: (0..SLOTS).map(|_| None).collect(),
            arrived: HashMap::new(),
            given: 0,
        })
    }

    /// Enqueues reading the statistics at `from`.
    pub fn give(&mut self, from: Address) -> Result<Ticket, DriverError> {
        let number = self.given + 1;
        let slot = number as usize % SLOTS;
        self.collect(slot)?;
        self.pinned.enqueue_download(slot * size_of::<StepStats>(), from, size_of::<StepStats>())?;
        self.under_way[slot] = Some((number, Event::record(&self.driver)?));
        self.given = number;
        Ok(Ticket(number))
    }

    /// Waits for a slot's statistics, if any are under way, and keeps them.
    fn collect(&mut self, slot: usize) -> Result<(), DriverError> {
        let Some((number, event)) = &self.under_way[slot] else { return Ok(()) };
        event.wait()?;
        let size = size_of::<StepStats>();
        let stats: StepStats = bytemuck::pod_read_unaligned(&self.pinned.bytes()[slot * size..][..size]);
        let stats = Stats {
            loss_sum: stats.loss_sum,
            predicted: u64::from(stats.predicted),
            grad_norm: stats.grad_norm,
            updated: stats.updated != 0,
            loss_scale: stats.loss_scale,
        };
        self.arrived.insert(*number, stats);
        self.under_way[slot] = None;
        Ok(())
    }

    /// Waits for a ticket's statistics; each can be read once.
    pub fn read(&mut self, ticket: Ticket) -> Result<Stats, EngineError> {
        let slot = ticket.0 as usize % SLOTS;
        if self.under_way[slot].as_ref().is_some_and(|(number, _)| *number == ticket.0) {
            self.collect(slot)?;
        }
        self.arrived.remove(&ticket.0).ok_or(EngineError::Ticket(ticket.0))
    }
}
