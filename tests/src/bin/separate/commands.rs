//! Processes that the crate starts in a namespace, and the threads that start them, each case in a process of its own.

use std::fs;
use std::io::ErrorKind;
use std::process::Child;
use std::thread;
use std::time::Duration;

use caps::{CapSet, Capability};
use in_netns::{NetNs, init, pool_stats, retire_current_thread, rootless, set_keep_alive, set_poison_hook, with_netns};
use in_netns_tests::{
    become_root_of_a_user_namespace, context_switches, is_alive, key, threads, threads_in, tid, wait_until,
};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

const KEEP_ALIVE: Duration = Duration::from_millis(20);

pub(crate) fn main() {
    let case = crate::arguments().next().expect("a case");
    if case == "poisoned" {
        become_root_of_a_user_namespace(CloneFlags::empty());
    } else {
        rootless::enter().expect("user namespaces are allowed");
    }
    match case.as_str() {
        "outlives" => children_outlive_what_their_parent_thread_is_not_needed_for(),
        "ends" => children_end_with_the_process(),
        "poisoned" => a_spawner_that_cannot_go_home_stays_until_its_children_have_ended(),
        "renewed" => a_spawner_that_is_replaced_stays_until_its_children_have_ended(),
        "forked" => a_forked_process_has_spawners_of_its_own(),
        "powerless" => a_namespace_that_may_not_be_entered_is_an_error_and_no_process_is_started(),
        "many" => many_at_once_leave_nothing(),
        "runtime" => what_tokio_keeps_for_the_process_is_kept_at_home(),
        "reaped" => a_process_that_the_kernel_reaps_is_an_error_that_says_so(),
        "few" => many_one_after_another_use_one_thread(),
        other => panic!("{other}?"),
    }
}

#[allow(unsafe_code)]
fn a_process_that_the_kernel_reaps_is_an_error_that_says_so() {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
    let ns = NetNs::new().expect("a namespace");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let waits: [&dyn Fn() -> std::io::Result<()>; 4] = [
        &|| ns.command("true").status().map(drop),
        &|| ns.command("true").output().map(drop),
        &|| runtime.block_on(ns.command("true").status_async()).map(drop),
        &|| runtime.block_on(ns.command("true").output_async()).map(drop),
    ];
    for (handler, flags) in [(SigHandler::SigIgn, SaFlags::empty()), (SigHandler::SigDfl, SaFlags::SA_NOCLDWAIT)] {
        for wait in waits {
            // SAFETY: it is no handler.
            let set = || unsafe { sigaction(Signal::SIGCHLD, &SigAction::new(handler, flags, SigSet::empty())) };
            let error = loop {
                set().expect("sigaction");
                match (wait(), set().expect("sigaction").handler()) {
                    (Err(error), _) => break error.to_string(),
                    // tokio has installed its handler, for a process that it could not wait for before. It does so
                    // once.
                    (Ok(()), SigHandler::Handler(_) | SigHandler::SigAction(_)) => {}
                    (Ok(()), _) => panic!("nothing was left to wait for"),
                }
            };
            assert!(error.contains("SIGCHLD") && error.contains("true") && error.contains("ECHILD"), "{error}");
        }
    }
}

/// A process that has asked for `SIGKILL` on the exit of its parent.
fn mortal(ns: &NetNs) -> Child {
    let child = ns.command("setpriv").args(["--pdeathsig", "KILL", "sleep", "1000"]).spawn().expect("setpriv");
    wait_until("it has become what it is to be", || name_of(child.id()) == "sleep");
    child
}

fn name_of(process: u32) -> String {
    fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default().trim_end().to_owned()
}

fn is_running(child: &mut Child) -> bool {
    child.try_wait().expect("it is ours").is_none()
}

fn end(mut child: Child) {
    assert!(is_running(&mut child), "the kernel has told it that its parent exited");
    child.kill().expect("it is ours");
    child.wait().expect("it is ours");
}

/// The thread whose child a process is.
fn parent_thread(child: &Child) -> u32 {
    let own = |tid: &u32| {
        let children = fs::read_to_string(format!("/proc/self/task/{tid}/children")).unwrap_or_default();
        children.split_whitespace().any(|id| id.parse() == Ok(child.id()))
    };
    threads().into_keys().find(own).expect("one of our threads is its parent")
}

/// Returns when threads that became idle before the call have expired, unless they stay.
fn let_idle_threads_expire(ns: &NetNs) {
    for _ in 0..3 {
        let idle = with_netns(ns, tid).expect("a call");
        wait_until("an idle thread exits", || !is_alive(idle));
    }
}

fn children_outlive_what_their_parent_thread_is_not_needed_for() {
    set_keep_alive(KEEP_ALIVE);
    let ns = NetNs::new().expect("a namespace");
    // What the kernel does when a parent thread exits.
    let mut control = with_netns(&ns, || {
        retire_current_thread();
        mortal_by_std()
    })
    .expect("a call");
    wait_until("the kernel tells a child of a thread that exits", || !is_running(&mut control));

    let (child, own, caller) = thread::spawn({
        let ns = ns.clone();
        move || {
            let own = ns.command("sleep").arg("1000").parent_death_signal(libc::SIGKILL).spawn().expect("sleep");
            (mortal(&ns), own, tid())
        }
    })
    .join()
    .expect("no panic");
    wait_until("the thread that asked is gone", || !is_alive(caller));
    let spawner = parent_thread(&child);
    assert_eq!(parent_thread(&own), spawner, "one thread serves one caller");
    let_idle_threads_expire(&ns);
    // It sleeps, and does not look at the clock.
    let before = context_switches(spawner);
    let_idle_threads_expire(&ns);
    assert_eq!(context_switches(spawner), before);
    assert_eq!(parent_thread(&child), spawner);
    assert_eq!(threads_in(&ns), [] as [u32; 0]);

    // A body's child keeps its thread as well, as long as nothing else makes that exit.
    let of_body = with_netns(&ns, mortal_by_std).expect("a call");
    let body = parent_thread(&of_body);
    wait_until("it is idle", || pool_stats().leased == 0);
    thread::sleep(2 * KEEP_ALIVE);
    assert!(is_alive(body));
    end(of_body);

    end(child);
    end(own);
    // The threads exit once they have been used again and have no children.
    wait_until("the spawner exits", || {
        // It stays until the next use where `true` still runs when the keep-alive is over.
        if is_alive(spawner) {
            assert!(ns.command("true").status().expect("true").success());
            thread::sleep(4 * KEEP_ALIVE);
        }
        !is_alive(spawner)
    });
    with_netns(&ns, || ()).expect("a call");
    wait_until("the body's thread exits", || !is_alive(body));

    // Where there are several, one is kept for the next command, and the others exit with their children.
    let several = thread::scope(|scope| {
        let starts: Vec<_> = (0..20).map(|_| scope.spawn(|| mortal(&ns))).collect();
        starts.into_iter().map(|start| start.join().expect("no panic")).collect::<Vec<_>>()
    });
    wait_until("one is idle", || pool_stats().idle == 1);
    several.into_iter().for_each(end);
    wait_until("the main thread, the template and the last spawner are left", || threads().len() <= 3);
}

fn mortal_by_std() -> Child {
    let mut command = std::process::Command::new("setpriv");
    let child = command.args(["--pdeathsig", "KILL", "sleep", "1000"]).spawn().expect("setpriv");
    wait_until("it has become what it is to be", || name_of(child.id()) == "sleep");
    child
}

/// Prints the ids of two processes, and waits to be killed.
#[allow(clippy::zombie_processes)] // This process is killed, and another looks at what becomes of them.
fn children_end_with_the_process() {
    let ns = NetNs::new().expect("a namespace");
    let own = ns.command("sleep").arg("1000").parent_death_signal(libc::SIGTERM).spawn().expect("sleep");
    // A second wish replaces the first, and 0 takes it back.
    let mut command = ns.command("sleep");
    let staying = command.arg("1000").parent_death_signal(libc::SIGKILL).parent_death_signal(0).spawn().expect("sleep");
    println!("{} {} {}", mortal(&ns).id(), own.id(), staying.id());
    loop {
        thread::park();
    }
}

fn a_spawner_that_cannot_go_home_stays_until_its_children_have_ended() {
    set_poison_hook(|_| {});
    set_keep_alive(KEEP_ALIVE);
    let ns = NetNs::new().expect("the user namespace may make network namespaces");
    let poisoned = pool_stats().poisoned_total;
    let first = mortal(&ns);
    let second = mortal(&ns);
    assert_eq!(pool_stats().poisoned_total, poisoned + 2, "each start costs a thread");
    let spawners = [&first, &second].map(parent_thread);
    assert_ne!(spawners[0], spawners[1], "a poisoned thread starts nothing more");
    assert_eq!(threads_in(&ns).len(), 2, "they stay where they are");
    // A process that has ended, or was not started, keeps no thread.
    assert!(ns.command("true").status().expect("true").success());
    ns.command("/no/such/program").spawn().expect_err("it does not exist");
    let_idle_threads_expire(&ns);
    wait_until("only those with children stay", || threads_in(&ns).len() == 2);
    assert_eq!([&first, &second].map(parent_thread), spawners);
    end(first);
    wait_until("its spawner exits", || !is_alive(spawners[0]));
    assert!(is_alive(spawners[1]));
    end(second);
    wait_until("nothing is left in the namespace", || threads_in(&ns).is_empty());
}

fn a_spawner_that_is_replaced_stays_until_its_children_have_ended() {
    init().expect("the main thread's capabilities are the template's");
    let ns = NetNs::new().expect("a namespace");
    // A thread that has more capabilities than the pinned ones are left with.
    thread::scope(|scope| {
        let (go_on, wait) = std::sync::mpsc::channel();
        let ns = &ns;
        let capable = scope.spawn(move || {
            wait.recv().expect("it goes on");
            mortal(ns)
        });
        for set in [CapSet::Effective, CapSet::Permitted] {
            caps::drop(None, set, Capability::CAP_NET_RAW).expect("a capability can be dropped");
        }
        let lesser = mortal(ns);
        let old = parent_thread(&lesser);
        go_on.send(()).expect("it waits");
        let greater = capable.join().expect("no panic");
        let new = parent_thread(&greater);
        assert_ne!(new, old, "the old one cannot have these capabilities any more");
        assert!(ns.command("true").status().expect("true").success());
        assert!(is_alive(old), "its child is running");
        end(lesser);
        wait_until("the replaced spawner exits", || !is_alive(old));
        end(greater);
    });
}

fn a_forked_process_has_spawners_of_its_own() {
    let ns = NetNs::new().expect("a namespace");
    let start = || {
        let child = ns.command("sleep").arg("1000").spawn().expect("sleep");
        assert_eq!(namespace_of(child.id()), key(ns.id()));
        assert_ne!(parent_thread(&child), std::process::id(), "the main thread is no spawner");
        child
    };
    let child = start();
    // SAFETY: the other threads belong to the crate and are idle: none holds a lock.
    #[allow(unsafe_code)]
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            end(start());
            std::process::exit(0);
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None).expect("waitpid"), WaitStatus::Exited(child, 0));
        }
    }
    end(child);
    end(start());
}

fn namespace_of(process: u32) -> (u64, u64) {
    let file = nix::sys::stat::stat(format!("/proc/{process}/ns/net").as_str()).expect("it lives");
    (file.st_dev, file.st_ino)
}

fn a_namespace_that_may_not_be_entered_is_an_error_and_no_process_is_started() {
    let ns = NetNs::new().expect("a namespace");
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::drop(None, set, Capability::CAP_SYS_ADMIN).expect("a capability can be dropped");
    }
    let mark = std::env::temp_dir().join(format!("in-netns-commands-{}", std::process::id()));
    let mut command = ns.command("touch");
    let error = command.arg(&mark).status().expect_err("it may not be entered");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.to_string().contains(&ns.to_string()), "{error}");
    assert!(error.to_string().contains("CAP_SYS_ADMIN"), "{error}");
    assert!(!mark.exists());
}

fn many_at_once_leave_nothing() {
    set_keep_alive(KEEP_ALIVE);
    let spaces: Vec<NetNs> = (0..4).map(|_| NetNs::new().expect("a namespace")).collect();
    let before = in_netns_tests::descriptors();
    thread::scope(|scope| {
        for number in 0..100 {
            let ns = &spaces[number % spaces.len()];
            scope.spawn(move || {
                let script = format!("readlink /proc/self/ns/net; cat; exit {}", number % 3);
                let mut command = ns.command("sh");
                let output = command.args(["-c", &script]).output().expect("sh");
                assert_eq!(output.status.code(), i32::try_from(number % 3).ok());
                assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{ns}\n"));
            });
        }
    });
    assert!(pool_stats().spawned_total <= 101, "{:?}", pool_stats());
    // Beside the main thread and the template, one that has not found out that its children have ended.
    wait_until("the threads expire", || threads().len() <= 3);
    assert_eq!(in_netns_tests::descriptors(), before);
    for ns in spaces {
        assert!(ns.wait_until_gone(Duration::from_secs(10)).expect("it can be watched"), "nothing holds it");
    }
}

/// tokio makes a pair of sockets for signals when the process's first runtime starts, and keeps them for ever.
fn what_tokio_keeps_for_the_process_is_kept_at_home() {
    // Not `NetNs::new`, which is a call: the first one is below.
    let new = || unshare(CloneFlags::CLONE_NEWNET).map(|()| NetNs::current());
    let ns = thread::spawn(new).join().expect("a thread").expect("root").expect("a namespace");
    let body = || tokio::runtime::Builder::new_current_thread().enable_all().build().map(drop);
    ns.run(body).expect("a call").expect("a runtime");
    wait_until("nothing is left inside", || ns.holders().expect("holders").is_empty());
    futures::executor::block_on(ns.run_async(|| async { tokio::task::yield_now().await })).expect("a call");
    wait_until("nothing is left inside", || ns.holders().expect("holders").is_empty());
}

fn many_one_after_another_use_one_thread() {
    set_keep_alive(Duration::from_secs(1000));
    let ns = NetNs::new().expect("a namespace");
    // More than are remembered before those that have ended are forgotten.
    let running: Vec<Child> = (0..3).map(|_| mortal(&ns)).collect();
    let spawner = parent_thread(&running[0]);
    for _ in 0..60 {
        assert!(ns.command("true").status().expect("true").success());
    }
    let last = mortal(&ns);
    assert_eq!(parent_thread(&last), spawner);
    // Beside the thread that made the namespace.
    assert_eq!((pool_stats().threads, pool_stats().idle, pool_stats().spawned_total), (2, 2, 2));
    running.into_iter().chain([last]).for_each(end);
}
