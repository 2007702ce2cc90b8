//! Tests that need a separate process: each helper program checks itself, and prints on stderr what failed.

use in_netns_tests::separate;
use rstest::rstest;

#[track_caller]
fn passes(program: &str, arguments: &[&str]) {
    let output = separate!(program).args(arguments).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{printed}", output.status);
}

#[test]
fn case_26_no_thread_to_be_had_is_an_error_and_passes() {
    passes("no_threads", &[]);
}

#[test]
fn nothing_is_inherited_from_the_thread_of_the_first_call() {
    passes("first_call_elsewhere", &[]);
}

/// As that of a program whose long name ends within a character after 15 bytes.
#[test]
fn nothing_is_inherited_from_the_thread_of_the_first_call_where_names_are_not_utf8() {
    passes("first_call_elsewhere", &["not-utf8"]);
}

#[test]
fn a_forked_child_gets_threads_of_its_own() {
    passes("forked", &[]);
}

#[test]
fn a_process_that_is_stopped_while_it_builds_a_runtime_has_one_that_works() {
    passes("stopped", &["build"]);
}

#[test]
fn a_process_that_is_stopped_while_a_call_is_audited_has_no_stray() {
    passes("stopped", &["audit"]);
}

#[test]
fn every_promise_is_kept_without_thread_descriptors() {
    passes("older_kernel", &["pidfd"]);
}

#[test]
fn every_promise_is_kept_without_kcmp() {
    passes("older_kernel", &["kcmp"]);
}

#[test]
fn every_promise_is_kept_without_either() {
    passes("older_kernel", &["pidfd", "kcmp"]);
}

#[test]
fn names_are_looked_up_inside_by_every_method() {
    passes("names", &[]);
}

#[test]
fn an_address_without_a_family_is_followed_by_the_next_one() {
    passes("one_family", &["inet"]);
}

#[test]
fn the_loopback_is_brought_up_without_sockets_of_the_internet() {
    passes("one_family", &["unix"]);
    passes("one_family", &["netlink"]);
}

#[test]
fn a_change_is_seen_by_a_process_whose_first_call_was_traced() {
    passes("traced", &[]);
}

#[rstest]
#[case::home_is_found_during_a_visit("home")]
#[case::a_thread_at_home_is_not_poisoned("restore")]
#[case::a_thread_whose_child_runs_does_not_expire("child")]
#[case::a_view_has_the_new_root("root")]
#[case::own_mounts_are_names("inventory")]
#[case::pinned_threads_are_no_strays("stray")]
#[case::a_thread_is_not_taken_for_another("thread")]
fn in_a_pid_namespace_with_the_proc_of_the_parent(#[case] case: &str) {
    passes("pid_namespace", &[case]);
}
