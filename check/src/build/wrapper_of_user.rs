//! The wrapper around `rustc` that the user has set, as Cargo finds it: `RUSTC_WRAPPER`, `CARGO_BUILD_RUSTC_WRAPPER`,
//! then `build.rustc-wrapper` in the files of its configuration. Only one can be set for Cargo, and that is ours.
//!
//! References: "Configuration", in The Cargo Book.

use std::env;
use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::configuration::{self, File};

/// The user's wrapper, where there is one.
pub(super) fn find() -> Result<Option<OsString>> {
    // An empty variable removes the wrapper of the configuration.
    let found = match env::var_os("RUSTC_WRAPPER").or_else(|| env::var_os("CARGO_BUILD_RUSTC_WRAPPER")) {
        Some(named) => {
            let folder = env::current_dir().context("find the current directory")?;
            Some(resolve(&named.to_string_lossy(), &folder))
        }
        None => configured(&configuration::files()?),
    };
    Ok(found.filter(|wrapper| !wrapper.is_empty()))
}

/// The wrapper of the nearest file that names one.
fn configured(files: &[File]) -> Option<OsString> {
    files.iter().find_map(|File { folder, settings }| {
        let wrapper = settings.get("build")?.get("rustc-wrapper")?.as_str()?;
        Some(resolve(wrapper, folder))
    })
}

/// Resolves a path relative to the folder. A name without a slash is left for a search in `PATH`.
fn resolve(wrapper: &str, folder: &Path) -> OsString {
    if wrapper.contains('/') { folder.join(wrapper).into() } else { wrapper.into() }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_nearest_configuration_names_the_wrapper() {
        let top = env::temp_dir().join(format!("netns-check-wrapper-{}", std::process::id()));
        let (inner, home) = (top.join("outer/inner"), top.join("home"));
        let configure = |folder: &Path, name: &str, text: &str| {
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join(name), text).unwrap();
        };
        fs::create_dir_all(&inner).unwrap();
        let configured = || configured(&configuration::files_for(&inner, Some(&home)).unwrap());
        assert_eq!(configured(), None);
        configure(&home, "config.toml", "[build]\nrustc-wrapper = \"sccache\"\n");
        assert_eq!(configured().unwrap(), "sccache");
        configure(&top.join("outer/.cargo"), "config.toml", "build.rustc-wrapper = \"tools/wrap\"\n");
        assert_eq!(configured().unwrap(), *top.join("outer/tools/wrap"));
        configure(&inner.join(".cargo"), "config.toml", "[build]\njobs = 1\n");
        assert_eq!(configured().unwrap(), *top.join("outer/tools/wrap"));
        configure(&inner.join(".cargo"), "config", "[build]\nrustc-wrapper = \"\"\n");
        assert_eq!(configured().unwrap(), "");
        fs::remove_dir_all(&top).unwrap();
    }
}
