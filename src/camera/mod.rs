//! TODO-ROOM camera
