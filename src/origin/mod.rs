//! TODO-ROOM origin
