//! Memory shared with the kernel through pointers that stay valid.
//!
//! A pointer derived from a reference must not be used after its target was borrowed again. Message headers
//! hold pointers from one call to the next, so all pointers and references are derived from the one pointer
//! that owns the memory.
#![expect(
    unsafe_code,
    reason = "references are derived from the pointer that owns the values"
)]

use std::ptr::{self, NonNull};

/// A fixed number of values on the heap, which the kernel reads and writes through pointers.
pub(super) struct SharedBuffer<T> {
    first: NonNull<T>,
    len: usize,
}

impl<T> SharedBuffer<T> {
    pub(super) fn new(values: impl Iterator<Item = T>) -> Self {
        let values = Box::<[T]>::from_iter(values);
        let len = values.len();
        let first = NonNull::from(Box::leak(values)).cast();
        Self { first, len }
    }

    /// A pointer to a value, valid for as long as the buffer exists, wherever it is moved.
    ///
    /// # Panics
    /// If there is no such value.
    pub(super) fn at(&self, index: usize) -> *mut T {
        assert!(index < self.len, "a value of this buffer");
        // SAFETY: `index` is below `len`, and `first` points at `len` values.
        unsafe { self.first.add(index).as_ptr() }
    }

    /// # Panics
    /// If there is no such value.
    pub(super) fn get(&self, index: usize) -> &T {
        // SAFETY: `at` points at a value that is initialised and lives as long as `self`. The kernel
        // writes only during calls that borrow the buffer's owner mutably.
        unsafe { &*self.at(index) }
    }

    /// # Panics
    /// If there is no such value.
    pub(super) fn get_mut(&mut self, index: usize) -> &mut T {
        // SAFETY: as for `get`, and `self` is borrowed mutably.
        unsafe { &mut *self.at(index) }
    }

    /// The values from `start` on, at most `len` of them.
    pub(super) fn slice(&self, start: usize, len: usize) -> &[T] {
        let start = start.min(self.len);
        let len = len.min(self.len - start);
        // SAFETY: the range lies within the buffer; see `get`.
        unsafe { std::slice::from_raw_parts(self.first.add(start).as_ptr(), len) }
    }

    /// The first values, at most `len` of them.
    pub(super) fn first_mut(&mut self, len: usize) -> &mut [T] {
        // SAFETY: the range lies within the buffer; see `get_mut`.
        unsafe { std::slice::from_raw_parts_mut(self.first.as_ptr(), len.min(self.len)) }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl<T> Drop for SharedBuffer<T> {
    fn drop(&mut self) {
        let all = ptr::slice_from_raw_parts_mut(self.first.as_ptr(), self.len);
        // SAFETY: `new` leaked a box of exactly these values, and nothing uses them any more.
        drop(unsafe { Box::from_raw(all) });
    }
}
