//! The compiler's messages: what the attribute refuses, and errors in the user's code under it.
//!
//! The texts belong to the toolchain in use. After a change of either: `TRYBUILD=overwrite cargo test --test ui`.

in_netns::rootless!();

/// Each program of a folder must fail to compile, with the messages beside it.
#[track_caller]
fn fail(folder: &str) {
    let programs = format!("tests/ui/{folder}");
    let count = std::fs::read_dir(&programs).expect("a folder").count();
    // trybuild accepts a pattern that nothing matches.
    assert!(count > 0, "{programs} has no programs");
    trybuild::TestCases::new().compile_fail(format!("{programs}/*.rs"));
}

#[test]
fn refusals() {
    fail("refuse");
}

#[test]
fn diagnostics() {
    fail("diagnose");
}

#[test]
fn hand_overs() {
    fail("handover");
}

#[test]
fn paths_of_the_process_network() {
    fail("process_network");
}
