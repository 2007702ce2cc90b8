//! The check on a program without dependencies: verdicts, refusals, exit status.

mod common;

use std::fs;
use std::path::Path;

use common::{bodies, check, command, complaint, folder, function, report, steps, verdicts};
use serde_json::Value;

fn small(arguments: &[&str]) -> std::process::Output {
    check(&folder("tests/small"), arguments)
}

/// The check on the program that has several profiles.
fn profiles(arguments: &[&str]) -> std::process::Output {
    check(&folder("tests/profiles"), arguments)
}

fn body<'r>(report: &'r Value, name: &str) -> &'r Value {
    let found: Vec<_> = bodies(report).into_iter().filter(|body| function(body) == name).collect();
    assert_eq!(found.len(), 1, "bodies of {name}");
    found[0]
}

#[test]
fn bodies_are_found_and_judged() {
    let output = small(&["--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    let report = report(&output);
    for (name, expected) in [
        ("clean", ["CLEAN"]),
        ("spawns", ["SPAWN"]),
        ("scoped", ["SCOPED"]),
        ("weak", ["CLEAN"]),
        ("unknown", ["UNKNOWN"]),
        ("watch_over", ["SPAWN"]),
        ("opaque", ["UNKNOWN"]),
        ("loads", ["UNKNOWN"]),
        ("wrapped", ["SPAWN"]),
        ("main", ["SPAWN"]),
        ("boxed", ["SPAWN"]),
        ("probes", ["SPAWN"]),
        ("probes_error", ["SPAWN"]),
        ("within", ["SPAWN"]),
    ] {
        assert_eq!(verdicts(body(&report, name)), expected, "{name}");
    }
    assert_eq!(bodies(&report).len(), 16);
    for body in bodies(&report) {
        assert!(body["file"].as_str().unwrap().ends_with("src/main.rs"), "{body}");
    }
    let spawn = &body(&report, "spawns")["findings"][0];
    let place = &spawn["path"][0];
    assert!(place["file"].as_str().unwrap().ends_with("src/main.rs"), "{place}");
    assert_eq!(place["line"], 13);
    assert_eq!(steps(spawn).last().unwrap(), "pthread_create");
    let unknown = body(&report, "unknown")["findings"][0]["says"].as_str().unwrap();
    assert!(unknown.contains("`what: "), "{unknown}");
    let opaque = body(&report, "opaque")["findings"][0]["says"].as_str().unwrap();
    assert!(opaque.contains("`fn() -> u32`"), "{opaque}");
}

#[test]
fn objects_that_an_incremental_build_uses_again_keep_their_debug_information() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reused");
    fs::create_dir_all(folder.join("src")).unwrap();
    let manifest = "[workspace]\n[package]\nname = \"reused\"\nedition = \"2024\"\n";
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    fs::write(folder.join("src/main.rs"), include_str!("data/incremental.rs")).unwrap();
    let target = folder.join("target");
    let built = |value: u32| {
        let changes = format!("pub(crate) fn changes() -> u32 {{\n    {value}\n}}\n");
        fs::write(folder.join("src/changes.rs"), changes).unwrap();
        let mut command = command("reused/target", &folder, &["--format", "json"]);
        let output = command.env("CARGO_INCREMENTAL", "1").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
        let files = fs::read_dir(target.join("netns-check/debug/deps")).unwrap();
        let paths = files.map(|file| file.unwrap().path());
        let files: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "dwo")).collect();
        (report(&output), files)
    };
    let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    let (before, files_before) = built(started);
    assert_eq!(verdicts(body(&before, "waits")), ["AWAIT"]);
    assert_eq!(body(&before, "starts")["line"], 27);
    let (after, files_after) = built(started + 1);
    assert_eq!(before["programs"], after["programs"]);
    assert!(!files_before.is_empty());
    assert_eq!(files_before.len(), files_after.len(), "{files_before:?} {files_after:?}");
}

#[test]
fn a_test_is_no_part_of_its_body() {
    let output = small(&["--test", "beside", "--format", "json"]);
    let report = report(&output);
    let body = body(&report, "starts_a_thread_beside_its_body");
    assert_eq!(verdicts(body), ["CLEAN"]);
    assert_eq!(body["line"], 10);
}

#[test]
fn an_allowance_holds_for_its_own_way_only() {
    let output = small(&["--format", "json"]);
    let report = report(&output);
    let allowed = &body(&report, "allowed")["findings"][0];
    assert_eq!(allowed["allowed"], "the watcher ends with the process");
    let half = &body(&report, "half_allowed")["findings"][0];
    assert_eq!(half["allowed"], Value::Null);
    assert!(steps(half).iter().any(|step| step == "small::listen"), "{half}");
    assert_eq!(report["unused_allowances"], serde_json::json!(["SPAWN for `small::gone::*`"]));
}

#[test]
fn a_denied_verdict_is_an_exit_status_of_its_own() {
    let output = small(&["--deny", "handover,spawn,spawn"]);
    assert_eq!(output.status.code(), Some(1), "{}", complaint(&output));
    assert!(complaint(&output).contains("denied (SPAWN)"), "{}", complaint(&output));
    let output = small(&["--deny", "handover,channel"]);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    let output = small(&["--deny", "spawn", "--body", "small::allowed"]);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
}

#[test]
fn a_reader_that_stops_changes_no_verdict() {
    for (arguments, status) in [(&["--deny", "spawn"][..], 1), (&["--format", "json"], 0), (&["--print-sinks"], 0)] {
        let mut command = command("small", &folder("tests/small"), arguments);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command.stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}", complaint(&output));
        assert!(!complaint(&output).contains("pipe"), "{}", complaint(&output));
    }
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command("small", &folder("tests/small"), &[]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", complaint(&output));
}

#[test]
fn the_report_has_no_colours_unless_asked_for() {
    let plain = String::from_utf8(small(&["--quiet"]).stdout).unwrap();
    assert!(plain.contains("SPAWN  small::spawns") && !plain.contains('\u{1b}'), "{plain}");
    let coloured = String::from_utf8(small(&["--quiet", "--color", "always"]).stdout).unwrap();
    assert!(coloured.contains('\u{1b}'), "{coloured}");
}

#[test]
fn a_sink_taken_out_of_the_table_is_a_tool_error_and_no_clean_verdict() {
    for sink in ["threads", "scoped-threads", "std-channel"] {
        let table = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("without-{sink}.toml"));
        fs::write(&table, format!("remove = [\"{sink}\"]")).unwrap();
        let output = small(&["--sinks", table.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2), "{sink}");
        assert!(complaint(&output).contains(&format!("the canary of `{sink}` was missed")), "{}", complaint(&output));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_call_whose_body_is_not_found_is_a_tool_error() {
    let table = Path::new(env!("CARGO_TARGET_TMPDIR")).join("unknown-call.toml");
    let canary =
        "[[canary]]\nsink = 'threads'\nbody = true\ncode = 'Some(1).map(|_| drop(std::thread::spawn(|| ())));'";
    fs::write(&table, canary).unwrap();
    let output = small(&["--sinks", table.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(complaint(&output).contains("the body of `Some(1)"), "{}", complaint(&output));
    assert!(output.stdout.is_empty());
}

#[test]
fn what_cannot_be_judged_is_refused() {
    for (arguments, words) in [
        (&["--release", "--profile", "dev"][..], "cannot be used with"),
        (&["--target", "riscv64gc-unknown-linux-gnu"], "does not read programs for riscv64gc-unknown-linux-gnu"),
        (&["--body", "small::misspelt"], "--body small::misspelt: no body"),
        (&["--sinks", "nowhere.toml"], "read the table of sinks nowhere.toml"),
    ] {
        let output = small(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(complaint(&output).contains(words), "{arguments:?}: {}", complaint(&output));
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_target_without_a_standard_library_is_named() {
    // A target of the architecture that is read, and that hardly any toolchain has.
    let target = "aarch64-unknown-linux-ohos";
    let output = small(&["--target", target]);
    assert_eq!(output.status.code(), Some(2));
    let words = format!("Rust's standard library for {target} is not installed");
    assert!(complaint(&output).contains(&words), "{}", complaint(&output));
    assert!(output.stdout.is_empty());
}

#[test]
fn a_profile_that_optimises_is_refused_and_can_be_built_without() {
    let output = profiles(&["--profile", "optimised"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(complaint(&output).contains("has opt-level 1"), "{}", complaint(&output));
    assert!(output.stdout.is_empty());
    let arguments = ["--profile", "optimised", "--unoptimised", "--root", "profiles::starts", "--format", "json"];
    let output = profiles(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    assert_eq!(verdicts(body(&report(&output), "starts")), ["SPAWN"]);
}

#[test]
fn a_verdict_explains_itself() {
    let output = small(&["--explain", "handover"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("HANDOVER: "));
}
