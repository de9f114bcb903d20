//! `edgeweir flash format` and `edgeweir flash info`, as functions that return what to print.
//!
//! Not in here: arguments and printing.

use std::path::Path;

use super::{
    device,
    store::{Info, Store, StoreError},
};
use crate::config::cli::CliError;

/// `edgeweir flash format FILE_OR_DEVICE [--size BYTES] [--force]`
///
/// # Errors
/// [`CliError::Store`]: it has content and `force` is not given, it is in use, no store can have
/// its size or geometry, it cannot be written.
pub fn format(path: &Path, size: Option<u32>, force: bool) -> Result<String, CliError> {
    let fail = |error| CliError::Store { path: path.display().to_string(), error };
    let nor = device::create(path, size, force).map_err(fail)?;
    let info = Store::format(nor).and_then(|mut store| store.info()).map_err(fail)?;
    Ok(format!(
        "{}: an empty store of {} KiB, {} pages of {} KiB\n",
        path.display(),
        info.size / 1024,
        info.pages,
        info.page_size / 1024
    ))
}

/// `edgeweir flash info FILE [--json]`
///
/// # Errors
/// [`CliError::Store`].
pub fn info(path: &Path, json: bool) -> Result<String, CliError> {
    let fail = |error| CliError::Store { path: path.display().to_string(), error };
    let info = Store::open_path(path).and_then(|mut store| store.info()).map_err(fail)?;
    if !json {
        return Ok(table(&info));
    }
    let text = serde_json::to_string_pretty(&info)
        .map_err(|error| fail(StoreError::Bug(error.to_string())))?;
    Ok(text + "\n")
}

fn table(info: &Info) -> String {
    let stored: String =
        info.stored.iter().map(|line| format!("stored           {line}\n")).collect();
    format!(
        "store version    {}\n\
         size             {} KiB\n\
         erase block      {} KiB\n\
         pages            {} of {} KiB\n\
         in use           {} bytes\n\
         configurations   {}, the newest is number {}\n\
         pages erased     {}, {} for each page\n\
         bad blocks       {}\n\
         locked blocks    {} when it was opened, {} now\n\
         {stored}",
        info.version,
        info.size / 1024,
        info.erase_size / 1024,
        info.pages,
        info.page_size / 1024,
        info.used,
        info.configs,
        info.config_sequence,
        info.pages_erased,
        info.pages_erased / info.pages.max(1),
        info.bad_blocks.len(),
        info.locked_found,
        info.locked,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flash::tests::Scratch;

    #[test]
    fn a_store_is_made_once_and_described() {
        let scratch = Scratch::new("flash-cli");
        let path = scratch.path("f");
        assert!(format(&path, Some(1000), false).is_err());
        let told = format(&path, None, false).unwrap();
        assert!(told.ends_with("an empty store of 1024 KiB, 16 pages of 64 KiB\n"), "{told}");
        let told = format(&path, None, false).unwrap_err().to_string();
        assert!(told.contains("--force"), "{told}");
        format(&path, Some(2 << 20), true).unwrap();
        assert!(info(&path, false).unwrap().contains("pages            32 of 64 KiB"));
        Store::open_path(&path).unwrap().save_config(&Default::default()).unwrap();
        let told = info(&path, false).unwrap();
        let format = crate::config::image::FORMAT;
        assert!(told.contains(&format!("stored           configuration 1, format {format}, ")));
        let json: serde_json::Value = serde_json::from_str(&info(&path, true).unwrap()).unwrap();
        assert_eq!(json["pages"], 32);
        std::fs::write(&path, b"no").unwrap();
        let told = info(&path, false).unwrap_err().to_string();
        assert!(told.ends_with("not a store, make one with `edgeweir flash format`"), "{told}");
    }
}
