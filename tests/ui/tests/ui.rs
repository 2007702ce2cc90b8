//! What the compiler says: the refusals of the attribute, and errors in the user's code under it.
//!
//! The texts are those of the toolchain in use. After a change of either: `TRYBUILD=overwrite cargo test --test ui`.

in_netns::rootless!();

#[test]
fn refusals() {
    trybuild::TestCases::new().compile_fail("tests/ui/refuse/*.rs");
}

#[test]
fn diagnostics() {
    trybuild::TestCases::new().compile_fail("tests/ui/diagnose/*.rs");
}

#[test]
fn hand_overs() {
    trybuild::TestCases::new().compile_fail("tests/ui/handover/*.rs");
}

#[test]
fn paths_of_the_process_network() {
    trybuild::TestCases::new().compile_fail("tests/ui/process_network/*.rs");
}
