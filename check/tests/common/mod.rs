//! Running the check as a user does, and reading its report.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A folder beside this file's.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A workspace of the tests' own, in the folder of that name: one package with a program of one file, and other files.
pub(crate) fn package(name: &str, manifest: &str, program: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let package = folder.file_name().unwrap().display();
    let manifest =
        format!("[workspace]\n[package]\nname = \"{package}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n{manifest}");
    for (path, text) in [("Cargo.toml", manifest.as_str()), ("src/main.rs", program)].iter().chain(files) {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// The check, in the workspace in `folder`, with a build directory of the tests' own.
pub(crate) fn check(folder: &Path, arguments: &[&str]) -> Output {
    check_in(folder.file_name().unwrap().to_str().unwrap(), folder, arguments)
}

/// The check, with the build directory of that name, which several workspaces may share.
pub(crate) fn check_in(target: &str, folder: &Path, arguments: &[&str]) -> Output {
    command(target, folder, arguments).output().expect("cargo-netns-check should run")
}

/// The command of such a check.
pub(crate) fn command(target: &str, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cargo-netns-check"));
    command
        .arg("netns-check")
        .args(arguments)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join(target))
        .env_remove("RUSTFLAGS");
    command
}

/// What it wrote to its standard error.
pub(crate) fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Its report, where it wrote one.
pub(crate) fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: no report\n{}", complaint(output)))
}

/// Every body of a report.
pub(crate) fn bodies(report: &Value) -> Vec<&Value> {
    let programs = report["programs"].as_array().expect("a report has programs");
    programs.iter().flat_map(|program| program["bodies"].as_array().expect("a program has bodies")).collect()
}

/// The function that a body is written in: the last segment of its path that is no closure.
pub(crate) fn function(body: &Value) -> String {
    // Without what is a constant character.
    let name = body["name"].as_str().expect("a body has a name").replace("'>'", "");
    let mut depth = 0;
    let mut plain = String::new();
    for c in name.chars() {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            _ if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    plain
        .rsplit("::")
        .find(|segment| !segment.is_empty() && !segment.starts_with("{closure"))
        .expect("a path has segments")
        .to_owned()
}

/// The verdicts of a body, in the order of the report.
pub(crate) fn verdicts(body: &Value) -> Vec<&str> {
    body["verdicts"].as_array().expect("a body has verdicts").iter().filter_map(Value::as_str).collect()
}

/// What a path says, step by step: how the function is reached, then the function.
pub(crate) fn steps(finding: &Value) -> Vec<String> {
    let path = finding["path"].as_array().expect("a finding has a path");
    path.iter().flat_map(|step| [step["by"].as_str(), step["function"].as_str()]).flatten().map(str::to_owned).collect()
}
