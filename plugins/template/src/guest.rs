//! The plugin around [`label`]: what the gateway calls.

#![allow(missing_docs, reason = "generated bindings")]

use std::cell::OnceCell;

use crate::label::Settings;

// For another kind of plugin: `balancer-plugin` or `authenticator-plugin`, and its trait below.
wit_bindgen::generate!({ path: "../wit", world: "filter-plugin", generate_all });

use edgeweir::plugin::{
    host_log::{self, Level},
    host_metrics,
    types::{Client, Direction, Header, Message},
};
use exports::edgeweir::plugin::{
    filter::{Guest as Filter, Interest, Verdict},
    lifecycle::{Guest as Lifecycle, Handover, Info, InitError},
};

thread_local! {
    // A guest has one thread. This lives as long as the instance.
    static SETTINGS: OnceCell<Settings> = const { OnceCell::new() };
}

struct Plugin;
export!(Plugin);

impl Lifecycle for Plugin {
    fn describe() -> Info {
        Info {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config_schema: include_str!("../config.schema.json").to_owned(),
        }
    }

    fn init(config: Vec<u8>, _: Option<Handover>) -> Result<(), InitError> {
        let read = Settings::parse(&config).map_err(InitError::BadConfig)?;
        host_log::log(Level::Info, &format!("{}: {} is added", read.name, read.value));
        let _ = SETTINGS.with(|settings| settings.set(read)); // `init` is called once
        edgeweir_kit::MEMORY.from_now(); // what hooks allocate is gone when they return
        Ok(())
    }

    fn snapshot() -> Vec<u8> {
        Vec::new() // nothing that a successor needs
    }

    fn probe() -> Result<(), String> {
        let there = SETTINGS.with(|settings| settings.get().is_some());
        if there { Ok(()) } else { Err("no settings after init".to_owned()) }
    }
}

impl Filter for Plugin {
    fn interests() -> Interest {
        let methods =
            SETTINGS.with(|settings| settings.get().map(|settings| settings.methods.clone()));
        Interest {
            requests: methods.unwrap_or_default(),
            responses_to: Vec::new(),
            body_types: Vec::new(),
            max_body: 0,
        }
    }

    fn on_message(_: Client, direction: Direction, message: &Message) -> Verdict {
        if direction == Direction::ClientToUpstream {
            SETTINGS.with(|settings| {
                let Some(settings) = settings.get() else { return };
                let header = Header {
                    name: settings.name.clone(),
                    value: settings.value.clone().into_bytes(),
                };
                match message.set_header(&header) {
                    Ok(()) => host_metrics::counter_add("labelled", 1),
                    Err(error) => {
                        host_log::log(Level::Warn, &format!("{}: {error}", settings.name))
                    }
                }
            });
        }
        Verdict::Pass
    }
}
