//! A core's spare buffers: what was a read or a message a moment ago is the next one's room.
//!
//! Buffers of some kilobytes cost the allocator more than all small objects of an exchange together, because they are
//! too large for its per-thread lists. Here they wait on a stack per thread, bounded in size and number, so that an
//! idle core holds little. Whoever is done with one gives it back; one that is simply dropped is freed as ever.
//!
//! Buffers of whole bodies wait too, but not for long: a fresh one of half a MiB costs 128 page faults, which was a
//! fifth of the CPU of such a request, and one that no request has needed for a second goes back to the system.

use std::cell::{Cell, RefCell};

/// Two sizes: a read of a head with a short body, and a message put together of both.
const SIZES: [usize; 2] = [4 * 1024, 20 * 1024];
/// How many of each wait at most: 512 and 640 KiB.
const SPARE_MAX: [usize; 2] = [128, 32];
/// What waits on an idle connection is as small as it says.
const PLAIN_BYTES_MAX: usize = 64;
/// Reads with a whole buffer that may wait for the next message at once, callers' and providers': 8 MiB, enough for a
/// thousand busy callers, whose requests would come in two reads without.
const READY_MAX: usize = 2048;

/// What counts as a large body's buffer, and how much of such buffers waits at most.
const LARGE_BYTES_MIN: usize = 64 * 1024;
const LARGE_BYTES_MAX: usize = 8 * 1024 * 1024;
const LARGE_TOTAL_MAX: usize = 32 * 1024 * 1024;

#[derive(Default)]
struct Large {
    waiting: Vec<Vec<u8>>,
    bytes: usize,
    /// The fewest that waited at once since the last trim: so many nobody needed.
    unneeded: usize,
}

thread_local! {
    static LARGE: RefCell<Large> = RefCell::default();
    static SPARE: RefCell<[Vec<Vec<u8>>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
    static READY: Cell<usize> = const { Cell::new(0) };
}

/// An empty buffer with room for at least `capacity` bytes.
pub fn buffer(capacity: usize) -> Vec<u8> {
    if capacity <= PLAIN_BYTES_MAX {
        return Vec::with_capacity(capacity);
    }
    let Some(class) = SIZES.iter().position(|size| capacity <= *size) else {
        return Vec::with_capacity(capacity);
    };
    let spare = SPARE.try_with(|spare| spare.borrow_mut()[class].pop());
    match spare {
        Ok(Some(buffer)) => buffer,
        _ => Vec::with_capacity(SIZES[class]),
    }
}

/// A buffer of a large body that waits, with room for at least `capacity` bytes; None if there is none, since memory
/// is not to follow what a length promises.
pub(super) fn large(capacity: usize) -> Option<Vec<u8>> {
    let taken = LARGE.try_with(|large| {
        let large = &mut *large.borrow_mut();
        let fits = |buffer: &Vec<u8>| buffer.capacity() >= capacity;
        let buffer = large
            .waiting
            .swap_remove(large.waiting.iter().rposition(fits)?);
        large.bytes -= buffer.capacity();
        large.unneeded = large.unneeded.min(large.waiting.len());
        Some(buffer)
    });
    taken.ok().flatten()
}

/// Frees the large buffers that nobody has needed since the last call.
pub fn trim() {
    let _ = LARGE.try_with(|large| {
        let large = &mut *large.borrow_mut();
        for buffer in large.waiting.drain(..large.unneeded) {
            large.bytes -= buffer.capacity();
        }
        large.unneeded = large.waiting.len();
    });
}

/// Takes a buffer that nobody needs any more.
pub fn recycle(mut buffer: Vec<u8>) {
    if buffer.capacity() >= LARGE_BYTES_MIN {
        let _ = LARGE.try_with(|large| {
            let large = &mut *large.borrow_mut();
            let bytes = buffer.capacity();
            if bytes <= LARGE_BYTES_MAX && large.bytes + bytes <= LARGE_TOTAL_MAX {
                buffer.clear();
                large.bytes += bytes;
                large.waiting.push(buffer);
            }
        });
        return;
    }
    if let Some(class) = SIZES.iter().rposition(|size| buffer.capacity() >= *size) {
        buffer.clear();
        // At a thread's end there is no stack any more.
        let _ = SPARE.try_with(|spare| {
            let stack = &mut spare.borrow_mut()[class];
            if stack.len() < SPARE_MAX[class] {
                stack.push(buffer);
            }
        });
    }
}

/// The right to wait with a whole buffer, for as long as this lives.
pub(super) struct Ready(());

impl Ready {
    /// None when too many wait so already.
    pub(super) fn reserve() -> Option<Self> {
        let count = READY.try_with(Cell::get).ok()?;
        (count < READY_MAX).then(|| {
            READY.set(count + 1);
            Self(())
        })
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        let _ = READY.try_with(|count| count.set(count.get() - 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_and_large_enough() {
        let mut first = buffer(3000);
        assert!(first.capacity() >= 3000);
        first.extend_from_slice(b"secret");
        let address = first.as_ptr();
        recycle(first);
        let again = buffer(4096);
        assert_eq!((again.as_ptr(), again.len()), (address, 0));
        assert!(buffer(10).capacity() < 1024);
        assert!(buffer(17_000).capacity() >= 17_000);
        assert!(buffer(100_000).capacity() >= 100_000);
    }

    #[test]
    fn neither_stack_grows_without_bound() {
        for _ in 0..1000 {
            recycle(Vec::with_capacity(5000));
            recycle(Vec::with_capacity(21_000));
        }
        let waiting = SPARE.with_borrow(|spare| [spare[0].len(), spare[1].len()]);
        assert_eq!(waiting, SPARE_MAX);
    }

    #[test]
    fn large_buffers_wait_a_while_and_within_a_bound() {
        assert!(large(100).is_none());
        for _ in 0..100 {
            recycle(Vec::with_capacity(1024 * 1024));
        }
        assert_eq!(LARGE.with_borrow(|large| large.waiting.len()), 32);
        trim();
        let used: Vec<_> = (0..5).filter_map(|_| large(600 * 1024)).collect();
        assert_eq!(used.len(), 5);
        assert!(large(2 * 1024 * 1024).is_none());
        used.into_iter().for_each(recycle);
        trim();
        assert_eq!(LARGE.with_borrow(|large| large.waiting.len()), 5);
        trim();
        let (waiting, bytes) = LARGE.with_borrow(|large| (large.waiting.len(), large.bytes));
        assert_eq!((waiting, bytes), (0, 0));
    }

    #[test]
    fn only_so_many_wait_with_a_whole_buffer() {
        let held: Vec<_> = std::iter::from_fn(Ready::reserve).collect();
        assert_eq!(held.len(), READY_MAX);
        drop(held);
        assert!(Ready::reserve().is_some());
    }
}
