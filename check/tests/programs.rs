//! What leads to which verdict, in programs of one file.

mod common;

use common::{bodies, command, complaint, function, package, report, verdicts};
use serde_json::Value;

fn checked(name: &str, program: &str, arguments: &[&str]) -> Value {
    let folder = package(&format!("programs/{name}"), "", program, &[]);
    let arguments: Vec<_> = ["--format", "json"].iter().chain(arguments).copied().collect();
    let output = command("programs/target", &folder, &arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    report(&output)
}

/// The functions with their verdicts that are not as expected.
fn wrong(report: &Value, expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let found: Vec<_> = bodies(report).into_iter().map(|body| (function(body), verdicts(body).join(" "))).collect();
    let missing = expected.iter().filter(|(name, _)| !found.iter().any(|(other, _)| other == name));
    let missing: Vec<_> = missing.map(|(name, _)| ((*name).to_owned(), String::new())).collect();
    let differs = |(name, verdicts): &(String, String)| {
        expected.iter().find(|(other, _)| other == name).is_some_and(|(_, expected)| verdicts != expected)
    };
    found.into_iter().filter(differs).chain(missing).collect()
}

#[test]
fn what_is_called_is_found_through_every_kind_of_value() {
    let expected = [
        ("thread_local_pointer", "SPAWN"),
        ("harmless_thread_local_pointer", "CLEAN"),
        ("list_with_one", "SPAWN"),
        ("list_without", "CLEAN"),
        ("other_list", "SPAWN"),
        ("sends_a_closure", "CHANNEL"),
        ("sends_a_future", "CHANNEL"),
        ("sends_a_pointer", "CHANNEL"),
        ("sends_a_pointer_in_a_structure", "CHANNEL"),
        ("sends_a_task", "CHANNEL"),
        ("sends_a_number", "CLEAN"),
        ("sends_a_socket", "CLEAN"),
        ("pushes_a_closure", "CHANNEL"),
        ("reads_file_of_process", "PROCESS"),
        ("reads_file_of_aligned_process", "PROCESS"),
        ("reads_namespace_of_process", "CLEAN"),
        ("quiet", "CLEAN"),
        ("quiet_and_more", "SPAWN"),
        ("gives_boxed", "UNKNOWN"),
        ("is_given_a_closure", "CLEAN"),
        ("is_given_a_future", "CLEAN"),
        ("has_a_character", "SPAWN"),
        ("gives_boxed_to_a_scope", "SCOPED UNKNOWN"),
        ("gives_a_pointer_to_a_scope", "SCOPED UNKNOWN"),
        ("calls_boxed_in_a_scope", "SCOPED UNKNOWN"),
        ("gives_its_own_to_a_scope", "SCOPED"),
    ];
    let (first_given, _) = expected.iter().enumerate().find(|(_, (name, _))| *name == "quiet").unwrap();
    let roots = expected[..first_given].iter().map(|(name, _)| format!("values::{name}"));
    let arguments: Vec<_> = roots.flat_map(|root| ["--root".to_owned(), root]).collect();
    let arguments = arguments.iter().map(String::as_str).chain(["--root-closure", "values::take*"]);
    let report = checked("values", include_str!("data/values.rs"), &arguments.collect::<Vec<_>>());
    assert_eq!(wrong(&report, &expected), []);
}

#[test]
fn a_future_is_judged_by_the_guards_that_it_holds_and_has_to_drop() {
    let report = checked("guards", include_str!("data/guards.rs"), &[]);
    let expected = [
        ("holds", "AWAIT"),
        ("holds_a_list", "AWAIT"),
        ("holds_a_map_of_lists", "AWAIT"),
        ("holds_a_shared_map", "AWAIT"),
        ("holds_a_guard_of_a_method", "AWAIT"),
        ("holds_a_guard_of_its_own", "AWAIT"),
        ("drops_before", "CLEAN"),
        ("drops_between", "AWAIT"),
        ("drops_perhaps", "AWAIT"),
        ("holds_what_is_named_so", "AWAIT"),
    ];
    assert_eq!(wrong(&report, &expected), []);
    assert!(!bodies(&report).iter().any(|body| function(body) == "holds_an_error"), "{report:#}");
}
