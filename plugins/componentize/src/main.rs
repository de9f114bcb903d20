//! Core modules to components, for `build.sh`.
//!
//! ```text
//! componentize IN OUT                     a core module with types in it, as wit-bindgen makes
//! componentize IN OUT --wit DIR --world W a bare core module that follows the canonical ABI
//! componentize IN OUT --core              text to binary, nothing more
//! ```
//!
//! IN is binary, or the text format if its name ends in `.wat`. Writes OUT only if it differs, so
//! that a second build changes no time stamp.

use std::{env, fs, path::Path, process::ExitCode};

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        [input, output] => component(input, None).and_then(|bytes| write(output, &bytes)),
        [input, output, "--core"] => core(input).and_then(|bytes| write(output, &bytes)),
        [input, output, "--wit", wit, "--world", world] => {
            component(input, Some((wit, world))).and_then(|bytes| write(output, &bytes))
        }
        _ => Err("usage: componentize IN OUT [--core | --wit DIR --world NAME]".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("componentize: {error}");
            ExitCode::FAILURE
        }
    }
}

fn core(input: &str) -> Result<Vec<u8>> {
    wat::parse_file(input).map_err(|error| error.to_string())
}

fn component(input: &str, types: Option<(&str, &str)>) -> Result<Vec<u8>> {
    let say = |what: &str, error: &dyn std::fmt::Debug| format!("{what}: {error:?}");
    let mut module = core(input)?;
    if let Some((wit, world)) = types {
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_path(wit).map_err(|error| say(wit, &error))?;
        let world = resolve.select_world(&[package], Some(world)).map_err(|e| say(world, &e))?;
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
            .map_err(|error| say(input, &error))?;
    }
    ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(|encoder| encoder.encode())
        .map(|bytes| without_names(&bytes).unwrap_or(bytes))
        .map_err(|error| say(input, &error))
}

/// The component without the sections that only name things: some 2 KB that nobody reads. None: its
/// sections cannot be told apart.
fn without_names(component: &[u8]) -> Option<Vec<u8>> {
    let (start, mut rest) = component.split_at_checked(8)?;
    let mut kept = start.to_vec();
    while let Some((id, behind)) = rest.split_first() {
        let (mut length, mut digits) = (0_usize, 0);
        loop {
            let digit = *behind.get(digits)?;
            length |= usize::from(digit & 0x7f).checked_shl(7 * digits as u32)?;
            digits += 1;
            if digit & 0x80 == 0 {
                break;
            }
        }
        let (section, next) = rest.split_at_checked(1 + digits + length)?;
        if *id != 0 {
            kept.extend_from_slice(section);
        }
        rest = next;
    }
    Some(kept)
}

fn write(output: &str, bytes: &[u8]) -> Result<()> {
    if fs::read(output).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let folder = Path::new(output).parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let fresh = format!("{output}.new");
    fs::write(&fresh, bytes).map_err(|error| format!("{fresh}: {error}"))?;
    fs::rename(&fresh, output).map_err(|error| format!("{output}: {error}"))
}
