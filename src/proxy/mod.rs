//! TODO-ROOM proxy
