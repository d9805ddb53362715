//! Threads kept on processors of their own, where measuring asks for it. A scheduler sometimes leaves two new threads on
//! one processor for seconds; and figures are easier to compare where nobody moves.
#![allow(unsafe_code)]

use std::sync::OnceLock;

/// The processors that threads are kept on, once that is asked for.
static PROCESSORS: OnceLock<Vec<usize>> = OnceLock::new();

/// From now on engines keep their threads on processors of their own. Gives the processors, those that this process may
/// use; an error where the system tells none.
pub fn pin_engines() -> Result<&'static [usize], String> {
    let allowed = allowed();
    if allowed.is_empty() {
        return Err("this system does not keep threads on processors".into());
    }
    Ok(PROCESSORS.get_or_init(|| allowed))
}

/// The processors, where it was asked for.
pub fn processors() -> Option<&'static [usize]> {
    PROCESSORS.get().map(Vec::as_slice)
}

/// Called by thread `index` of an engine when it begins: keeps it on its processor, where that was asked for.
pub fn pin_thread(index: usize) {
    if let Some(processors) = PROCESSORS.get()
        && let Some(processor) = processors.get(index % processors.len().max(1))
    {
        keep_on(&[*processor]);
    }
}

#[cfg(target_os = "linux")]
fn allowed() -> Vec<usize> {
    // SAFETY: an all-zero set is a set; the call fills it up to the size given.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return Vec::new();
        }
        (0..libc::CPU_SETSIZE as usize).filter(|&cpu| libc::CPU_ISSET(cpu, &set)).collect()
    }
}

/// The calling thread runs on these from now on; where the system refuses, it runs where it did.
#[cfg(target_os = "linux")]
fn keep_on(processors: &[usize]) {
    // SAFETY: as above; numbers come from such a set, so that they lie within it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        processors.iter().for_each(|&cpu| libc::CPU_SET(cpu, &mut set));
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}

#[cfg(not(target_os = "linux"))]
fn allowed() -> Vec<usize> {
    Vec::new()
}

#[cfg(not(target_os = "linux"))]
fn keep_on(_: &[usize]) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_stays_where_it_is_kept() {
        // In a thread of its own: this test's other threads go where they like.
        let (before, kept) = std::thread::spawn(|| {
            let before = allowed();
            keep_on(&before[before.len() - 1..]);
            (before, allowed())
        })
        .join()
        .unwrap();
        assert_eq!(kept, before[before.len() - 1..]);
        // Nobody asked for it here.
        pin_thread(0);
        assert_eq!(allowed(), before);
    }
}
