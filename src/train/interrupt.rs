//! Ctrl-C and SIGTERM: the first asks the loop to finish its chunk and save, the second stops the program at once.

use std::sync::atomic::{AtomicU32, Ordering};

static SIGNALS: AtomicU32 = AtomicU32::new(0);

/// Installs the handler, once a process; where that is refused, the system's own handling stays (the run can still be
/// resumed from its last checkpoint) and the reason is returned.
pub fn install() -> Result<(), String> {
    ctrlc::set_handler(|| {
        // Nothing but an atomic and, the second time, the end: this thread must never wait for the loop.
        if SIGNALS.fetch_add(1, Ordering::SeqCst) > 0 {
            std::process::exit(130);
        }
    })
    .map_err(|error| error.to_string())
}

/// Whether the run was asked to stop.
pub fn requested() -> bool {
    SIGNALS.load(Ordering::SeqCst) > 0
}
