//! Code for an image: plugins compiled where the image is made, for builds without a compiler.
//!
//! Machine code is made on a machine of its kind (or under qemu-user); bytecode of the interpreter
//! anywhere. Not in here: what a gateway takes from an image (`cache`).

use std::path::{Path, PathBuf};

use super::{
    Refusal,
    cache::{Files, hash},
    child::{Bounds, compile},
    engine::Code,
    inspect,
};

/// Compiles a component into a directory; the file's place is returned. `program` is this program.
///
/// # Errors
/// [`Refusal`]: no component, what the compiler says, or a directory that cannot be written to.
pub fn compile_into(
    dir: &Path,
    program: &Path,
    code: Code,
    wasm: &[u8],
) -> Result<PathBuf, Refusal> {
    inspect::kind(wasm).map_err(|unfit| Refusal::new("kind", unfit.reason, unfit.remedy))?;
    let compiled = compile(program, code, wasm, &Bounds::default())
        .map_err(|reason| Refusal::new("compile", reason, "run `edgeweir plugin check` on it"))?;
    let (files, of) = (Files::of_image(dir.to_owned()), hash(wasm));
    files.store_code(&of, code, &compiled).map_err(|error| {
        let reason = format!("cannot write to {}: {error}", dir.display());
        Refusal::new("files", reason, "name another directory with --to")
    })?;
    Ok(files.code_path(&of, code))
}
