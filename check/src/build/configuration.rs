//! The files of Cargo's configuration.
//!
//! References: "Configuration", in The Cargo Book.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// One file, and the folder that its paths are relative to.
pub(super) struct File {
    pub folder: PathBuf,
    pub settings: toml::Table,
}

/// The files for the current directory, the nearest first.
pub(super) fn files() -> Result<Vec<File>> {
    let folder = env::current_dir().context("find the current directory")?;
    files_for(&folder, home().as_deref())
}

/// The folder of Cargo's own files.
fn home() -> Option<PathBuf> {
    let own = env::var_os("CARGO_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    own.or_else(|| Some(env::home_dir()?.join(".cargo")))
}

/// The files from a folder upwards, then the one in Cargo's own folder.
pub(super) fn files_for(folder: &Path, home: Option<&Path>) -> Result<Vec<File>> {
    let folders = folder.ancestors().map(|folder| folder.join(".cargo")).chain(home.map(Path::to_owned));
    let mut files = Vec::new();
    for folder in folders {
        // Cargo prefers the older name.
        for name in ["config", "config.toml"] {
            let file = folder.join(name);
            let text = match fs::read_to_string(&file) {
                Ok(text) => text,
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => continue,
                Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
            };
            let settings = toml::from_str(&text).with_context(|| format!("read {}", file.display()))?;
            files.push(File { folder: folder.parent().unwrap_or(&folder).to_owned(), settings });
            break;
        }
    }
    Ok(files)
}
