//! TODO-ROOM auth
