//! What the control API can do to the gateway, and where its configuration comes from.
//!
//! A change is checked first, then stored, then put in force: a wrong one changes nothing, and one
//! that is answered with success survives a power cut.

use core::{net::SocketAddr, sync::atomic::Ordering::Relaxed};
use std::{path::PathBuf, sync::Arc};

use log::{info, warn};
use smol::{channel::Sender, lock::Mutex};

use super::{
    RunOptions, close_session,
    shared::{Generation, Shared},
};
use crate::{
    auth::{Account, Credentials, Verifier},
    clock,
    config::{self, Config, secrets::Secrets},
    control::{
        gateway::{Answer, Gateway},
        model::{Credential, HistoryEntry, Problem, SessionStatus, Status, WorkerStatus},
    },
    flash::Flash,
    origin::Table,
    session::Fault,
};
