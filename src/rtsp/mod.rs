//! TODO-ROOM rtsp
