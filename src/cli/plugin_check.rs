//! `edgeweir plugin check`: what a gateway would see of a component, without a gateway.
//!
//! The component goes through everything that an install does before it swaps, once as machine code
//! and once interpreted, with the same made-up messages. Nothing is stored.

use std::{path::PathBuf, sync::Arc};

use serde::Serialize;

use super::{
    Failure,
    args::Call,
    print,
    table::{self, Column},
    terminal,
};
use crate::{
    config::secrets::Secrets,
    limits::{PLUGIN_CONFIG_MAX_BYTES, PLUGIN_KIB_MAX},
    plugin::{Code, Forget, Host, Places, Refusal, Report, Rules, Upload},
    proxy::read_secrets,
};

/// What was found, on each kind of code.
#[derive(Debug, Serialize)]
struct Found {
    native: Report,
    pulley: Report,
}

/// Does the command.
///
/// # Errors
/// The refusal that an install would give, or a file that cannot be read.
pub fn run(call: &Call) -> Result<(), Failure> {
    let file = call.operand_file(0)?;
    let component = super::plugin::read(&file, usize::from(PLUGIN_KIB_MAX) * 1024)?;
    let config = match call.text("config")? {
        None => "{}".to_owned(),
        Some(text) => json_object(call, text)?,
    };
    let secrets = match call.path("secrets") {
        Some(file) => Arc::new(read_secrets(&file).map_err(Failure::Failed)?),
        None => Arc::default(),
    };
    let [native, pulley] =
        [Code::Native, Code::PULLEY].map(|code| check(code, &component, &config, &secrets));
    let refused = |refusal: Refusal| Failure::Failed(format!("{}: {refusal}", file.display()));
    let found = Found { native: native.map_err(refused)?, pulley: pulley.map_err(refused)? };
    if call.has("json") {
        let text = serde_json::to_string(&found).map_err(|wrong| wrong.to_string())?;
        return print(&(text + "\n"));
    }
    let width = terminal::size().map_or(usize::MAX, |(width, _)| width);
    print(&page(&found, width))
}

/// The configuration: JSON, or `@FILE` with JSON.
fn json_object(call: &Call, text: &str) -> Result<String, Failure> {
    let text = match text.strip_prefix('@') {
        None => text.to_owned(),
        Some(file) => {
            let bytes = super::plugin::read(file.as_ref(), PLUGIN_CONFIG_MAX_BYTES)?;
            String::from_utf8(bytes).map_err(|_| Failure::Failed(format!("{file}: is no text")))?
        }
    };
    match serde_json::from_str::<serde_json::Map<_, _>>(&text) {
        // As a gateway would hand it over: without spaces and comments.
        Ok(object) => Ok(serde_json::Value::Object(object).to_string()),
        Err(wrong) => Err(call.wrong(&format!("--config is no JSON object: {wrong}"))),
    }
}

fn check(
    code: Code,
    component: &[u8],
    config: &str,
    secrets: &Arc<Secrets>,
) -> Result<Report, Refusal> {
    let places = Places { code, ..Places::new(PathBuf::from("/nonexistent")) };
    let host = Host::new(places, Box::new(Forget));
    host.set_rules(Rules { max_kib: PLUGIN_KIB_MAX, ..Rules::default() });
    host.set_secrets(Arc::clone(secrets));
    host.check(Upload { wasm: component, signature: None, serial: None, force: true, config })
}

fn page(found: &Found, width: usize) -> String {
    let Found { native, pulley } = found;
    let list = |names: &[String]| {
        if names.is_empty() { "nothing".to_owned() } else { names.join(" ") }
    };
    let mut text = format!(
        "{} {}, {} bytes\nexports   {}\nimports   {}\n",
        table::clean(&native.name),
        table::clean(&native.version),
        native.bytes,
        native.hooks.join(" "),
        list(&native.imports),
    );
    if native.hooks.contains(&"filter") {
        text.push_str(&format!("requests  {}\n", list(&native.requests)));
        text.push_str(&format!("answers   {}\n", list(&native.answers)));
    }
    text.push('\n');
    for line in table::lines(&COSTS, &costs(native, pulley), width) {
        text.push_str(&(line + "\n"));
    }
    text.push('\n');
    for line in table::lines(&SAMPLES, &samples(native, pulley), width) {
        text.push_str(&(line + "\n"));
    }
    text
}

const COSTS: [Column; 3] =
    [Column::text("ONCE"), Column::number("NATIVE"), Column::number("PULLEY")];

fn costs(native: &Report, pulley: &Report) -> Vec<Vec<String>> {
    let compile = |report: &Report| {
        let phase = report.phases.iter().find(|phase| phase.phase == "compile");
        phase.map_or(0, |phase| phase.us * 1000)
    };
    let kib = |bytes: usize| format!("{} KiB", bytes.div_ceil(1024));
    let row =
        |name: &str, of: &dyn Fn(&Report) -> String| vec![name.to_owned(), of(native), of(pulley)];
    vec![
        row("compile", &|report| time(compile(report))),
        row("code", &|report| kib(report.code_bytes)),
        row("make an instance", &|report| time(report.costs.instance_ns)),
        row("init", &|report| time(report.costs.init_ns)),
        row("probe", &|report| time(report.costs.probe_ns)),
        row("memory", &|report| kib(report.costs.memory_bytes)),
    ]
}

const SAMPLES: [Column; 6] = [
    Column::text("HOOK"),
    Column::text("ASKED"),
    Column::text("SAYS").elastic(),
    Column::number("NATIVE"),
    Column::number("PULLEY"),
    Column::number("MEMORY").rank(1),
];

fn samples(native: &Report, pulley: &Report) -> Vec<Vec<String>> {
    let rows = native.samples.iter().zip(&pulley.samples).map(|(native, pulley)| {
        // Chance and clocks apart, both say the same.
        let says = if native.verdict == pulley.verdict {
            native.verdict.clone()
        } else {
            format!("{}; interpreted: {}", native.verdict, pulley.verdict)
        };
        vec![
            native.hook.to_owned(),
            native.subject.to_owned(),
            says,
            time(native.mean_ns),
            time(pulley.mean_ns),
            format!("{} KiB", native.memory_bytes.div_ceil(1024)),
        ]
    });
    rows.collect()
}

/// A duration for people.
fn time(ns: u64) -> String {
    match ns {
        0..10_000 => format!("{}.{:02} us", ns / 1000, ns % 1000 / 10),
        10_000..10_000_000 => format!("{} us", ns / 1000),
        _ => format!("{} ms", ns / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_that_fits() {
        let shown = [0, 994, 9_999, 10_000, 9_999_999, 10_000_000].map(time);
        assert_eq!(shown, ["0.00 us", "0.99 us", "9.99 us", "10 us", "9999 us", "10 ms"]);
    }
}
