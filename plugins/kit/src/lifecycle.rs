//! The interface `lifecycle` of a plugin that has settings and nothing to hand over.
//!
//! Not in here: a plugin with state for its successor. It writes the four functions itself, as
//! `template` does.

/// Makes the type `Plugin`, exports it, and gives it the interface `lifecycle`.
///
/// It stands after `wit_bindgen::generate!` in the module of the bindings. `$settings` has a `parse`
/// from the JSON bytes, with a `String` as its error. `$probe` is a function from the settings to
/// `Result<(), String>`. The package's name and version and its `config.schema.json` are what the
/// plugin says of itself.
///
/// Also made: `with_settings`, which lends the settings; `None` before `init`.
///
/// ```ignore
/// wit_bindgen::generate!({ path: "../wit", world: "balancer-plugin", generate_all });
/// edgeweir_kit::lifecycle!(Settings, probe);
///
/// impl exports::edgeweir::plugin::balancer::Guest for Plugin { .. }
/// ```
#[macro_export]
macro_rules! lifecycle {
    ($settings:ty, $probe:expr) => {
        struct Plugin;
        export!(Plugin);

        ::std::thread_local! {
            // A guest has one thread. This lives as long as the instance.
            static SETTINGS: ::std::cell::OnceCell<$settings> =
                const { ::std::cell::OnceCell::new() };
        }

        fn with_settings<T>(act: impl FnOnce(&$settings) -> T) -> Option<T> {
            SETTINGS.with(|settings| settings.get().map(act))
        }

        impl exports::edgeweir::plugin::lifecycle::Guest for Plugin {
            fn describe() -> exports::edgeweir::plugin::lifecycle::Info {
                exports::edgeweir::plugin::lifecycle::Info {
                    name: env!("CARGO_PKG_NAME").to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    config_schema: include_str!(concat!(
                        env!("CARGO_MANIFEST_DIR"),
                        "/config.schema.json"
                    ))
                    .to_owned(),
                }
            }

            fn init(
                config: Vec<u8>,
                _: Option<exports::edgeweir::plugin::lifecycle::Handover>,
            ) -> Result<(), exports::edgeweir::plugin::lifecycle::InitError> {
                let read = <$settings>::parse(&config)
                    .map_err(exports::edgeweir::plugin::lifecycle::InitError::BadConfig)?;
                let _ = SETTINGS.with(|settings| settings.set(read)); // `init` is called once
                $crate::MEMORY.from_now();
                Ok(())
            }

            fn snapshot() -> Vec<u8> {
                Vec::new()
            }

            fn probe() -> Result<(), String> {
                let probe: fn(&$settings) -> Result<(), String> = $probe;
                with_settings(probe).unwrap_or_else(|| Err("no settings after init".to_owned()))
            }
        }
    };
}
