//! What bounded strings and lists take at most as postcard, known at compile time.
//!
//! postcard has these sums for heapless 0.7 only, and neither crate is ours.

/// Bytes of a varint that may be as large as `largest`.
pub(super) const fn varint(largest: usize) -> usize {
    let mut left = largest >> 7;
    let mut bytes = 1;
    while left > 0 {
        bytes += 1;
        left >>= 7;
    }
    bytes
}

/// Bytes of a list of up to `most` elements of `each` bytes; of a string with `each` = 1.
pub(super) const fn list(most: usize, each: usize) -> usize {
    varint(most) + most * each
}
