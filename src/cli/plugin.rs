//! `edgeweir plugin install|list|rollback|remove`: through the control socket of the running gateway;
//! `plugin compile`, without one.
//!
//! Not in here: checking a component without a gateway.

use std::{fs::File, io::Read as _, path::Path};

use hyper::Method;

use super::{Failure, args::Call, print, screen, terminal};
use crate::{
    control::model::PluginStatus,
    limits::{PLUGIN_KIB_MAX, PLUGIN_SIGNATURE_MAX_BYTES},
};

/// Does one of the commands; `word` is the one behind `plugin`.
///
/// # Errors
/// As the command says.
pub fn run(word: &str, call: &Call) -> Result<(), Failure> {
    match word {
        "install" => install(call),
        "rollback" => {
            let place = format!("/v1/plugins/{}/rollback", slot(call, call.operand_text(0)?)?);
            print(&(call.client().change(Method::POST, &place, String::new())? + "\n"))
        }
        "remove" => {
            let place = format!("/v1/plugins/{}", slot(call, call.operand_text(0)?)?);
            print(&(call.client().change(Method::DELETE, &place, String::new())? + "\n"))
        }
        _ => list(call),
    }
}

fn install(call: &Call) -> Result<(), Failure> {
    let name = call.text("slot")?.ok_or_else(|| call.wrong("--slot NAME is missing"))?;
    let name = slot(call, name)?;
    let component = read(&call.operand_file(0)?, usize::from(PLUGIN_KIB_MAX) * 1024)?;
    let signature = match call.path("signature") {
        Some(file) => {
            let bytes = read(&file, PLUGIN_SIGNATURE_MAX_BYTES)?;
            let text = String::from_utf8(bytes);
            Some(text.map_err(|_| Failure::Failed(format!("{}: is no text", file.display())))?)
        }
        None => None,
    };
    let mut options = Vec::new();
    if let Some(serial) = call.number("serial", 1..=u64::MAX)? {
        options.push(format!("serial={serial}"));
    }
    if call.has("force") {
        options.push("force=1".to_owned());
    }
    let query = if options.is_empty() { String::new() } else { format!("?{}", options.join("&")) };
    let done = call.client().install(name, &query, component, signature.as_deref())?;
    if call.has("json") {
        let text = serde_json::to_string(&done).map_err(|wrong| wrong.to_string())?;
        return print(&(text + "\n"));
    }
    let mut text = format!("{}\n", done.changed);
    for phase in &done.phases {
        text.push_str(&format!("  {:<12} {} ms\n", phase.name, screen::decimal(phase.us, 1000)));
    }
    print(&text)
}

/// `plugin compile`: code for an image.
///
/// # Errors
/// A file that cannot be read, or the refusal of the compiler.
#[cfg(feature = "compiler")]
pub fn compile(call: &Call) -> Result<(), Failure> {
    use crate::plugin::{Code, image};
    let to = call.path("to").ok_or_else(|| call.wrong("--to DIR is missing"))?;
    let name = call.text("code")?.unwrap_or("native");
    let code = Code::from_name(name)
        .ok_or_else(|| call.wrong(&format!("--code {name}: native, pulley32 or pulley64")))?;
    let file = call.operand_file(0)?;
    let wasm = read(&file, usize::from(PLUGIN_KIB_MAX) * 1024)?;
    let program = Path::new("/proc/self/exe");
    let written = image::compile_into(&to, program, code, &wasm)
        .map_err(|refusal| Failure::Failed(format!("{}: {refusal}", file.display())))?;
    print(&format!("{}\n", written.display()))
}

fn list(call: &Call) -> Result<(), Failure> {
    let client = call.client();
    if call.has("json") {
        return print(&client.read_text("/v1/plugins")?);
    }
    let plugins: Vec<PluginStatus> = client.read("/v1/plugins")?;
    let width = terminal::size().map_or(usize::MAX, |(width, _)| width);
    print(&screen::plugin_list(&plugins, width, terminal::colour()))
}

/// A slot's name, which becomes a part of a path.
fn slot<'a>(call: &Call, name: &'a str) -> Result<&'a str, Failure> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !name.is_empty() && name.bytes().all(plain) {
        return Ok(name);
    }
    Err(call.wrong(&format!("`{name}` is no name of a slot: see `edgeweir plugin list`")))
}

pub(super) fn read(file: &Path, most: usize) -> Result<Vec<u8>, Failure> {
    let name = file.display();
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|file| file.take(most as u64 + 1).read_to_end(&mut bytes))
        .map_err(|wrong| Failure::Failed(format!("{name}: {wrong}")))?;
    if bytes.len() > most {
        return Err(Failure::Failed(format!("{name}: too large, allowed are {most} bytes")));
    }
    Ok(bytes)
}
