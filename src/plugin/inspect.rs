//! What a component is, before any of it runs: its kind, imports, exports and needs.
//!
//! Not in here: whether its types fit (`guest::Prepared`).

use wasmtime::{Engine, component::Component};

use super::{guest::Exports, values::shown};
use crate::limits::{
    GUEST_MEMORIES_MAX, GUEST_MEMORY_MAX_BYTES, GUEST_TABLE_ELEMENTS_MAX, GUEST_TABLES_MAX,
};

const PACKAGE: &str = "edgeweir:plugin/";
const VERSION: &str = "1.0.0";
const IMPORTS: [&str; 6] =
    ["types", "host-log", "host-clock", "host-random", "host-kv", "host-metrics"];
/// Needs are counted in pages.
const PAGE_BYTES: u64 = 64 * 1024;
const CREDENTIALS: &str = "host-credentials";

/// Why a component cannot be a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unfit {
    /// What is wrong.
    pub reason: String,
    /// What helps.
    pub remedy: String,
}

fn unfit(reason: impl Into<String>, remedy: impl Into<String>) -> Unfit {
    Unfit { reason: reason.into(), remedy: remedy.into() }
}

/// Looks at the first bytes of an upload.
///
/// # Errors
/// [`Unfit`]: it is no component.
pub(super) fn kind(bytes: &[u8]) -> Result<(), Unfit> {
    match bytes {
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Err(unfit(
            "it is a core module, not a component",
            "turn it into one, as plugins/README.md says (`wasm-tools component new`)",
        )),
        [0x7f, b'E', b'L', b'F', ..] => Err(unfit(
            "it is compiled code, which is never taken from an upload",
            "upload the component that it was made from",
        )),
        [0, b'a', b's', b'm', ..] => Err(unfit(
            "it is WASM of a version that is not known",
            "build it as a component (version 0d 00 01 00)",
        )),
        _ => Err(unfit("it is no WASM component", "upload the .wasm file that the build made")),
    }
}

/// What a component imports and exports, as names of interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Surface {
    /// Imports, as the component names them.
    pub imports: Vec<String>,
    /// Exports, as the component names them.
    pub exports: Vec<String>,
}

/// The names on a component.
pub(super) fn surface(engine: &Engine, component: &Component) -> Surface {
    let kind = component.component_type();
    Surface {
        imports: kind.imports(engine).map(|(name, _)| shown(name)).collect(),
        exports: kind.exports(engine).map(|(name, _)| shown(name)).collect(),
    }
}

/// The hooks of a component whose names are allowed.
///
/// # Errors
/// [`Unfit`] with the name of the offending import or export.
pub(super) fn check(surface: &Surface) -> Result<Exports, Unfit> {
    let mut exports = Exports::default();
    let mut lifecycle = false;
    for name in &surface.exports {
        match interface(name)? {
            Some("lifecycle") => lifecycle = true,
            Some("balancer") => exports.balancer = true,
            Some("authenticator") => exports.authenticator = true,
            Some("filter") => exports.filter = true,
            // What else it exports is never called.
            _ => {}
        }
    }
    if !lifecycle {
        return Err(unfit(
            format!("it does not export {PACKAGE}lifecycle@{VERSION}"),
            "every plugin does: include one of the worlds of plugins/wit/worlds.wit",
        ));
    }
    if exports == Exports::default() {
        return Err(unfit(
            "it exports no hook",
            format!("export balancer, authenticator or filter of {PACKAGE}*@{VERSION}"),
        ));
    }
    for name in &surface.imports {
        let allowed = interface(name)?.is_some_and(|interface| {
            IMPORTS.contains(&interface) || (interface == CREDENTIALS && exports.authenticator)
        });
        if !allowed {
            return Err(forbidden(name));
        }
    }
    Ok(exports)
}

/// The interface of our package that is named; none: of another package.
fn interface(name: &str) -> Result<Option<&str>, Unfit> {
    let Some(rest) = name.strip_prefix(PACKAGE) else { return Ok(None) };
    let (interface, version) = rest.split_once('@').unwrap_or((rest, "no version"));
    if version != VERSION {
        return Err(unfit(
            format!("{name}: this gateway knows version {VERSION}, the plugin wants {version}"),
            "build it against the plugins/wit of this release, or update the gateway",
        ));
    }
    Ok(Some(interface))
}

fn forbidden(name: &str) -> Unfit {
    let remedy = if name.starts_with("wasi:") {
        "there is no WASI here: build for wasm32-unknown-unknown, without std's files and clocks"
    } else if name.ends_with(&format!("{CREDENTIALS}@{VERSION}")) {
        "only a plugin that exports authenticator may import it"
    } else {
        "a plugin may import the host-* interfaces of edgeweir:plugin only"
    };
    unfit(format!("it imports {name}, which is not allowed"), remedy)
}

/// Whether a component can be instantiated within the bounds, as far as it says beforehand; what it
/// takes later is bounded by its store.
///
/// # Errors
/// [`Unfit`] with the need and the bound.
pub(super) fn needs(component: &Component) -> Result<(), Unfit> {
    let Some(needs) = component.resources_required() else {
        return Err(unfit(
            "it imports a component or module",
            "link everything into one component",
        ));
    };
    let memory = needs.max_initial_memory_size.unwrap_or(0).saturating_mul(PAGE_BYTES);
    if memory > GUEST_MEMORY_MAX_BYTES as u64 {
        return Err(unfit(
            format!("it begins with {} KiB of memory, allowed are 4096", memory / 1024),
            "link it with a smaller stack (-zstack-size) and smaller static data",
        ));
    }
    let elements = needs.max_initial_table_size.unwrap_or(0);
    if elements > GUEST_TABLE_ELEMENTS_MAX as u64 {
        return Err(unfit(
            format!("it begins with a table of {elements}, allowed are 10000"),
            "make it smaller",
        ));
    }
    let (memories, tables) = (needs.num_memories as usize, needs.num_tables as usize);
    if memories > GUEST_MEMORIES_MAX || tables > GUEST_TABLES_MAX {
        return Err(unfit(
            format!("it has {memories} memories and {tables} tables, allowed are 2 and 8"),
            "link everything into one module",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_told_apart_by_its_first_bytes() {
        assert_eq!(kind(b"\0asm\x0d\0\x01\0rest"), Ok(()));
        for (bytes, word) in [
            (&b"\0asm\x01\0\0\0"[..], "core module"),
            (b"\x7fELF\x02", "compiled code"),
            (b"\0asm\x0e\0\x01\0", "version"),
            (b"", "no WASM"),
            (b"\0as", "no WASM"),
        ] {
            let reason = kind(bytes).unwrap_err().reason;
            assert!(reason.contains(word), "{reason}");
        }
    }

    #[test]
    fn versions_are_named_on_both_sides() {
        let wrong = interface("edgeweir:plugin/balancer@2.1.0").unwrap_err();
        assert!(wrong.reason.contains("1.0.0") && wrong.reason.contains("2.1.0"));
        assert_eq!(interface("edgeweir:plugin/balancer@1.0.0"), Ok(Some("balancer")));
        assert_eq!(interface("wasi:io/poll@0.2.0"), Ok(None));
    }
}
