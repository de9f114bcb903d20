//! TODO-ROOM probe
