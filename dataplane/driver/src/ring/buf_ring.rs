//! A provided-buffer ring: receive buffers that the kernel picks from by itself.
//!
//! The kernel takes buffers in order and cycles through all of them, so few large ones stay in the cache
//! and many do not. Each buffer is owned by the kernel from [`BufferRing::give`] until a completion names
//! it, and by us from then on.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

/// Entries and buffers, registered with one ring under one group id.
pub(crate) struct BufferRing {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    count: u16,
    buffer_bytes: usize,
    tail: u16,
}

const PAGE_BYTES: usize = 4096;

impl BufferRing {
    /// Registers `count` (a power of two) buffers of `buffer_bytes` each as `group`.
    ///
    /// The memory is never freed: a ring's completions can outlive its closing, and a core's rings live as
    /// long as the process.
    pub(crate) fn register(ring: &IoUring, group: u16, count: u16, buffer_bytes: usize) -> io::Result<Self> {
        assert!(count.is_power_of_two(), "the kernel masks the tail");
        let entries = pages(usize::from(count) * size_of::<BufRingEntry>()).cast::<BufRingEntry>();
        let memory = pages(usize::from(count) * buffer_bytes);
        // SAFETY: `entries` is page-aligned, holds `count` entries and is never freed.
        unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(entries.as_ptr() as u64, count, group, 0)?;
        }
        let mut buffers = Self {
            entries,
            memory,
            count,
            buffer_bytes,
            tail: 0,
        };
        for index in 0..count {
            buffers.give(index);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// Returns buffer `index` to the kernel; visible to it after [`publish`](Self::publish).
    pub(crate) fn give(&mut self, index: u16) {
        debug_assert!(index < self.count);
        let slot = usize::from(self.tail & (self.count - 1));
        let address = self.address(index) as u64;
        // SAFETY: `slot` is below `count`, so the pointer stays inside the allocation.
        let entry = unsafe { self.entries.as_ptr().add(slot) };
        // SAFETY: aligned and zero-initialised; only this thread writes entries, and the kernel reads one
        // only after `publish`.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address);
        entry.set_len(self.buffer_bytes as u32);
        entry.set_bid(index);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Makes given buffers visible to the kernel.
    pub(crate) fn publish(&mut self) {
        // SAFETY: the entries were registered with `count` > 0, so the tail field lies inside them.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: the kernel reads this aligned u16 concurrently, so it is written atomically; release
        // order publishes the entries before the tail.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// The first `length` bytes of buffer `index`, which a completion has just handed to us.
    ///
    /// The borrow of `self` keeps the buffer from being given back while it is read.
    pub(crate) fn bytes(&self, index: u16, length: usize) -> &[u8] {
        assert!(
            index < self.count && length <= self.buffer_bytes,
            "the kernel names our buffers only"
        );
        // SAFETY: in bounds by the assertion, initialised (zeroed at allocation), and not written by the
        // kernel until `give`, which needs `&mut self`.
        unsafe { std::slice::from_raw_parts(self.address(index), length) }
    }

    fn address(&self, index: u16) -> *mut u8 {
        // SAFETY: `index` is below `count` for every caller, so the result is inside the allocation.
        unsafe { self.memory.as_ptr().add(usize::from(index) * self.buffer_bytes) }
    }
}

fn pages(bytes: usize) -> NonNull<u8> {
    let layout =
        Layout::from_size_align(bytes.max(PAGE_BYTES), PAGE_BYTES).expect("sizes are small constants");
    // SAFETY: the layout has a non-zero size.
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
}
