//! Runs code that may panic on damaged input, quietly: a panic becomes None.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// What `work` returns; None where it panics. Nothing is printed, and other threads' panics are reported as ever.
/// What `work` changed before it panicked must not be used.
pub(super) fn catch<T>(work: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            if !QUIET.get() {
                before(info);
            }
        }));
    });
    let before = QUIET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(before);
    result.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_nothing() {
        assert_eq!(catch(|| 3), Some(3));
        let index = std::hint::black_box(7);
        assert_eq!(catch(|| [1, 2, 3][index]), None);
        assert!(!QUIET.get());
    }
}
