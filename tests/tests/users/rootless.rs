//! A rootless process, seen from outside: the ids, privileges and namespaces of an ordinary user's program after
//! `in_netns::rootless!()`.
//!
//! These tests start programs, and do not change their own process. As root, they run the programs as `nobody`.

use std::fs;
use std::process::Command;

use in_netns_tests::{
    KINDS, Scratch, as_ordinary_user, facts, mount_table, namespace, output_of, separate, start_until, tasks_in,
    wait_until,
};

const BORN_ROOTLESS: &str = env!("CARGO_BIN_EXE_born_rootless");

#[test]
fn an_ordinary_user_becomes_root_of_namespaces_of_its_own() {
    let scratch = Scratch::new();
    let output = output_of(as_ordinary_user(&mut Command::new(scratch.program(BORN_ROOTLESS))).arg("facts"));
    let facts = facts(&output);
    for kind in KINDS {
        let own = facts[kind] != namespace(kind);
        assert_eq!(own, kind != "pid", "{kind} in {output}");
    }
    assert_eq!(facts["uid"], "0 gid=0");
    assert_eq!(facts["entry"], "Ok(Entered)");
    assert_eq!(facts["privileges"], "network namespaces can be made and entered");
}

#[test]
fn restoring_works_and_so_do_names() {
    let scratch = Scratch::new();
    let output = output_of(as_ordinary_user(&mut Command::new(scratch.program(BORN_ROOTLESS))).arg("facts"));
    let facts = facts(&output);
    assert_eq!((facts["restored"], facts["poisoned"]), ("true", "0"), "{output}");
    assert_eq!((facts["named"], facts["unnamed"]), ("true", "true"), "{output}");
}

#[test]
fn entering_in_main_does_the_same() {
    let scratch = Scratch::new();
    let output = output_of(as_ordinary_user(&mut separate!("stands", scratch)).args(["enter", "enter"]));
    let facts = facts(&output);
    assert_eq!(facts["enter"], "Entered");
    assert_ne!(facts["net"], namespace("net"));
    assert_eq!((facts["new"], facts["with"]), ("made", "entered"), "{output}");
}

#[test]
fn with_the_privilege_nothing_happens() {
    // The process is root of some user namespace: the initial one or its own.
    let scratch = Scratch::new();
    let program = scratch.program(BORN_ROOTLESS);
    let arrange = "set -e
        ip link set lo up; mount -t tmpfs tmpfs /run
        readlink /proc/self/ns/user /proc/self/ns/net /proc/self/ns/mnt
        exec \"$0\" facts";
    let output = output_of(
        Command::new("unshare").args(["--map-root-user", "--net", "--mount", "sh", "-c", arrange]).arg(program),
    );
    let facts = facts(&output);
    let started_in: Vec<&str> = output.lines().take(3).collect();
    assert_eq!([facts["user"], facts["net"], facts["mnt"]][..], started_in[..], "{output}");
    assert_eq!(facts["entry"], "Ok(NotNeeded)");
}

#[test]
fn with_threads_it_is_refused_and_says_so() {
    let scratch = Scratch::new();
    let output = output_of(as_ordinary_user(&mut separate!("stands", scratch)).args(["thread", "enter"]));
    let facts = facts(&output);
    assert!(facts["enter"].starts_with("Unsupported cannot enter a user namespace of the process's own: "), "{output}");
    assert!(facts["enter"].contains("had threads") && facts["enter"].contains("in_netns::rootless!();"), "{output}");
    assert_eq!(facts["user"], namespace("user"), "nothing has changed");
    assert_eq!(facts["cause"], "Some(Threads)");
}

/// On a machine without `/run/netns`, the program gets a new `/run` with every entry of the old one.
#[test]
fn without_a_directory_for_names_run_is_rebuilt() {
    let scratch = Scratch::new();
    let program = scratch.program(BORN_ROOTLESS);
    // The program has a private mount namespace, as an ordinary user of a user namespace.
    let arrange = "set -e
        mount -t tmpfs tmpfs /run
        mkdir /run/open /run/closed; chmod 0 /run/closed
        echo inside > /run/open/file; echo beside > /run/file
        mkfifo /run/fifo; ln -s open/file /run/link; chmod 555 /run
    mkdir /run/open/mount; mount -t tmpfs tmpfs /run/open/mount; rm -rf /run/mount; echo deeper > /run/open/mount/file
        exec setpriv --inh-caps=-all --ambient-caps=-all sh -c '\"$0\" facts && \"$0\" show' \"$0\"";
    let output = output_of(
        Command::new("unshare")
            .args(["--user", "--map-user=1000", "--map-group=1000", "--mount", "--keep-caps", "sh", "-c", arrange])
            .arg(program),
    );
    let facts = facts(&output);
    assert_eq!(facts["run"], "closed:dir fifo:other file:other link:other netns:dir open:dir", "{output}");
    assert_eq!(facts["content"], "inside beside inside deeper", "{output}");
    assert_eq!((facts["named"], facts["unnamed"]), ("true", "true"), "{output}");
}

/// One namespace is missing, here the mount namespace. Everything that does not need it works.
#[test]
fn without_a_mount_namespace_there_are_no_names_and_the_error_says_so() {
    let scratch = Scratch::new();
    let program = scratch.program(BORN_ROOTLESS);
    let arrange = "set -e; echo 0 > /proc/sys/user/max_mnt_namespaces
        exec setpriv --inh-caps=-all --ambient-caps=-all \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-user=1000", "--map-group=1000", "--keep-caps", "sh", "-c", arrange]).arg(program);
    let output = command.args(["named", "x"]).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success());
    assert!(stderr.contains("could not get a /run/netns of its own there"), "{stdout}{stderr}");
    let facts = facts(&stdout);
    assert_eq!(facts["mnt"], namespace("mnt"));
    assert_ne!(facts["net"], namespace("net"));
    assert_eq!(facts["anonymous"], "made", "{stdout}");
}

#[test]
fn after_a_kill_nothing_is_left() {
    let scratch = Scratch::new();
    let name = format!("killed-{}", std::process::id());
    let mut command = Command::new(scratch.program(BORN_ROOTLESS));
    let (mut child, output) = start_until(as_ordinary_user(&mut command).args(["named", &name]), "listed=");
    let facts = facts(&output);
    let [made, home] = [facts["made"], facts["net"]];
    assert_eq!(facts["listed"], format!("[{name:?}]"));

    // The name and its mount are not visible from here, but the process is.
    let named_outside = || fs::exists(format!("/run/netns/{name}")).unwrap();
    let mounted_outside = || mount_table("self").contains(&name);
    assert!(!named_outside() && !mounted_outside());
    assert!(tasks_in("net", home) >= 1, "{home} is not visible from here");

    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the end of its tasks", || tasks_in("net", made) + tasks_in("net", home) == 0);
    assert!(!named_outside() && !mounted_outside());
}
