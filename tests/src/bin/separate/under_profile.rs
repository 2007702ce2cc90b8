//! Calls in a process under a seccomp profile: each works, warm calls reuse their thread, and no thread keeps the
//! changes of a body.
//!
//! Arguments: the name of a profile in `tests/profiles`, or `none`; then additional system calls that kill. Prints the
//! time of a warm call.

use std::collections::BTreeMap;
use std::time::Instant;

use in_netns::{Call, ErrorKind, NetNs, RetireReason, ThreadFate, pool_stats, set_poison_hook, with_netns};
use in_netns_tests::profiles::{Profile, apply};
use in_netns_tests::{give_up_sys_admin, is_alive, threads_in, threads_outside_home, tid};
use nix::sched::{CloneFlags, unshare};
use seccompiler::SeccompAction;

pub(crate) fn main() {
    crate::rootless();
    let arguments: Vec<String> = crate::arguments().collect();
    let (profile, kill) = arguments.split_first().expect("a profile");
    for set in [caps::CapSet::Effective, caps::CapSet::Permitted] {
        for missing in [caps::Capability::CAP_SYS_PTRACE, caps::Capability::CAP_SYS_NICE] {
            caps::drop(None, set, missing).expect("a capability can always be dropped");
        }
    }
    set_poison_hook(|_| {});
    // A container runtime does this before the program starts. The library has done its part above.
    if profile != "none" {
        Profile::read(profile).apply();
    }
    let killing = kill.iter().map(|name| (i64::from(name.parse::<syscalls::Sysno>().expect("a call").id()), vec![]));
    if !kill.is_empty() {
        apply(killing.collect::<BTreeMap<_, _>>(), SeccompAction::Allow, SeccompAction::KillProcess);
    }

    // `/proc` may belong to another pid namespace.
    let own_link = std::fs::read_link("/proc/thread-self").expect("/proc shows this thread");
    let ids_agree = own_link.ends_with(tid().to_string());

    let ns = NetNs::new().expect("a namespace");
    let spawned = {
        with_netns(&ns, || ()).expect("a first call");
        pool_stats().spawned_total
    };
    for _ in 0..200 {
        assert_eq!(with_netns(&ns, NetNs::current).expect("a call").expect("a namespace"), ns, "P1");
        assert!(!ids_agree || threads_in(&ns).is_empty(), "P3");
    }
    assert_eq!(pool_stats().spawned_total, spawned, "warm calls use their thread again");
    let outcome = Call::new(&ns).outcome(tid).expect("a call");
    assert!(matches!(outcome.thread, ThreadFate::Reusable), "{:?}", outcome.thread);

    assert_eq!(NetNs::from_pid(std::process::id()).expect("our own process"), NetNs::current().expect("home"));
    // A socket, which is looked at by a copy of it.
    let _socket = ns.udp_bind("127.0.0.1:0").expect("a socket");
    NetNs::all().expect("an inventory");
    ns.holders().expect("the holders");
    match ns.downgrade().and_then(|weak| weak.upgrade()) {
        Ok(found) => assert_eq!(found, Some(ns.clone())),
        // Before Linux 6.18, and where the profile forbids it.
        Err(error) => assert!(matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied), "{error}"),
    }

    let separately = [CloneFlags::CLONE_FS, CloneFlags::CLONE_FILES, CloneFlags::CLONE_NEWNS, CloneFlags::CLONE_NEWIPC];
    for flags in separately {
        let outcome = Call::new(&ns).outcome(|| unshare(flags).expect("unshare")).expect("a call");
        assert!(matches!(outcome.thread, ThreadFate::Retired(RetireReason::Changed(_))), "{:?}", outcome.thread);
    }
    let uts = || std::fs::read_link("/proc/thread-self/ns/uts").expect("a namespace");
    let home = with_netns(&ns, uts).expect("a call");
    with_netns(&ns, || unshare(CloneFlags::CLONE_NEWUTS)).expect("a call").expect("unshare");
    assert_eq!(with_netns(&ns, uts).expect("a call"), home);

    for _ in 0..20 {
        let on = with_netns(&ns, || {
            give_up_sys_admin();
            tid()
        });
        let on = on.expect("a call");
        assert!(!ids_agree || !is_alive(on), "P3: gone before the call returns");
    }
    assert!(!ids_agree || threads_outside_home().is_empty());

    // The body makes a system call, so that its thread is inspected. The fastest of several rounds counts.
    let round = || {
        let mut times: Vec<_> = (0..500)
            .map(|_| {
                let start = Instant::now();
                with_netns(&ns, nix::unistd::getppid).expect("a call");
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        (times[250], times[450])
    };
    let (median, high) = (0..20).map(|_| round()).min().expect("a round");
    println!("{profile} {kill:?}: {median:?} a warm call, {high:?} at the 90th percentile");
}
