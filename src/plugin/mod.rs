//! What an operator may change without a new release: hooks that WASM components answer.
//!
//! ```text
//!   control thread                                worker
//!   install ──► child compiles ──► cache          session asks (hooks)
//!      │            load, check, try (shadow)          │
//!      ▼                                               ▼
//!   slot: one number changes ◄──── is it new? ──── guests (worker): one instance a slot
//!      ▲                                               │ calls with a budget (guest)
//!      └── maintain ◄── faults: rolled back ◄──────────┘
//! ```
//!
//! * [`hooks`]: what the gateway asks, in plain types. Whether a component, a built-in policy or a
//!   test answers is invisible to who asks.
//! * `engine`: wasmtime set up for small boards, the clock of budgets;  `guest`: one instance;
//!   `told`, `message`, `values`: what it is told, lent and says, checked;  `calls`, `kv`, `meters`,
//!   `keys`: what it may ask of the host;  `slot`, `worker`: which generation serves, and swaps.
//! * `host`, `install`, `kept`, `inspect`, `shadow`, `child`, `cache`, [`state`], `report`: from an
//!   upload to a plugin that serves, and what is kept of it;  `image`, `trust`: code for a build
//!   without compiler, and whose files it may lie in.
//!
//! A fault (a trap, a budget, a value that breaks a rule) drops the instance; the session goes on
//! as if nobody had answered. Several in the first minute bring back the plugin from before.
//!
//! Not in here: RTP, which no hook ever sees, and RTSP's rules, which no hook can change.

pub mod hooks;
pub mod state;

#[cfg(feature = "plugins")]
mod bindings;
#[cfg(feature = "plugins")]
mod cache;
#[cfg(feature = "plugins")]
mod calls;
#[cfg(feature = "compiler")]
pub mod child;
#[cfg(feature = "plugins")]
mod engine;
#[cfg(feature = "plugins")]
mod fit;
#[cfg(feature = "plugins")]
mod guest;
#[cfg(feature = "plugins")]
mod host;
#[cfg(feature = "compiler")]
pub mod image;
#[cfg(feature = "plugins")]
mod inspect;
#[cfg(feature = "plugins")]
mod install;
#[cfg(feature = "plugins")]
mod kept;
#[cfg(feature = "plugins")]
mod keys;
#[cfg(feature = "plugins")]
mod kv;
#[cfg(feature = "plugins")]
mod message;
#[cfg(feature = "plugins")]
mod meters;
#[cfg(feature = "plugins")]
mod report;
#[cfg(feature = "plugins")]
mod shadow;
#[cfg(feature = "plugins")]
mod slot;
#[cfg(feature = "plugins")]
mod told;
#[cfg(feature = "plugins")]
mod trust;
#[cfg(feature = "plugins")]
mod values;
#[cfg(feature = "plugins")]
mod worker;

#[cfg(feature = "plugins")]
pub use self::{
    engine::{Code, thread_cpu_ns},
    guest::{Exports, Info},
    host::{Forget, Host, IMAGE_DIR, Keep, Places, Rules},
    keys::KEY_USER,
    meters::{Metric, OWN_METRICS, Value},
    report::{Event, Phase, Refusal, Report, SlotInfo, Upload},
    shadow::{Costs, Sample},
    trust::check_image,
    worker::Guests,
};
