//! The verdicts on programs for `aarch64`, compared with those for `x86_64`:
//! `cargo test -p cargo-netns-check --test aarch64 -- --ignored`.
//!
//! The tests need the standard library for the target, and a linker: `aarch64-linux-gnu-gcc`, unless the variable of
//! Cargo names another.

mod common;

use std::path::Path;
use std::process::Output;

use common::{bodies, complaint, folder, report, steps};
use serde_json::Value;

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER";

/// The check, in a workspace, for one target.
fn check(workspace: &str, target: &str) -> Output {
    let name = Path::new(workspace).file_name().unwrap();
    let linker = std::env::var(LINKER).unwrap_or_else(|_| "aarch64-linux-gnu-gcc".to_owned());
    std::process::Command::new(env!("CARGO_BIN_EXE_cargo-netns-check"))
        .args(["netns-check", "--format", "json", "--target", target])
        .current_dir(folder(workspace))
        .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("aarch64").join(name))
        .env(LINKER, linker)
        .env_remove("RUSTFLAGS")
        .output()
        .expect("cargo-netns-check should run")
}

fn judged(workspace: &str, target: &str) -> Value {
    let output = check(workspace, target);
    assert_eq!(output.status.code(), Some(0), "{target}: {}", complaint(&output));
    report(&output)
}

/// What a report says of a body.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Said {
    name: String,
    line: Option<u64>,
    verdicts: Vec<String>,
    notes: Vec<String>,
    /// Of each finding the sinks and the path.
    findings: Vec<(Vec<String>, Vec<String>)>,
}

fn said(body: &Value) -> Said {
    let list = |value: &Value| {
        let texts = value.as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_owned).collect::<Vec<_>>()
    };
    let findings = body["findings"].as_array().expect("a body has findings").iter();
    Said {
        name: body["name"].as_str().expect("a body has a name").to_owned(),
        line: body["line"].as_u64(),
        verdicts: list(&body["verdicts"]),
        notes: list(&body["notes"]),
        findings: findings.map(|finding| (list(&finding["sinks"]), steps(finding))).collect(),
    }
}

/// The bodies of two reports, in pairs; each of the first has to have one in the second.
fn paired<'r>(here: &'r Value, there: &'r Value) -> Vec<(&'r Value, &'r Value)> {
    let (mut here, mut there) = (bodies(here), bodies(there));
    for bodies in [&mut here, &mut there] {
        bodies.sort_by_key(|body| said(body));
    }
    let names = |bodies: &[&Value]| bodies.iter().map(|body| said(body).name).collect::<Vec<_>>();
    assert_eq!(names(&here), names(&there));
    here.into_iter().zip(there).collect()
}

#[test]
#[ignore = "builds for aarch64: needs Rust's standard library for it, and a linker"]
fn a_small_program_has_the_same_verdicts_and_paths() {
    let (here, there) = (judged("tests/small", "x86_64-unknown-linux-gnu"), judged("tests/small", TARGET));
    let pairs = paired(&here, &there);
    assert_eq!(pairs.len(), 13);
    for (here, there) in pairs {
        assert_eq!(said(here), said(there));
    }
}

#[test]
#[ignore = "builds the real libraries for two architectures: needs that linker, the registry, and minutes"]
fn as_many_bodies_of_the_sample_as_reported_have_the_same_verdicts_and_paths() {
    let (here, there) = (judged("sample", "x86_64-unknown-linux-gnu"), judged("sample", TARGET));
    let pairs = paired(&here, &there);
    let (same, other): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|(here, there)| said(here) == said(there));
    for (here, there) in &other {
        println!("x86_64: {here:#}\naarch64: {there:#}");
    }
    let score = format!("{} of {}", same.len(), same.len() + other.len());
    println!("the same: {score}");
    let readme = std::fs::read_to_string(folder("README.md")).unwrap();
    let reported = format!("**{score}** bodies have the verdicts and paths of `x86_64`");
    assert!(readme.contains(&reported), "README.md does not report {score}");
}
