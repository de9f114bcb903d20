//! The memory of guests: what lives for one call comes from a small block that is used from its start
//! again as soon as all of it was given back; anything else comes from the standard library's
//! allocator.
//!
//! The host puts each argument into a guest by a call of its allocator, and the bindings give each
//! back: with a general allocator that is a third of what a small guest costs.
//!
//! ```text
//!   +-----------------+-----------------------+
//!   | blocks in use   | free                  |   one that is given back last in, first out is
//!   +-----------------+-----------------------+   free at once; the others when none is left
//!   0                top                  BYTES
//! ```
//!
//! What `init` makes stays for good, so the block is used [`from_now`](CallMemory::from_now) on. A block
//! that a guest keeps longer than a call costs the room under it, and nothing else: what does not fit
//! comes from the other allocator.
//!
//! Not in here: threads. A guest has one; elsewhere this is not the allocator.

#![allow(unsafe_code)] // an allocator hands out addresses

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::{Cell, UnsafeCell},
    ptr,
};

/// Arguments and results of one call: origins, addresses, names of headers. Long bodies go elsewhere.
const BYTES: usize = 8 * 1024;

/// The allocator.
pub struct CallMemory {
    block: Block,
    /// Bytes from the start up to the end of the last one in use.
    top: Cell<usize>,
    /// Pieces that were not given back.
    live: Cell<usize>,
    used: Cell<bool>,
}

#[repr(align(16))]
struct Block(UnsafeCell<[u8; BYTES]>);

/// The allocator of this guest.
#[cfg_attr(target_arch = "wasm32", global_allocator)]
pub static MEMORY: CallMemory = CallMemory::new();

// SAFETY: a guest has one thread. Elsewhere nobody allocates from `MEMORY`, and the tests of this file
// keep theirs to themselves.
unsafe impl Sync for CallMemory {}

impl CallMemory {
    const fn new() -> Self {
        Self {
            block: Block(UnsafeCell::new([0; BYTES])),
            top: Cell::new(0),
            live: Cell::new(0),
            used: Cell::new(false),
        }
    }

    /// What is allocated from now on is taken to be given back at the end of its call.
    pub fn from_now(&self) {
        self.used.set(true);
    }

    fn start(&self) -> *mut u8 {
        self.block.0.get().cast()
    }

    /// Where in the block an address is.
    fn place(&self, at: *mut u8) -> Option<usize> {
        let place = (at as usize).wrapping_sub(self.start() as usize);
        (place < BYTES).then_some(place)
    }

    /// The place of a new piece; none: there is no room.
    fn take(&self, layout: Layout) -> Option<usize> {
        if !self.used.get() || layout.align() > align_of::<Block>() {
            return None;
        }
        let place = self.top.get().next_multiple_of(layout.align());
        let end = place.checked_add(layout.size()).filter(|end| *end <= BYTES)?;
        self.top.set(end);
        self.live.set(self.live.get() + 1);
        Some(place)
    }

    fn give_back(&self, place: usize, bytes: usize) {
        self.live.set(self.live.get() - 1);
        if self.live.get() == 0 {
            self.top.set(0);
        } else if place + bytes == self.top.get() {
            self.top.set(place);
        }
    }
}

// SAFETY: pieces of the block do not overlap, since `top` is past all that are in use and only falls to
// the start of the last one, or to 0 when there is none; they are aligned as asked, since the block is
// aligned to more. All else is the standard library's allocator, told apart by address.
unsafe impl GlobalAlloc for CallMemory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.take(layout) {
            // SAFETY: the place and as much as was asked for after it lie in the block.
            Some(place) => unsafe { self.start().add(place) },
            // SAFETY: the caller keeps to the contract.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        match self.place(at) {
            Some(place) => self.give_back(place, layout.size()),
            // SAFETY: it is not of the block, so it came from there.
            None => unsafe { System.dealloc(at, layout) },
        }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        let Some(place) = self.place(at) else {
            // SAFETY: as above.
            return unsafe { System.realloc(at, layout, bytes) };
        };
        if place + layout.size() == self.top.get() && place + bytes <= BYTES {
            self.top.set(place + bytes);
            return at;
        }
        // SAFETY: the caller keeps to the contract, so the new size is none of 0 and not too large.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(bytes, layout.align()));
            if !new.is_null() {
                ptr::copy_nonoverlapping(at, new, layout.size().min(bytes));
                self.dealloc(at, layout);
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(bytes: usize, align: usize) -> Layout {
        Layout::from_size_align(bytes, align).unwrap()
    }

    fn used() -> Box<CallMemory> {
        let memory = Box::new(CallMemory::new());
        memory.from_now();
        memory
    }

    #[test]
    fn before_it_is_used_everything_comes_from_elsewhere() {
        let memory = CallMemory::new();
        unsafe {
            let at = memory.alloc(layout(8, 8));
            assert_eq!(memory.place(at), None);
            memory.from_now();
            memory.dealloc(at, layout(8, 8));
        }
        assert_eq!((memory.live.get(), memory.top.get()), (0, 0));
    }

    #[test]
    fn pieces_are_aligned_apart_and_start_anew_when_all_are_given_back() {
        let memory = used();
        unsafe {
            for _ in 0..3 {
                let one = memory.alloc(layout(3, 1));
                let two = memory.alloc(layout(16, 8));
                let three = memory.alloc(layout(1, 16));
                let places = [one, two, three].map(|at| memory.place(at).unwrap());
                assert_eq!(places, [0, 8, 32]);
                assert_eq!((two as usize % 8, three as usize % 16), (0, 0));
                for at in [one, two, three] {
                    at.write(7);
                }
                memory.dealloc(one, layout(3, 1));
                assert_eq!(memory.top.get(), 33, "the last one is still there");
                memory.dealloc(three, layout(1, 16));
                assert_eq!(memory.top.get(), 32);
                memory.dealloc(two, layout(16, 8));
                assert_eq!((memory.live.get(), memory.top.get()), (0, 0));
            }
        }
    }

    #[test]
    fn it_is_filled_to_its_last_byte_and_what_is_past_it_comes_from_elsewhere() {
        let memory = used();
        unsafe {
            let all = memory.alloc(layout(BYTES, 16));
            assert_eq!(memory.place(all), Some(0));
            all.add(BYTES - 1).write(1);
            let more = memory.alloc(layout(1, 1));
            assert_eq!(memory.place(more), None);
            memory.dealloc(all, layout(BYTES, 16));
            memory.dealloc(more, layout(1, 1));
            let large = memory.alloc(layout(BYTES + 1, 1));
            assert_eq!((memory.place(large), memory.live.get()), (None, 0));
            memory.dealloc(large, layout(BYTES + 1, 1));
            let wide = memory.alloc(layout(8, 32));
            assert_eq!(memory.place(wide), None, "it is not aligned to that");
            memory.dealloc(wide, layout(8, 32));
        }
    }

    #[test]
    fn the_last_piece_grows_where_it_is_and_others_move_with_what_they_hold() {
        let memory = used();
        unsafe {
            let one = memory.alloc(layout(4, 4));
            one.cast::<u32>().write(0x0403_0201);
            assert_eq!(memory.realloc(one, layout(4, 4), 8), one);
            let two = memory.alloc(layout(4, 4));
            let moved = memory.realloc(one, layout(8, 4), 64);
            assert_eq!((memory.place(moved), moved.cast::<u32>().read()), (Some(12), 0x0403_0201));
            assert_eq!(memory.realloc(moved, layout(64, 4), 16), moved, "it shrinks as well");
            let gone = memory.realloc(moved, layout(16, 4), BYTES);
            assert_eq!((memory.place(gone), gone.cast::<u32>().read()), (None, 0x0403_0201));
            memory.dealloc(gone, layout(BYTES, 4));
            memory.dealloc(two, layout(4, 4));
        }
        assert_eq!((memory.live.get(), memory.top.get()), (0, 0));
    }

    #[test]
    fn a_piece_that_is_kept_costs_the_room_under_it() {
        let memory = used();
        unsafe {
            let first = memory.alloc(layout(100, 1));
            let kept = memory.alloc(layout(100, 1));
            memory.dealloc(first, layout(100, 1));
            for _ in 0..1000 {
                let one = memory.alloc(layout(1000, 1));
                assert_eq!(memory.place(one), Some(200));
                memory.dealloc(one, layout(1000, 1));
            }
            memory.dealloc(kept, layout(100, 1));
            assert_eq!(memory.top.get(), 0);
        }
    }
}
