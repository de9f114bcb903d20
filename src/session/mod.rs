//! TODO-ROOM session
