//! Each cause of a refusal is produced for real, and the crate's report of it is checked.
//!
//! Causes that this kernel does not have (`kernel.unprivileged_userns_clone` of Debian, `AppArmor`) are tested next to
//! the code that distinguishes causes.

use std::collections::HashMap;
use std::process::Command;

use in_netns_tests::{Scratch, as_ordinary_user, facts, namespace, output_of, separate};

/// Runs `sh -c SCRIPT PROGRAM` as root of a user namespace, with a network and a mount namespace. The script runs
/// `PROGRAM stands`.
fn as_root_of_its_own(script: &str) -> String {
    let scratch = Scratch::new();
    let program = scratch.program(env!("CARGO_BIN_EXE_separate"));
    let script = format!("set -e; {script}");
    output_of(Command::new("unshare").args(["--map-root-user", "--net", "--mount", "sh", "-c", &script]).arg(program))
}

/// Drops every capability, and keeps uid 0.
const POWERLESS: &str = "exec setpriv --bounding-set=-all --inh-caps=-all";

fn assert_refused(facts: &HashMap<&str, &str>, cause: &str, parts: &[&str]) {
    assert_eq!(facts["cause"], format!("Some({cause})"), "{facts:?}");
    assert_eq!(facts["make"].split(' ').next(), Some("false"), "{facts:?}");
    for part in parts {
        assert!(facts["privileges"].contains(part), "{part} is missing: {}", facts["privileges"]);
        assert!(facts["new"].contains(part), "{part} is missing: {}", facts["new"]);
    }
}

#[test]
fn with_everything_there_is_no_cause() {
    let output = as_root_of_its_own("exec \"$0\" stands");
    let facts = facts(&output);
    assert_eq!(facts["make"], "true enter=true back=true");
    assert_eq!((facts["cause"], facts["privileges"]), ("None", "network namespaces can be made and entered"));
    assert_eq!((facts["new"], facts["with"]), ("made", "entered"));
}

#[test]
fn a_lack_of_descriptors_is_reported() {
    // One is left for the program's own libraries. What runs the tests may have left it open.
    let output = as_root_of_its_own("exec 3>&-; ulimit -n 4; exec \"$0\" stands");
    let facts = facts(&output);
    assert_refused(&facts, "Other { os_error: Some(24) }", &["no descriptor left", "see `ulimit -n`"]);
    assert!(!facts["privileges"].contains("security module"), "{facts:?}");
}

#[test]
fn a_lack_of_room_for_a_stack_is_reported() {
    // More than there are addresses: of less, the kernel may promise any amount (`vm.overcommit_memory`).
    let output = as_root_of_its_own("RUST_MIN_STACK=1152921504606846976 exec \"$0\" stands");
    let facts = facts(&output);
    assert_refused(&facts, "Other { os_error: Some(11) }", &["`ulimit -u`", "free memory", "`ulimit -v`"]);
}

/// Case 16.
#[test]
fn a_missing_capability_is_named() {
    let scratch = Scratch::new();
    let output = output_of(as_ordinary_user(&mut separate!("stands", scratch)));
    let facts = facts(&output);
    assert_refused(&facts, "NoCapability", &["CAP_SYS_ADMIN", "`in_netns::rootless!();`", "run as root"]);
    assert!(facts["privileges"].contains("CAP_SYS_ADMIN is missing"), "{facts:?}");
    assert_eq!(facts["make"], "false enter=false back=false");
    for error in [facts["new"], facts["with"]] {
        let which = format!("this thread lacks CAP_SYS_ADMIN in {}", namespace("user"));
        assert!(error.starts_with("PermissionDenied ") && error.contains(&which), "{error}");
    }
    assert!(!output.contains("body was run"));
    // The probe has moved no thread.
    assert_eq!((facts["user"], facts["net"]), (&*namespace("user"), &*namespace("net")));
}

#[test]
fn disabled_user_namespaces_are_reported() {
    let output =
        as_root_of_its_own(&format!("echo 0 > /proc/sys/user/max_user_namespaces; {POWERLESS} \"$0\" stands enter"));
    let facts = facts(&output);
    let way_out = "`sudo sysctl user.max_user_namespaces=100000`";
    let cause = "UserNamespacesDisabled { sysctl: \"user.max_user_namespaces\" }";
    assert_refused(&facts, cause, &["user namespaces are disabled (user.max_user_namespaces is 0)", way_out]);
    assert!(facts["enter"].starts_with("LimitReached ") && facts["enter"].contains(way_out), "{output}");
}

#[test]
fn the_limit_of_network_namespaces_is_reported() {
    let output = as_root_of_its_own("echo 0 > /proc/sys/user/max_net_namespaces; exec \"$0\" stands");
    let facts = facts(&output);
    let cause = "Limit { sysctl: \"user.max_net_namespaces\" }";
    assert_refused(
        &facts,
        cause,
        &["no more namespaces are allowed (user.max_net_namespaces is 0 here", "`sysctl user.max_net_namespaces="],
    );
    assert!(facts["new"].starts_with("LimitReached ") && facts["new"].contains(facts["user"]), "{output}");
    assert_eq!(facts["make"], "false enter=true back=true");
    assert_eq!(facts["with"], "entered");
}

#[test]
fn the_limit_of_mount_namespaces_is_reported_by_a_view() {
    let output = as_root_of_its_own("echo 0 > /proc/sys/user/max_mnt_namespaces; exec \"$0\" stands");
    let facts = facts(&output);
    let view = facts["view"];
    assert!(view.starts_with("LimitReached ") && view.contains("user.max_mnt_namespaces is 0 here"), "{view}");
    assert!(!view.contains("max_net"), "{view}");
    assert_eq!(facts["new"], "made");
}

/// Its files in `/proc` belong to root, among them the map of a user namespace.
#[test]
fn a_process_that_changed_its_user_is_reported() {
    if !nix::unistd::geteuid().is_root() {
        // No other user can change it.
        return;
    }
    let scratch = Scratch::new();
    let output = output_of(separate!("stands", scratch).arg("change-user"));
    let facts = facts(&output);
    assert_refused(&facts, "NotDumpable", &["has changed its user", "PR_SET_KEEPCAPS"]);
    assert!(!facts["new"].contains("security module"), "{}", facts["new"]);
}

/// The process itself reaches the limit, because the probe creates no network namespace.
#[test]
fn the_limit_of_network_namespaces_is_reported_by_rootless() {
    let arrange = "set -e; echo 0 > /proc/sys/user/max_net_namespaces
        exec setpriv --inh-caps=-all --ambient-caps=-all \"$0\" stands enter";
    let scratch = Scratch::new();
    let output = output_of(
        Command::new("unshare")
            .args(["--user", "--map-user=1000", "--map-group=1000", "--mount", "--keep-caps", "sh", "-c", arrange])
            .arg(scratch.program(env!("CARGO_BIN_EXE_separate"))),
    );
    let facts = facts(&output);
    assert!(facts["enter"].starts_with("LimitReached "), "{output}");
    let parts = ["user.max_net_namespaces"];
    assert_refused(&facts, "Limit { sysctl: \"user.max_net_namespaces\" }", &parts);
}

#[test]
fn a_seccomp_filter_is_reported_as_in_a_container() {
    let way_out = "`--cap-add SYS_ADMIN` or `--security-opt seccomp=unconfined`";
    let parts = ["a seccomp filter forbids it, as in a container", way_out];
    for filter in ["filter-unshare", "filter-unshare-enosys"] {
        // The test runs with the capability, and without.
        for who in ["exec", POWERLESS] {
            let output = as_root_of_its_own(&format!("{who} \"$0\" stands {filter}"));
            assert_refused(&facts(&output), "Seccomp", &parts);
        }
    }
    // A filter for user namespaces only, as systemd's RestrictNamespaces= installs it.
    let scratch = Scratch::new();
    // (An ordinary user may not install one without `no_new_privs`, which the filter's library sets.)
    let output = output_of(as_ordinary_user(&mut separate!("stands", scratch)).args(["filter-user", "enter"]));
    let facts = facts(&output);
    assert_refused(&facts, "Seccomp", &parts);
    assert!(facts["enter"].starts_with("PermissionDenied ") && facts["enter"].contains(way_out), "{output}");
}

#[test]
fn a_seccomp_filter_on_setns_is_reported() {
    let output = as_root_of_its_own("exec \"$0\" stands filter-setns");
    let facts = facts(&output);
    assert_eq!((facts["make"], facts["cause"]), ("true enter=false back=false", "Some(Seccomp)"));
    assert!(facts["with"].starts_with("PermissionDenied ") && facts["with"].contains("seccomp"), "{output}");
}

#[test]
fn root_that_may_not_map_itself_is_reported() {
    let output = as_root_of_its_own(&format!("{POWERLESS} \"$0\" stands enter"));
    let facts = facts(&output);
    let parts = ["uid 0 without CAP_SETFCAP may not map itself", "run as an ordinary user, or keep CAP_SETFCAP"];
    assert_refused(&facts, "RootWithoutSetfcap", &parts);
    assert!(facts["enter"].contains(parts[0]), "{output}");
    // The process has not moved at all.
    assert_eq!(facts["uid"], "0 gid=0");
}

#[test]
fn a_user_that_is_not_mapped_is_reported() {
    let scratch = Scratch::new();
    let program = scratch.program(env!("CARGO_BIN_EXE_separate"));
    // Neither the user nor the group, and the group alone.
    for option in ["--user", "--map-user=1000"] {
        let output = output_of(Command::new("unshare").arg(option).arg(&program).args(["stands", "enter"]));
        let facts = facts(&output);
        assert_refused(&facts, "NotMapped", &["is not mapped in its user namespace", "/proc/self/uid_map"]);
        assert!(facts["enter"].contains("is not mapped in its user namespace"), "{output}");
        assert!(!output.contains("dmesg"), "{output}");
    }
}

/// Case 8 (a), detected in advance.
#[test]
fn a_home_of_another_user_namespace_is_reported() {
    let scratch = Scratch::new();
    let output = output_of(
        Command::new("unshare")
            .arg("--map-root-user")
            .arg(scratch.program(env!("CARGO_BIN_EXE_separate")))
            .arg("stands"),
    );
    let facts = facts(&output);
    assert_eq!((facts["make"], facts["cause"]), ("true enter=true back=false", "Some(HomeNotOwned)"));
    // `rootless` does nothing for such a process.
    let way_out = "`unshare --map-root-user --net` does, and `in_netns::rootless!();` where CAP_SYS_ADMIN is missing";
    assert!(facts["privileges"].contains(way_out), "{output}");
}

/// If every call was refused, no thread moved: none is lost, and the poison hook has nothing to report.
#[test]
fn a_refusal_poisons_no_thread() {
    let scratch = Scratch::new();
    for skip in [false, true] {
        let mut command = separate!("powerless", scratch);
        if skip {
            command.env("IN_NETNS_SKIP", "1");
        }
        let output = as_ordinary_user(&mut command).output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{stdout}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{stdout}");
        // One pooled thread, one for views, one fresh thread, and one that a refused async call or worker may add.
        let last = stdout.lines().last().unwrap();
        let spawned: u32 = last.strip_prefix("poisoned=0 retired=0 spawned=").expect(last).parse().unwrap();
        assert!(spawned <= 5, "{stdout}");
        // Its parent may be a process that it may look at.
        let calls = || stdout.lines().filter(|line| !line.starts_with("from_pid="));
        let refusals: Vec<&str> = calls().filter(|line| line.contains("PermissionDenied ")).collect();
        assert_eq!(refusals.len(), calls().count() - 1, "{stdout}");
    }
}

/// Each message names `CAP_SYS_ADMIN` at most once and the errno once, and names no Rust type.
#[test]
fn messages_say_each_thing_once() {
    let scratch = Scratch::new();
    let mut outputs = vec![output_of(as_ordinary_user(&mut separate!("powerless", scratch)))];
    outputs.push(output_of(as_ordinary_user(&mut separate!("stands", scratch))));
    for arrange in [
        format!("{POWERLESS} \"$0\" stands enter"),
        format!("echo 0 > /proc/sys/user/max_user_namespaces; {POWERLESS} \"$0\" stands enter"),
        "echo 0 > /proc/sys/user/max_net_namespaces; exec \"$0\" stands".to_owned(),
        "exec \"$0\" stands filter-unshare".to_owned(),
        format!("{POWERLESS} \"$0\" stands filter-unshare-enosys"),
        "exec \"$0\" stands filter-setns".to_owned(),
    ] {
        outputs.push(as_root_of_its_own(&arrange));
    }
    for output in &outputs {
        for (key, message) in output.lines().filter_map(|line| line.split_once('=')) {
            assert!(message.matches("CAP_SYS_ADMIN").count() <= 1, "{key}: {message}");
            assert!(!message.contains("CloneFlags"), "{key}: {message}");
            let is_error = ["new", "with", "enter", "walk", "fresh", "worker", "async"].contains(&key)
                && message.contains(" cannot ");
            if is_error && !message.contains("had threads") {
                let errnos = message.matches("os error ").count();
                assert_eq!(errnos, 1, "{key}: {message}");
                assert!(
                    message.contains("(EPERM, os error 1)")
                        || message.contains("(ENOSPC, os error 28)")
                        || message.contains("(ENOSYS, os error 38)"),
                    "{key}: {message}"
                );
            }
        }
    }
}

/// The message for root does not suggest running as root.
#[test]
fn root_is_not_told_to_become_root() {
    for arrange in [
        format!("{POWERLESS} \"$0\" stands enter"),
        format!("echo 0 > /proc/sys/user/max_user_namespaces; {POWERLESS} \"$0\" stands enter"),
        "exec setpriv --bounding-set=-sys_admin --inh-caps=-all \"$0\" stands".to_owned(),
    ] {
        let output = as_root_of_its_own(&arrange);
        assert!(!output.contains("run as root"), "{output}");
    }
}

/// `RestrictNamespaces=` of a unit is a seccomp filter too.
#[test]
fn a_filter_may_be_a_units_or_a_containers() {
    let output = as_root_of_its_own("exec \"$0\" stands filter-unshare");
    assert_refused(&facts(&output), "Seccomp", &["RestrictNamespaces=", "--cap-add SYS_ADMIN"]);
}

/// As container runtimes do, so that programs take another way.
#[test]
fn a_filter_that_answers_as_if_there_were_no_such_call_is_reported() {
    let output = as_root_of_its_own("exec \"$0\" stands filter-setns-enosys");
    let calls = facts(&output);
    let output = as_root_of_its_own("mount -t tmpfs none /run; exec \"$0\" stands filter-mount-enosys create blue");
    let names = facts(&output);
    for message in [calls["with"], calls["view"], names["create"]] {
        assert!(message.starts_with("Unsupported ") && message.contains("a seccomp filter"), "{message}");
        assert!(message.contains("--cap-add SYS_ADMIN") && message.contains("(ENOSYS, os error 38)"), "{message}");
    }
}

#[test]
fn a_filter_is_not_taken_for_a_user_namespace() {
    let output = as_root_of_its_own("exec \"$0\" stands filter-setns");
    let view = facts(&output)["view"];
    assert!(view.starts_with("PermissionDenied ") && view.contains("a seccomp filter"), "{view}");
}

/// dae #1109: a name that was mounted before the mount namespace was copied into a user namespace.
#[test]
fn a_name_whose_mount_is_locked_is_reported_and_stays() {
    let output = as_root_of_its_own(
        "mount -t tmpfs none /run; \"$0\" stands create blue >/dev/null; \
         unshare --user --map-root-user --mount \"$0\" stands delete blue | grep ^delete=; \
         \"$0\" stands delete blue | sed -n s/^delete/there/p",
    );
    let facts = facts(&output);
    let inside = facts["delete"];
    assert!(inside.starts_with("PermissionDenied ") && inside.contains("its mount is locked"), "{output}");
    assert!(inside.contains("delete the name there") && inside.contains("(EINVAL, os error 22)"), "{output}");
    assert_eq!(facts["there"], "done");
}

#[test]
fn a_user_without_a_mapping_is_reported() {
    let output = as_root_of_its_own(
        "exec unshare --user --keep-caps --net --mount \
         sh -c 'mount -t tmpfs none /run && exec \"$0\" stands create blue' \"$0\"",
    );
    let create = facts(&output)["create"];
    assert!(create.starts_with("Unsupported ") && create.contains("/proc/self/uid_map"), "{output}");
    assert!(create.contains("is not mapped") && create.contains("(EOVERFLOW, os error 75)"), "{output}");
}

/// The reasons why a process may not be examined: a missing capability, or another reason if the capability is present.
#[test]
fn a_process_that_may_not_be_examined_is_reported() {
    let scratch = Scratch::new();
    let output = output_of(as_ordinary_user(&mut separate!("powerless", scratch)));
    let facts = facts(&output);
    if nix::unistd::geteuid().is_root() {
        let message = facts["from_pid"];
        assert!(message.starts_with("PermissionDenied ") && message.contains("CAP_SYS_PTRACE"), "{message}");
        assert!(message.contains("uid 0") && !message.contains("somebody"), "{message}");
        assert!(message.contains("(EACCES, os error 13)"), "{message}");
    }
    // Every capability is present, but in a user namespace below the process's own.
    let message = as_root_of_its_own(&format!("exec \"$0\" stands from-pid {}", std::process::id()));
    let message = message.lines().find_map(|line| line.strip_prefix("from_pid=")).unwrap();
    assert!(message.starts_with("PermissionDenied "), "{message}");
    assert!(!message.contains("lacks CAP_SYS_PTRACE in user:") || message.contains("above"), "{message}");
    assert!(message.contains("user namespace"), "{message}");
}

/// A container that has `CAP_SYS_ADMIN` alone.
#[test]
fn a_missing_capability_for_the_loopback_is_named() {
    let output = as_root_of_its_own("exec setpriv --bounding-set=-net_admin --inh-caps=-all \"$0\" stands");
    let facts = facts(&output);
    assert_eq!(facts["make"], "false enter=true back=true");
    assert_refused(&facts, "NoNetAdmin", &["CAP_NET_ADMIN", "the loopback of a new network", "--cap-add NET_ADMIN"]);
    assert!(facts["new"].starts_with("PermissionDenied ") && facts["new"].contains("(EPERM, os error 1)"), "{output}");
    assert!(facts["new"].contains("lacks CAP_NET_ADMIN in user:["), "{output}");
    assert_eq!(facts["with"], "entered");
}

/// `rootless` does nothing for a process that has `CAP_SYS_ADMIN`.
#[test]
fn a_view_names_the_capability_that_is_missing_and_a_way_out_that_works() {
    let output = as_root_of_its_own("exec setpriv --bounding-set=-sys_chroot --inh-caps=-all \"$0\" stands");
    let view = facts(&output)["view"];
    assert!(view.starts_with("PermissionDenied ") && view.contains("lacks CAP_SYS_CHROOT,"), "{output}");
    assert!(view.contains("--cap-add SYS_CHROOT") && !view.contains("rootless"), "{output}");
    let output = as_root_of_its_own(&format!("{POWERLESS} \"$0\" stands"));
    let view = facts(&output)["view"];
    assert!(view.contains("lacks CAP_SYS_ADMIN and CAP_SYS_CHROOT,") && view.contains("rootless"), "{output}");
}

#[test]
fn files_that_may_not_be_used_are_reported() {
    // The root of a process that may be examined is not the cause.
    for root in ["", "/proc/$$/root"] {
        let output = as_root_of_its_own(&format!(
            "mount -t tmpfs none /mnt; mkdir -m 0 /mnt/closed; \
             exec setpriv --bounding-set=-dac_override,-dac_read_search --inh-caps=-all \
             \"$0\" stands create-in /mnt/closed/names from-path {root}/mnt/closed/name"
        ));
        let facts = facts(&output);
        for message in [facts["create_in"], facts["from_path"]] {
            assert!(message.starts_with("PermissionDenied ") && message.contains("(EACCES, os error 13)"), "{output}");
            assert!(message.contains("uid 0 may not use it, or search a directory of its path"), "{output}");
            assert!(!message.contains("CAP_SYS") && !message.contains("/run/netns"), "{output}");
        }
    }
}

/// By the path that manual pages give, as by the id.
#[test]
fn the_path_of_a_process_that_may_not_be_examined_is_reported() {
    let id = std::process::id();
    let output = as_root_of_its_own(&format!("exec \"$0\" stands from-pid {id} from-path /proc/{id}/ns/net"));
    let facts = facts(&output);
    let cause = |message: &str| message.split_once(": ").map(|(_, cause)| cause.to_owned());
    assert!(facts["from_path"].contains("user namespace"), "{output}");
    assert_eq!(cause(facts["from_path"]), cause(facts["from_pid"]), "{output}");
}

/// As in a sandbox with `--ro-bind / /`.
#[test]
fn a_proc_that_is_read_only_is_reported() {
    let read_only = "mount --bind /proc /proc; mount -o remount,bind,ro /proc";
    let output = as_root_of_its_own(&format!("{read_only}; {POWERLESS} \"$0\" stands enter"));
    let facts = facts(&output);
    for message in [facts["enter"], facts["privileges"], facts["new"]] {
        assert!(message.contains("/proc is mounted read-only") && !message.contains("dmesg"), "{output}");
    }
}

#[test]
fn a_view_in_the_mounts_of_another_user_namespace_names_a_way_out_that_works() {
    let scratch = Scratch::new();
    let program = scratch.program(env!("CARGO_BIN_EXE_separate"));
    let output = output_of(Command::new("unshare").args(["--map-root-user", "--net"]).arg(program).arg("stands"));
    let view = facts(&output)["view"];
    assert!(view.starts_with("PermissionDenied ") && view.contains("`unshare --map-root-user --mount`"), "{output}");
}

/// A name may be a link to the namespace of such a process.
#[test]
fn a_name_of_a_process_that_may_not_be_examined_is_passed_over_by_a_watch() {
    let id = std::process::id();
    let output = as_root_of_its_own(&format!(
        "mount -t tmpfs none /run; mkdir /run/netns; ln -s /proc/{id}/ns/net /run/netns/foreign; \
         exec \"$0\" stands watch-and-create blue"
    ));
    assert_eq!(facts(&output)["watch"], "created blue", "{output}");
}

/// The files that a view shows cannot be told then. Home's must not stand for them.
#[test]
fn a_directory_of_files_that_may_not_be_searched_is_reported_by_a_view() {
    let output = as_root_of_its_own(
        "mount -t tmpfs none /run; mount -t tmpfs none /mnt; mkdir /mnt/etc; mkdir -m 0 /mnt/etc/netns; \
         mount --bind /mnt/etc /etc; exec setpriv --bounding-set=-dac_override,-dac_read_search --inh-caps=-all \
         \"$0\" stands view-of blue",
    );
    let view = facts(&output)["view_of"];
    assert!(view.starts_with("PermissionDenied ") && view.contains("/etc/netns/blue"), "{output}");
    assert!(view.contains("uid 0 may not use it, or search a directory of its path"), "{output}");
}
