//! Zeroed pages from Linux, large ones where it has them.
#![allow(unsafe_code)]

use std::ptr::NonNull;

/// A large page, bytes; smaller blocks are not worth pages of their own.
pub const LARGE: usize = 2 << 20;

/// Pages that are given back when dropped.
#[derive(Debug)]
pub struct Pages {
    base: NonNull<libc::c_void>,
    mapped: usize,
}

impl Pages {
    /// At least `bytes` of zeros from [`Pages::start`] on; None where there is no room.
    pub fn new(bytes: usize) -> Option<Pages> {
        // Room to begin on a large page's boundary; what is not touched takes no memory.
        let mapped = bytes.checked_add(LARGE)?;
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping, wherever the system likes.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), mapped, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return None;
        }
        let pages = Pages { base: NonNull::new(base)?, mapped };
        // A wish; where it is not granted, pages are small.
        // SAFETY: from the start to the mapping's end.
        unsafe { libc::madvise(pages.start().as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
        Some(pages)
    }

    /// On a large page's boundary.
    pub fn start(&self) -> NonNull<u8> {
        let base = self.base.cast::<u8>();
        let skip = base.as_ptr().align_offset(LARGE);
        // SAFETY: less than a large page, which the mapping has more than what was asked for.
        unsafe { base.add(skip) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this size.
        unsafe { libc::munmap(self.base.as_ptr(), self.mapped) };
    }
}

// SAFETY: the pages are owned.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_zero_aligned_and_writable_to_the_end() {
        for bytes in [LARGE, LARGE + 4, 5 * LARGE - 60] {
            let pages = Pages::new(bytes).unwrap();
            let start = pages.start().as_ptr();
            assert_eq!(start as usize % LARGE, 0);
            // SAFETY: mapped above with at least this size.
            let all = unsafe { std::slice::from_raw_parts_mut(start, bytes) };
            assert!(all.iter().all(|&byte| byte == 0));
            all[bytes - 1] = 7;
        }
        assert!(Pages::new(usize::MAX - 5).is_none());
    }
}
