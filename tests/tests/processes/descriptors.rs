//! Threads with a table of file descriptors of their own.

use in_netns_tests::separate;

#[track_caller]
fn passes(scenario: &str) {
    let output = separate!("own_descriptors").arg(scenario).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{scenario}: {}\n{printed}", output.status);
}

#[test]
fn a_walk_a_guard_and_join_enter_no_handle_of_another_table() {
    passes("entries");
}

#[test]
fn the_thread_of_a_caller_with_its_own_table_is_reported_as_fresh() {
    passes("fate");
}

#[test]
fn a_guard_of_a_thread_with_its_own_table_goes_home() {
    passes("guards");
}

#[test]
fn a_worker_runs_nothing_for_a_caller_with_its_own_table() {
    passes("worker");
}

#[test]
fn a_pinned_thread_of_a_caller_that_has_moved_begins_at_home() {
    passes("moved-caller");
}

#[test]
fn a_caller_with_its_own_table_is_noticed_without_kcmp() {
    passes("without-kcmp");
}

#[test]
fn a_pooled_thread_enters_no_handle_of_another_table() {
    passes("handle-of-another-table");
}

#[test]
fn a_fresh_call_is_right_where_the_table_was_unshared_after_the_first_call() {
    passes("late");
}
