//! Regions and bodies in a program without dependencies, each named for how it enters.

mod common;

use std::collections::BTreeMap;

use common::{bodies, check, complaint, folder, function, report, verdicts};

/// Every body, and no other: where a function has several, in the order of the report.
const EXPECTED: &[(&str, &[&str])] = &[
    ("awaits_a_box", &["UNKNOWN", "AWAIT"]),
    ("awaits_between", &["CLEAN"]),
    ("awaits_by_system_call", &["AWAIT"]),
    ("awaits_inside", &["AWAIT"]),
    ("awaits_outside", &["CLEAN"]),
    ("awaits_what_enters", &["SPAWN"]),
    ("block_calls_box", &["UNKNOWN"]),
    ("by_cell", &["SPAWN"]),
    ("by_choice", &["SPAWN"]),
    ("by_constructor_that_rolls_back", &["SPAWN"]),
    ("by_deferred", &["SPAWN"]),
    ("by_field", &["SPAWN"]),
    ("by_guard_made_first", &["SPAWN"]),
    ("by_method_on_file", &["SPAWN"]),
    ("by_method_that_gives_a_guard", &["SPAWN"]),
    ("by_mutex", &["SPAWN"]),
    ("by_retry", &["SPAWN"]),
    ("by_roll_back", &["SPAWN"]),
    ("by_second_parameter", &["SPAWN"]),
    ("by_shared_mutex", &["SPAWN"]),
    ("by_static", &["SPAWN"]),
    ("by_two_calls", &["SPAWN"]),
    ("calls_box", &["UNKNOWN"]),
    ("calls_pointer", &["UNKNOWN"]),
    ("calls_trait_object", &["UNKNOWN"]),
    ("closure_calls_box", &["UNKNOWN"]),
    ("closure_calls_field", &["UNKNOWN"]),
    ("closure_calls_handler", &["UNKNOWN"]),
    ("closure_keeps_handler", &["CLEAN"]),
    ("future_calls_handler", &["UNKNOWN"]),
    ("future_keeps_handler", &["CLEAN"]),
    ("gives_a_closure", &["CLEAN"]),
    ("gives_one_of_std", &["SPAWN", "CLEAN"]),
    ("gives_two", &["SPAWN", "CLEAN"]),
    ("holds", &["AWAIT"]),
    ("holds_deferred", &["AWAIT"]),
    ("holds_deferred_before", &["CLEAN"]),
    ("in_and_then", &["SPAWN"]),
    ("in_function_given_to_and_then", &["SPAWN"]),
    ("in_local_closure", &["SPAWN"]),
    ("keeps_box_in_thread_local", &["CLEAN"]),
    ("keeps_pointer", &["CLEAN"]),
    ("leaves", &["CLEAN"]),
    ("leaves_after_a_sum", &["CLEAN"]),
    ("leaves_at_once", &["CLEAN"]),
    ("leaves_by_deferred", &["CLEAN"]),
    ("leaves_by_drop", &["CLEAN"]),
    ("leaves_by_field", &["CLEAN"]),
    ("leaves_by_helper", &["CLEAN"]),
    ("leaves_by_own_deferred", &["CLEAN"]),
    ("named_by_option", &["UNKNOWN"]),
    ("of_a_kind_and_another", &["SPAWN"]),
    ("of_any_kind", &["SPAWN"]),
    ("of_chosen_kind", &["SPAWN"]),
    ("of_flags_and_another", &["SPAWN"]),
    ("of_given_kind", &["SPAWN"]),
    ("of_given_kind_beside_a_mode", &["SPAWN"]),
    ("of_two_kinds", &["SPAWN"]),
    ("on_another_thread", &["CLEAN", "CLEAN"]),
    ("on_thread_of_library", &["CLEAN"]),
    ("spawns_for_one_type", &["SPAWN"]),
    ("spawns_for_the_other_type", &["SPAWN"]),
    ("takes_a_closure", &["SPAWN"]),
    ("visit", &["CLEAN"]),
    ("within", &["SPAWN"]),
];

#[test]
fn every_body_is_found_and_judged_and_no_other() {
    let folder = folder("tests/regions");
    let table = folder.join("adapter.toml");
    let named = ["--root", "regions::values::named_by_option"];
    let arguments = [&["--format", "json", "--sinks", table.to_str().unwrap()], &named[..]].concat();
    let output = check(&folder, &arguments);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    let report = report(&output);
    let mut found: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for body in bodies(&report) {
        // They call what stays.
        if body["name"].as_str().unwrap().ends_with("::main") {
            continue;
        }
        found.entry(function(body)).or_default().extend(verdicts(body));
    }
    let expected: BTreeMap<String, Vec<&str>> =
        EXPECTED.iter().map(|(name, verdicts)| ((*name).to_owned(), verdicts.to_vec())).collect();
    let differences: Vec<_> = found
        .keys()
        .chain(expected.keys())
        .filter(|name| found.get(*name) != expected.get(*name))
        .map(|name| format!("{name}: {:?}, not {:?}", found.get(name), expected.get(name)))
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
