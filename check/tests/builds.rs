//! How programs are built: what is refused, what is undone, and what of the project's own settings stays.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use common::{bodies, command, complaint, function, report, verdicts};
use serde_json::Value;

/// A package with one program: a future that holds a guard, and a function that starts a thread.
fn package(name: &str, manifest: &str, files: &[(&str, &str)]) -> PathBuf {
    let changes = ("src/changes.rs", "pub(crate) fn changes() -> u32 {\n    1\n}\n");
    let files: Vec<_> = std::iter::once(changes).chain(files.iter().copied()).collect();
    common::package(&format!("builds/{name}"), manifest, include_str!("data/incremental.rs"), &files)
}

fn run(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    // One directory: the canaries are compiled once.
    command("builds/target", folder, arguments).envs(variables.iter().copied()).output().unwrap()
}

fn refused(output: &Output, words: &str) {
    assert_eq!(output.status.code(), Some(2), "{}", complaint(output));
    assert!(complaint(output).contains(words), "{}", complaint(output));
    assert!(output.stdout.is_empty());
}

#[test]
fn a_test_with_a_main_function_of_its_own_is_judged() {
    let manifest = "[[test]]\nname = \"own\"\nharness = false\n";
    let folder = package("harness", manifest, &[("tests/own.rs", "fn main() { drop(std::thread::spawn(|| ())); }\n")]);
    let output = run(&folder, &["--test", "own", "--root", "own::main", "--format", "json"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    let report = report(&output);
    let main = bodies(&report).into_iter().find(|body| body["name"] == "own::main").expect("the root is a body");
    assert_eq!(verdicts(main), ["SPAWN"]);
}

#[test]
fn flags_that_optimise_are_refused_and_can_be_undone() {
    let folder = package("flags", "", &[]);
    for (variable, flags) in [("RUSTFLAGS", "-Copt-level=3"), ("CARGO_ENCODED_RUSTFLAGS", "-C\u{1f}opt-level=1")] {
        refused(&run(&folder, &[], &[(variable, flags)]), "optimises: `flags` has opt-level");
    }
    for arguments in [&[][..], &["--unoptimised"]] {
        let output = run(&folder, arguments, &[("RUSTFLAGS", "-C passes=inline")]);
        refused(&output, "optimises: `flags` is compiled with -Cpasses=inline");
    }
    let output = run(&folder, &[], &[("RUSTFLAGS", "-Cllvm-args=-inline-threshold=100")]);
    refused(&output, "optimises: `flags` is compiled with -Cllvm-args=-inline-threshold=100");
    let output = run(&folder, &["--unoptimised", "--format", "json"], &[("RUSTFLAGS", "-O")]);
    let report = report(&output);
    let waits = bodies(&report).into_iter().find(|body| function(body) == "waits").unwrap();
    assert_eq!(verdicts(waits), ["AWAIT"]);
}

#[test]
fn lto_of_a_profile_that_does_not_optimise_is_turned_off() {
    let manifest = "[dependencies]\nlibrary = { path = \"library\" }\n\
                    [profile.dev]\nlto = \"fat\"\n[profile.linked]\ninherits = \"dev\"\nlto = \"thin\"\n";
    let library = "[package]\nname = \"library\"\nversion = \"0.0.0\"\nedition = \"2024\"\n";
    let folder = package("lto", manifest, &[("library/Cargo.toml", library), ("library/src/lib.rs", "")]);
    for arguments in [&[][..], &["--profile", "linked"]] {
        let output = run(&folder, &[&["--format", "json"], arguments].concat(), &[]);
        assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
        let report = report(&output);
        let waits = bodies(&report).into_iter().find(|body| function(body) == "waits").unwrap();
        assert_eq!(verdicts(waits), ["AWAIT"]);
    }
    refused(&run(&folder, &["--profile", "unknown"], &[]), "profile `unknown` is not defined");
}

#[test]
fn a_program_without_debug_information_is_refused() {
    let folder = package("stripped", "", &[]);
    let flags = [("RUSTFLAGS", "-Clink-arg=-Wl,--strip-debug")];
    refused(&run(&folder, &[], &flags), "it has no debug information");
}

#[test]
fn the_wrapper_of_the_configuration_is_kept() {
    let wrapper = "#!/bin/sh\necho \"$@\" >> \"$(dirname \"$0\")/calls\"\nexec \"$@\"\n";
    let folder = package(
        "wrapped",
        "",
        &[("tools/wrapper", wrapper), (".cargo/config.toml", "[build]\nrustc-wrapper = \"tools/wrapper\"\n")],
    );
    fs::set_permissions(folder.join("tools/wrapper"), fs::Permissions::from_mode(0o755)).unwrap();
    let calls = || fs::read_to_string(folder.join("tools/calls")).unwrap_or_default();
    let run = |variables: &[(&str, &str)]| {
        let _ = fs::remove_dir_all(folder.join("target"));
        let _ = fs::remove_file(folder.join("tools/calls"));
        let output = command("builds/wrapped/target", &folder, &[]).envs(variables.iter().copied()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    };
    run(&[]);
    assert!(calls().contains("--crate-name wrapped"), "{}", calls());
    run(&[("CARGO_BUILD_RUSTC_WRAPPER", "")]);
    assert!(calls().is_empty(), "{}", calls());
}

#[test]
fn a_package_that_is_optimised_for_build_scripts_alone_is_no_part_of_the_program() {
    let manifest = "[dependencies]\nboth = { path = \"both\" }\n[build-dependencies]\nboth = { path = \"both\" }\n\
                    [profile.dev.build-override]\nopt-level = 1\n";
    let both = "[package]\nname = \"both\"\nversion = \"0.0.0\"\nedition = \"2024\"\n";
    let files = |script: &'static str| {
        [("both/Cargo.toml", both), ("both/src/lib.rs", "pub fn both() {}\n"), ("build.rs", script)]
    };
    let folder = package("overridden", manifest, &files("fn main() { both::both(); }\n"));
    let output = run(&folder, &["--format", "json"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    assert_eq!(bodies(&report(&output)).len(), 2);
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = run(&folder, &["--target", &target], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    let optimised = format!("{manifest}[profile.dev.package.both]\nopt-level = 1\n");
    let folder = package("overridden", &optimised, &files("fn main() { both::both(); both::both(); }\n"));
    refused(&run(&folder, &[], &[]), "optimises: `both` has opt-level 1");
}

/// A function that enters a namespace and starts a thread there.
const REGION: &str = "unsafe extern \"C\" {\n    fn setns(namespace: i32, kind: i32) -> i32;\n}\n\
                      #[test]\nfn region() {\n    unsafe { setns(0, 0) };\n    drop(std::thread::spawn(|| ()));\n}\n";

/// The kind and the name of each program of a report.
fn programs(report: &Value) -> Vec<(&str, &str)> {
    let programs = report["programs"].as_array().unwrap().iter();
    programs.map(|program| (program["kind"].as_str().unwrap(), program["target"].as_str().unwrap())).collect()
}

#[test]
fn the_build_directory_of_the_user_is_not_used() {
    let folder = package("apart", "", &[]);
    let own = folder.join("own");
    let _ = fs::remove_dir_all(&own);
    let setting = format!("build.build-dir={own:?}");
    for (arguments, variables) in
        [(vec![], vec![("CARGO_BUILD_BUILD_DIR", own.to_str().unwrap())]), (vec!["--config", &setting], vec![])]
    {
        let output = run(&folder, &arguments, &variables);
        assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
        assert!(!own.exists(), "{arguments:?} {variables:?}");
    }
    let output = command("builds/{braces}", &folder, &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
}

#[test]
fn a_dependency_that_is_named_like_a_flag_is_none() {
    let library = "[package]\nname = \"linker\"\nversion = \"0.0.0\"\nedition = \"2024\"\n";
    let files = [("linker/Cargo.toml", library), ("linker/src/lib.rs", "")];
    let folder = package("named", "[dependencies]\nlinker = { path = \"linker\" }\n", &files);
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = run(&folder, &["--target", &target], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
}

#[test]
fn the_programs_of_a_package_of_macros_are_judged() {
    let files = [("src/lib.rs", REGION), ("tests/it.rs", REGION), ("examples/shows.rs", "fn main() {}\n")];
    let folder = package("macros", "[lib]\nname = \"own_macros\"\nproc-macro = true\n", &files);
    let output = run(&folder, &["--all-targets", "--format", "json"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    let report = report(&output);
    let programs = programs(&report);
    for program in [("bin", "macros"), ("example", "shows"), ("test", "it"), ("test", "own_macros")] {
        assert!(programs.contains(&program), "{program:?}: {programs:?}");
    }
    let found: Vec<_> =
        bodies(&report).into_iter().map(|body| (body["name"].as_str().unwrap(), verdicts(body))).collect();
    for body in ["it::region", "own_macros::region"] {
        assert!(found.contains(&(body, vec!["SPAWN"])), "{body}: {found:?}");
    }
}

#[test]
fn a_profile_of_the_configuration_is_known() {
    let folder = package("configured", "", &[(".cargo/config.toml", "[profile.ci]\ninherits = \"release\"\n")]);
    let output = run(&folder, &["--profile", "ci"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    assert!(complaint(&output).contains("like profile `ci`"), "{}", complaint(&output));
    let settings = ["--profile", "other", "--config", "profile.other.inherits=\"ci\""];
    let output = run(&folder, &settings, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
}

#[test]
fn only_the_selected_programs_are_judged_and_each_has_its_kind() {
    let folder = package("selected", "", &[("tests/it.rs", REGION), ("benches/quick.rs", REGION)]);
    for (selection, expected) in [
        (&["--test", "it"][..], &[("test", "it")][..]),
        (&["--test", "it", "--bench", "quick"], &[("bench", "quick"), ("test", "it")]),
        (&["--test", "it", "--bin", "sel*"], &[("bin", "selected"), ("test", "it")]),
        (&["--test", "it", "--bins"], &[("bin", "selected"), ("test", "it")]),
    ] {
        let output = run(&folder, &[selection, &["--format", "json"]].concat(), &[]);
        assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
        assert_eq!(programs(&report(&output)), expected);
    }
}
