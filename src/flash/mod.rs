//! TODO-ROOM flash
