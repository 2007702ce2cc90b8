//! Calls work under the seccomp profiles of container runtimes and service managers, and warm calls reuse their thread.

use std::process::Command;

use in_netns_tests::separate;

#[track_caller]
fn passes(arguments: &[&str]) {
    let output = separate!("under_profile").args(arguments).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {}\n{printed}", output.status);
    print!("{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn calls_work_without_a_profile() {
    passes(&["none"]);
}

#[test]
fn calls_work_under_mobys_profile() {
    passes(&["moby"]);
}

#[test]
fn calls_work_under_containerds_profile() {
    passes(&["containerd"]);
}

#[test]
fn calls_work_under_podmans_profile() {
    passes(&["podman"]);
}

#[test]
fn calls_work_under_a_filter_that_kills_for_what_is_not_a_system_service() {
    passes(&["system-service"]);
}

/// Runs the program in a new pid namespace, with the `/proc` that `options` and `prepare` set up.
#[track_caller]
fn passes_in_a_pid_namespace(options: &[&str], prepare: &str) {
    let script = format!(r#"{prepare} && exec "$0" under_profile none"#);
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child"]).args(options).args(["sh", "-c", &script]);
    let output = command.arg(env!("CARGO_BIN_EXE_separate")).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{options:?}: {}\n{printed}", output.status);
}

#[test]
fn calls_work_in_a_pid_namespace_with_its_own_proc() {
    passes_in_a_pid_namespace(&["--mount-proc"], "true");
}

#[test]
fn calls_work_in_a_pid_namespace_with_the_proc_of_the_host() {
    passes_in_a_pid_namespace(&[], "true");
}

#[test]
fn calls_work_with_hidepid() {
    passes_in_a_pid_namespace(&["--mount-proc"], "mount -o remount,hidepid=2 /proc");
}

#[test]
fn without_proc_an_error_says_so() {
    for script in [r#"mount -t tmpfs none /proc && exec "$0" without_proc"#, r#"exec "$0" without_proc later"#] {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(env!("CARGO_BIN_EXE_separate"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn calls_work_without_the_files_of_some_kinds_of_namespace() {
    for arguments in [&[][..], &["pidfd"]] {
        passes_with_fewer_kinds(arguments);
    }
}

#[test]
fn a_shortage_of_epoll_watches_passes() {
    passes_with_fewer_kinds(&["watches"]);
}

#[track_caller]
fn passes_with_fewer_kinds(arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_fewer_kinds")).args(arguments).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {}\n{printed}", output.status);
}

/// The library makes no optional call that a filter kills for.
#[test]
fn calls_work_under_filters_that_kill_for_one_optional_system_call() {
    for call in [
        "kcmp",
        "listmount",
        "pidfd_open",
        "keyctl",
        "get_mempolicy",
        "ioprio_get",
        "personality",
        "sched_getattr",
        "pidfd_getfd",
        "name_to_handle_at",
        "open_by_handle_at",
    ] {
        passes(&["none", call]);
    }
    passes(&["none", "io_uring_enter", "kcmp", "listmount", "pidfd_open", "keyctl", "personality"]);
}

#[test]
fn what_a_filter_allows_is_found_out_later_where_there_is_no_room_for_a_child_process() {
    let output = separate!("filter_without_room").output().unwrap();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
}

#[test]
fn where_threads_can_return_is_found_out_later_where_there_is_no_memory_in_the_first_call() {
    let output = separate!("filter_without_room").arg("memory").output().unwrap();
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
}

/// The library makes no optional call that a filter kills for, also where that is not the first filter.
#[test]
fn a_filter_is_noticed_that_is_added_to_another_one() {
    for call in ["kcmp", "listmount", "pidfd_open", "keyctl", "personality", "sched_getattr", "sched_setaffinity"] {
        for who in ["body", "caller", "all"] {
            let output = separate!("filter_added").args([who, call]).output().unwrap();
            let printed = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{who} {call}: {}\n{printed}", output.status);
        }
    }
}

#[test]
fn calls_reuse_their_thread_where_a_filter_forbids_what_tokio_needs() {
    for call in ["socketpair", "epoll_create1", "eventfd2"] {
        let output = separate!("filter_added").args(["refused", call]).output().unwrap();
        assert!(output.status.success(), "{call}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
}

#[track_caller]
fn passes_refused(arguments: &[&str]) {
    let output = separate!("refusals").args(arguments).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {}\n{printed}", output.status);
}

/// A filter may refuse to say that there is one.
#[test]
fn calls_reuse_their_thread_where_a_filter_refuses_questions_about_filters() {
    let get_seccomp = libc::PR_GET_SECCOMP.to_string();
    passes_refused(&["before", "prctl", "1", &get_seccomp]);
    passes_refused(&["later", "prctl", "38", &get_seccomp]);
    passes_refused(&["before", "prctl", "1"]);
}

/// `SystemCallErrorNumber=` of a unit sets any errno.
#[test]
fn calls_reuse_their_thread_whatever_errno_a_filter_answers() {
    for call in ["io_uring_enter", "pidfd_open", "kcmp"] {
        for errno in [libc::EACCES, libc::EOPNOTSUPP] {
            passes_refused(&["before", call, &errno.to_string()]);
        }
    }
}

/// The child processes that try what a filter allows cannot be started.
#[test]
fn calls_reuse_their_thread_where_a_filter_refuses_processes() {
    passes_refused(&["before", "clone", "1"]);
    passes_refused(&["later", "clone", "1"]);
}

#[test]
fn calls_reuse_their_thread_where_a_later_filter_refuses_the_comparison_of_threads() {
    passes_refused(&["later", "kcmp", "1"]);
    passes_refused(&["later", "kcmp", "38"]);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn calls_reuse_their_thread_where_a_security_module_refuses_changes_of_capabilities() {
    passes_refused(&["untold"]);
}

#[test]
fn the_error_of_a_thread_that_a_filter_forbids_names_the_filter() {
    passes_refused(&["threads"]);
}

#[test]
fn the_error_of_a_thread_that_the_kernel_refuses_names_no_filter() {
    passes_refused(&["processes-only"]);
}

#[test]
fn names_whose_directory_cannot_be_found_are_not_gone() {
    passes_refused(&["names"]);
}

#[test]
fn without_proc_a_profile_leaves_it_unknown_where_a_thread_is() {
    passes_refused(&["no-proc"]);
}

#[test]
fn every_call_is_an_error_where_no_pinned_thread_can_adopt_the_capabilities() {
    let output = separate!("filter_added").args(["unadoptable", "capset"]).output().unwrap();
    assert!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
}

/// Also where the caller does the part of the inspection that finds it.
#[test]
fn threads_that_leave_the_table_of_descriptors_leave_no_status_file_there() {
    let output = separate!("filter_added").args(["table", "kcmp"]).output().unwrap();
    assert!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
}

/// The files that a pinned thread keeps open are closed once.
#[test]
fn descriptors_that_a_body_or_a_child_process_closes_are_not_closed_once_more() {
    for who in ["child", "process", "body", "body-apart", "view", "view-leaves"] {
        let output = separate!("closes_all").arg(who).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{who}: {}\n{printed}", output.status);
    }
}
