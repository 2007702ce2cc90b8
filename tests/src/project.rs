//! A separate crate, built by cargo, for tests that depend on a whole build, such as its panic strategy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A crate that depends only on the runtime.
pub struct Project {
    directory: PathBuf,
}

impl Project {
    /// Writes the manifest into `scratch`, a test's `CARGO_TARGET_TMPDIR`. `sections` are appended to it; paths in it
    /// are relative to the tests' folder.
    pub fn write(scratch: &str, name: &str, sections: &str) -> Project {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let directory = Path::new(scratch).join(name);
        fs::create_dir_all(&directory).expect("the target directory is ours");
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2021\"\n{}\n\
             [dependencies]\nin-netns = {{ path = '{}' }}\n[workspace]\n",
            sections.replace("TESTS", &here.display().to_string()),
            here.join("../runtime").display(),
        );
        fs::write(directory.join("Cargo.toml"), manifest).expect("a manifest");
        // Uses the versions that are already available.
        fs::copy(here.join("../Cargo.lock"), directory.join("Cargo.lock")).expect("a lock file");
        Project { directory }
    }

    /// Returns `cargo COMMAND` for this crate, without network access.
    pub fn cargo(&self, command: &str) -> Command {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args([command, "--offline", "--manifest-path"]).arg(self.directory.join("Cargo.toml"));
        // All projects share one directory, so that their dependencies are built once.
        cargo.env("CARGO_TARGET_DIR", self.directory.with_file_name("projects"));
        cargo.envs([("CARGO_PROFILE_DEV_DEBUG", "none"), ("CARGO_INCREMENTAL", "0")]);
        cargo
    }

    /// Runs a cargo command that builds, and returns the path of the program that it built.
    pub fn build(&self, command: &str, arguments: &[&str]) -> String {
        let built = self.cargo(command).args(arguments).arg("--message-format=json").output().expect("cargo runs");
        let messages = String::from_utf8_lossy(&built.stdout);
        assert!(built.status.success(), "{messages}{}", String::from_utf8_lossy(&built.stderr));
        let (_, rest) = messages.rsplit_once("\"executable\":\"").expect("the path of the program");
        rest.split('"').next().unwrap_or_default().to_owned()
    }
}
