//! The wrapper around `rustc` that the user has set, as Cargo finds it: `RUSTC_WRAPPER`, `CARGO_BUILD_RUSTC_WRAPPER`,
//! then `build.rustc-wrapper` in the files of its configuration. Only one can be set for Cargo, and that is ours.
//!
//! References: "Configuration", in The Cargo Book.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The user's wrapper, where there is one.
pub(super) fn find() -> Result<Option<OsString>> {
    let folder = env::current_dir().context("find the current directory")?;
    // An empty variable removes the wrapper of the configuration.
    let found = match env::var_os("RUSTC_WRAPPER").or_else(|| env::var_os("CARGO_BUILD_RUSTC_WRAPPER")) {
        Some(named) => Some(resolve(&named.to_string_lossy(), &folder)),
        None => configured(&folder, home().as_deref())?,
    };
    Ok(found.filter(|wrapper| !wrapper.is_empty()))
}

/// The folder that Cargo keeps its own files in.
fn home() -> Option<PathBuf> {
    let own = env::var_os("CARGO_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    own.or_else(|| Some(env::home_dir()?.join(".cargo")))
}

/// The nearest configuration that names a wrapper, from a folder upwards; then that in Cargo's own folder.
fn configured(folder: &Path, home: Option<&Path>) -> Result<Option<OsString>> {
    let folders = folder.ancestors().map(|folder| folder.join(".cargo")).chain(home.map(Path::to_owned));
    for folder in folders {
        // Cargo prefers the older name.
        for name in ["config", "config.toml"] {
            let file = folder.join(name);
            let text = match fs::read_to_string(&file) {
                Ok(text) => text,
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => continue,
                Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
            };
            let table: toml::Table = toml::from_str(&text).with_context(|| format!("read {}", file.display()))?;
            let wrapper = table.get("build").and_then(|build| build.get("rustc-wrapper")).and_then(toml::Value::as_str);
            if let Some(wrapper) = wrapper {
                return Ok(Some(resolve(wrapper, folder.parent().unwrap_or(&folder))));
            }
            break;
        }
    }
    Ok(None)
}

/// A name without a slash is looked for in `PATH`; a path is relative to the folder.
fn resolve(wrapper: &str, folder: &Path) -> OsString {
    if wrapper.contains('/') { folder.join(wrapper).into() } else { wrapper.into() }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(configured(&inner, Some(&home)).unwrap(), None);
        configure(&home, "config.toml", "[build]\nrustc-wrapper = \"sccache\"\n");
        assert_eq!(configured(&inner, Some(&home)).unwrap().unwrap(), "sccache");
        configure(&top.join("outer/.cargo"), "config.toml", "build.rustc-wrapper = \"tools/wrap\"\n");
        assert_eq!(configured(&inner, Some(&home)).unwrap().unwrap(), *top.join("outer/tools/wrap"));
        configure(&inner.join(".cargo"), "config.toml", "[build]\njobs = 1\n");
        assert_eq!(configured(&inner, Some(&home)).unwrap().unwrap(), *top.join("outer/tools/wrap"));
        configure(&inner.join(".cargo"), "config", "[build]\nrustc-wrapper = \"\"\n");
        assert_eq!(configured(&inner, Some(&home)).unwrap().unwrap(), "");
        fs::remove_dir_all(&top).unwrap();
    }
}
