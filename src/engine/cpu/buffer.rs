//! Aligned f32 memory that is zero until written.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

#[cfg(target_os = "linux")]
use super::pages;

use crate::engine::EngineError;

/// A fixed-length block of f32 on a cache line's boundary. Large ones are pages from the system: those that are never touched
/// (masked states where no tune starts) cost nothing, and where it can it gives large pages, without which walking through
/// the records of a chunk costs a miss of the address cache every few lines.
#[derive(Debug)]
pub struct Buffer {
    pointer: NonNull<f32>,
    len: usize,
    #[cfg(target_os = "linux")]
    _pages: Option<pages::Pages>,
}

const ALIGN: usize = 64;

impl Buffer {
    /// `len` zeros; `what` names the use in an error.
    pub fn zeros(len: usize, what: &'static str) -> Result<Buffer, EngineError> {
        let needed = (len as u64).saturating_mul(4);
        let refused = EngineError::OutOfMemory { what, needed };
        // At least one line, so that the allocation is never of size zero.
        let bytes = len.max(1).checked_mul(4).ok_or(EngineError::OutOfMemory { what, needed })?;
        #[cfg(target_os = "linux")]
        if bytes >= pages::LARGE {
            let pages = pages::Pages::new(bytes).ok_or(refused)?;
            return Ok(Buffer { pointer: pages.start().cast(), len, _pages: Some(pages) });
        }
        let Ok(layout) = Layout::from_size_align(bytes, ALIGN) else { return Err(refused) };
        // SAFETY: the layout's size is not zero.
        let pointer = unsafe { alloc_zeroed(layout) };
        let pointer = NonNull::new(pointer.cast::<f32>()).ok_or(refused)?;
        Ok(Buffer {
            pointer,
            len,
            #[cfg(target_os = "linux")]
            _pages: None,
        })
    }

    /// Elements.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// For kernels that read.
    #[inline]
    pub fn ptr(&self) -> *const f32 {
        self.pointer.as_ptr()
    }

    /// For kernels that write.
    #[inline]
    pub fn ptr_mut(&mut self) -> *mut f32 {
        self.pointer.as_ptr()
    }

    /// For kernels whose threads write different parts of it at once.
    #[inline]
    pub fn shared(&self) -> *mut f32 {
        self.pointer.as_ptr()
    }

    /// As a slice.
    #[inline]
    pub fn as_slice(&self) -> &[f32] {
        // SAFETY: len elements were allocated and zeroed, and are borrowed as self is.
        unsafe { std::slice::from_raw_parts(self.pointer.as_ptr(), self.len) }
    }

    /// As a slice to write.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: as in `as_slice`, and self is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.as_ptr(), self.len) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        if self._pages.is_some() {
            return; // which gives itself back
        }
        // SAFETY: allocated in `zeros` with this very layout.
        unsafe {
            dealloc(
                self.pointer.as_ptr().cast(),
                Layout::from_size_align_unchecked(self.len.max(1) * 4, ALIGN),
            );
        }
    }
}

// SAFETY: the block is owned; access goes through borrows of self.
unsafe impl Send for Buffer {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Buffer {}
