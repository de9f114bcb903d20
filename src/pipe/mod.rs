//! TODO-ROOM pipe
