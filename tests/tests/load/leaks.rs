//! Calls leave no descriptors, threads or mounts behind. Each test counts resources of the whole process, so they take
//! turns.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use futures::FutureExt as _;
use futures::executor::block_on;
use in_netns::{Call, Error, ErrorKind, IntoNetNs, NetNs, pool_stats, set_keep_alive, with_netns, with_netns_async};
use in_netns_tests::{alone, descriptors, give_up_sys_admin, here, key, limited, threads, wait_until};
use nix::sys::resource::Resource;
use proptest::prelude::*;

/// Checks that repeating `work` `times` times leaves descriptors and threads as they were.
#[track_caller]
fn leaves_nothing(what: &str, times: usize, work: impl Fn()) {
    // Resources that are created once and kept, such as the template thread, are created now.
    work();
    wait_until("no thread is about to exit", || pool_stats().leased == 0 && pool_stats().threads == pool_stats().idle);
    let (open, alive) = (descriptors(), threads().len());
    for _ in 0..times {
        work();
    }
    assert_eq!(descriptors(), open, "{what}: descriptors");
    wait_until(&format!("{what}: threads are as many as before"), || threads().len() <= alive);
}

#[test]
fn case_17_ten_thousand_successes_leave_nothing() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    leaves_nothing("pooled", 10_000, || with_netns(&ns, || ()).unwrap());
    leaves_nothing("fresh", 10_000, || Call::new(&ns).fresh().run(|| ()).unwrap());
    leaves_nothing("by process", 10_000, || with_netns(NetNs::from_pid(std::process::id()).unwrap(), || ()).unwrap());
    leaves_nothing("panics", 1_000, || {
        let call = std::panic::AssertUnwindSafe(|| with_netns(&ns, || std::panic::resume_unwind(Box::new(()))));
        std::panic::catch_unwind(call).map(|called: Result<(), _>| called).unwrap_err();
    });
    leaves_nothing("new namespaces", 100, || drop(NetNs::new().unwrap()));
}

#[test]
fn case_17_ten_thousand_async_calls() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let given_back = || wait_until("it is given back", || pool_stats().leased == 0);
    leaves_nothing("borrowed", 10_000, || block_on(ns.run_async(|| async {})).unwrap());
    leaves_nothing("owned", 10_000, || block_on(ns.spawn_async(|| async {})).unwrap());
    leaves_nothing("fresh", 1_000, || block_on(Call::new(&ns).fresh().run_async(|| async {})).unwrap());
    leaves_nothing("never polled", 10_000, || drop(ns.run_async(|| async {})));
    leaves_nothing("cancelled", 10_000, || {
        assert!(ns.run_async(std::future::pending::<()>).now_or_never().is_none());
        given_back();
    });
    leaves_nothing("aborted", 10_000, || {
        let task = ns.spawn_async(std::future::pending::<()>);
        task.abort();
        assert!(block_on(task).unwrap_err().is_cancelled());
    });
    leaves_nothing("detached", 10_000, || {
        drop(ns.spawn_async(|| async {}));
        given_back();
    });
    leaves_nothing("no such name", 10_000, || {
        drop(block_on(with_netns_async("no-such-name", || async {})).unwrap_err());
    });
    leaves_nothing("services", 100, || drop(ns.tokio_builder().worker_threads(2).build().unwrap()));
    thread::scope(|scope| {
        scope.spawn(|| {
            give_up_sys_admin();
            leaves_nothing("denied", 1_000, || {
                drop(block_on(Call::new(&ns).fresh().run_async(|| async {})).unwrap_err());
            });
        });
    });
}

#[test]
fn case_17_ten_thousand_failures_of_each_kind_leave_nothing() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let fails = |ns: &dyn Fn() -> Result<NetNs, Error>| drop(with_netns_result(ns()).unwrap_err());
    leaves_nothing("no such name", 10_000, || fails(&|| "no-such-name".into_netns()));
    leaves_nothing("not a namespace", 10_000, || fails(&|| "/etc/passwd".into_netns()));
    leaves_nothing("another kind of namespace", 10_000, || fails(&|| "/proc/self/ns/mnt".into_netns()));
    leaves_nothing("an invalid name", 10_000, || fails(&|| "..".into_netns()));
    leaves_nothing("no such process", 10_000, || fails(&|| NetNs::from_pid(u32::MAX)));
    thread::scope(|scope| {
        scope.spawn(|| {
            give_up_sys_admin();
            leaves_nothing("denied", 10_000, || drop(Call::new(&ns).fresh().run(|| ()).unwrap_err()));
        });
    });
}

#[test]
fn poisonings_leave_no_descriptor_and_no_thread() {
    let _alone = alone();
    in_netns::set_poison_hook(|_| {});
    let ns = NetNs::new().unwrap();
    leaves_nothing("poisoned", 500, || with_netns(&ns, give_up_sys_admin).unwrap());
    leaves_nothing("poisoned, fresh", 500, || Call::new(&ns).fresh().run(give_up_sys_admin).unwrap());
}

fn with_netns_result(ns: Result<NetNs, Error>) -> Result<(), Error> {
    with_netns(ns?, || ())
}

#[test]
fn case_26_no_descriptor_left_is_an_error_and_passes() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    with_netns(&ns, || ()).unwrap();
    let most = u64::from(*descriptors().keys().last().unwrap());
    {
        // Every descriptor up to the limit is taken.
        let _limit = limited(Resource::RLIMIT_NOFILE, most + 8);
        let mut taken = Vec::new();
        while let Ok(file) = fs::File::open("/dev/null") {
            taken.push(file);
        }
        let error = with_netns("/proc/self/ns/net", || ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitReached, "{error}");
        assert_eq!(NetNs::new().unwrap_err().kind(), ErrorKind::LimitReached);
        // A held handle needs no descriptor.
        assert!(with_netns(&ns, || ns.is_current()).unwrap().unwrap());
        // A thread that cannot be restored needs none either.
        in_netns::set_poison_hook(|_| {});
        with_netns(&ns, give_up_sys_admin).unwrap();
    }
    assert_eq!(in_netns_tests::threads_in(&ns), [] as [u32; 0]);
    with_netns("/proc/self/ns/net", || ()).unwrap();
}

#[test]
fn case_27_no_child_sees_a_descriptor_of_the_crates() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let caller = scope.spawn(|| {
            for _ in 0..1_000 {
                with_netns(&ns, || ()).unwrap();
                with_netns("/proc/self/ns/net", || ()).unwrap();
                Call::new(&ns).fresh().run(|| ()).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut children = 0;
        while !done.load(Ordering::Relaxed) && !caller.is_finished() || children == 0 {
            let listing = Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
            let listing = String::from_utf8(listing.stdout).unwrap();
            assert!(!listing.contains("net:[") && !listing.contains("pidfd"), "{listing}");
            children += 1;
        }
    });
}

#[test]
fn sixty_four_callers_need_sixty_four_threads_at_most() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let before = pool_stats().threads;
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                for _ in 0..100 {
                    assert_eq!(with_netns(&ns, here).unwrap(), key(ns.id()));
                }
            });
        }
    });
    assert!(pool_stats().threads <= before.max(64), "{:?}", pool_stats());
}

#[test]
fn case_30_after_the_keep_alive_the_threads_are_gone_and_nothing_wakes_up() {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let before = set_keep_alive(Duration::from_millis(200));
    thread::scope(|scope| {
        for _ in 0..200 {
            scope.spawn(|| assert_eq!(with_netns(&ns, here).unwrap(), key(ns.id())));
        }
    });
    // Threads that became idle in an earlier test exit by the earlier keep-alive.
    wait_until("the idle threads exit", || pool_stats().threads == 0);
    set_keep_alive(before);
    let stats = pool_stats();
    assert_eq!((stats.threads, stats.idle, stats.leased), (0, 0, 0));
    let named = |task: &Path| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("in-netns"));
    let ours = || -> Vec<_> {
        fs::read_dir("/proc/self/task")
            .unwrap()
            .filter_map(|task| Some(task.ok()?.path()).filter(|task| named(task)))
            .collect()
    };
    wait_until("only the template is left", || ours().len() == 1);
    let switches = |task: &Path| -> String {
        let text = fs::read_to_string(task.join("status")).unwrap();
        text.lines().filter(|line| line.contains("ctxt_switches")).collect()
    };
    let template = &ours()[0];
    let earlier = switches(template);
    // This test sleeps deliberately: no condition signals that nothing happened.
    thread::sleep(Duration::from_secs(5));
    assert_eq!(switches(template), earlier, "the template thread woke up");
}

/// Tries every kind of name and path that `text` can be.
fn try_everything(text: &str) {
    let expected = |error: &Error| {
        matches!(
            error.kind(),
            ErrorKind::NotFound
                | ErrorKind::NotANetNs
                | ErrorKind::InvalidName
                | ErrorKind::PermissionDenied
                | ErrorKind::Other
        )
    };
    for result in
        [NetNs::from_name(text), NetNs::from_path(text), text.into_netns(), NetNs::from_path(format!("/proc/{text}"))]
    {
        if let Err(error) = result {
            assert!(expected(&error), "{text:?}: {error:?}");
            assert!(!error.to_string().is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn any_name_or_path_is_answered_and_leaves_nothing(text in any::<String>()) {
        let _alone = alone();
        let (names, open) = (NetNs::list_named().unwrap(), descriptors());
        try_everything(&text);
        prop_assert_eq!(NetNs::list_named().unwrap(), names);
        prop_assert_eq!(descriptors().len(), open.len());
    }

    #[test]
    fn paths_that_look_like_paths(text in "[./a-c]{0,40}|/proc/(self|thread-self)/(ns|fd|task)/[a-z0-9]{0,5}") {
        let _alone = alone();
        try_everything(&text);
    }
}
