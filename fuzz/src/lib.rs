//! What the targets share: seeds from the transcripts, and input cut into parts.

pub mod input;
pub mod seeds;
