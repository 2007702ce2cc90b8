//! A process with a seccomp filter, whose pinned threads keep a file open for it, closes every descriptor that it has:
//! in a body, or in a child process that a body forks. Nothing closes them once more.
//!
//! Argument: who closes them (`child`, `process`, `body`, or `body-apart`, in a table of its own; or `view`, a body in
//! a view, whose thread keeps more files). In `view-leaves`, such a body leaves the table of the process and closes
//! nothing.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use in_netns::{Call, NetNs, PinnedThread, RetireReason, ThreadFate, pinned, pool_stats, set_poison_hook, with_netns};
use in_netns_tests::profiles::apply;
use in_netns_tests::{is_alive, tid, wait_until};
use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use seccompiler::SeccompAction;

pub(crate) fn main() {
    crate::rootless();
    // It refuses a system call that nothing makes.
    let refused = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    apply(BTreeMap::from([(9999, vec![])]), SeccompAction::Allow, refused);
    set_poison_hook(|_| ());
    // Its descriptor is closed by others.
    let ns = ManuallyDrop::new(NetNs::new().expect("a namespace"));
    match crate::arguments().next().expect("an argument").as_str() {
        "child" => child(&ns),
        "body" => body(&ns, 0),
        "body-apart" => body(&ns, libc::CLOSE_RANGE_UNSHARE),
        "process" => process(&ns),
        "view-leaves" => view(&ns, || nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES).expect("unshare")),
        "view" => {
            view(&ns, || close_all(libc::CLOSE_RANGE_UNSHARE));
            view(&ns, || {
                close_all(libc::CLOSE_RANGE_UNSHARE);
                std::mem::forget(open_files());
            });
        }
        other => panic!("{other}?"),
    }
}

fn close_all(flags: u32) {
    // SAFETY: of what is closed, only what checks its number first is used again.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, flags) };
    assert_eq!(closed, 0);
}

/// Opens files at the numbers that were closed.
fn open_files() -> Vec<File> {
    (0..64).map(|_| File::open("/dev/null").expect("a descriptor")).collect()
}

fn child(ns: &NetNs) {
    let child = AtomicI32::new(0);
    let body = || {
        // SAFETY: the child makes a system call and returns from the body, which ends it.
        match unsafe { fork() }.expect("fork") {
            ForkResult::Parent { child: id } => child.store(id.as_raw(), Ordering::Relaxed),
            ForkResult::Child => close_all(0),
        }
    };
    let guarded = |thread: &mut PinnedThread| {
        let guard = thread.enter(ns).expect("a guard");
        body();
        drop(guard);
    };
    let runs: [&dyn Fn(); 3] =
        [&|| with_netns(ns, body).expect("a call"), &|| ns.worker().run(body).expect("a run"), &|| {
            pinned(guarded).expect("a call");
        }];
    for run in runs {
        run();
        let child = Pid::from_raw(child.load(Ordering::Relaxed));
        assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
    }
}

fn body(ns: &NetNs, flags: u32) {
    let outcome = Call::new(ns).outcome(|| (close_all(flags), tid()).1).expect("a call");
    let files = open_files();
    assert!(matches!(outcome.thread, ThreadFate::Retired(RetireReason::Poisoned(_))), "{:?}", outcome.thread);
    let thread = outcome.value.expect("it does not panic");
    wait_until("the thread exits", || !is_alive(thread));
    // A job that closes a file elsewhere ran before this call, or runs now.
    for _ in 0..8 {
        assert_eq!(pinned(|_| 42).expect("a call"), 42);
    }
    for file in files {
        file.metadata().expect("it is open");
    }
}

/// The errors of later calls name the cause.
fn process(ns: &NetNs) {
    with_netns(ns, || ()).expect("a call");
    let kept = ns.as_fd().as_raw_fd().unsigned_abs();
    for (first, last) in [(3, kept - 1), (kept + 1, u32::MAX)] {
        if first <= last {
            // SAFETY: as above.
            assert_eq!(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }, 0);
        }
    }
    let errors = || {
        let ThreadFate::Retired(RetireReason::Poisoned(error)) = Call::new(ns).outcome(|| ()).expect("a call").thread
        else {
            panic!("a thread that cannot go home is poisoned")
        };
        let built = futures::executor::block_on(ns.run_async(async || ()));
        [error, built.expect_err("there is no runtime")]
    };
    for error in errors() {
        assert!(error.to_string().contains("was closed") && !error.to_string().contains("seccomp"), "{error}");
    }
    let _others = open_files();
    for error in errors() {
        assert!(error.to_string().contains("was closed, and its number is another file's now"), "{error}");
    }
}

/// A body that leaves the table of the process leaves no descriptor of its thread there, whatever it closes.
fn view(ns: &NetNs, body: fn()) {
    const OF_A_THREAD: usize = 6;
    let view = ns.view().expect("a view");
    let descriptors = || std::fs::read_dir("/proc/self/fd").expect("/proc").count();
    view.run(|| ()).expect("a call");
    Call::new(&view).fresh().run(|| ()).expect("a call");
    let before = descriptors();
    for _ in 0..10 {
        view.run(body).expect("a call");
        Call::new(&view).fresh().run(body).expect("a call");
        view.run(|| ()).expect("a call");
    }
    // A job that closes them may find no thread until the next call; and each thread that lives has some. There are
    // more of these beside other work, where the inspection of one takes longer than the next call waits.
    wait_until("their descriptors are closed", || {
        view.run(|| ()).expect("a call");
        descriptors() <= before + OF_A_THREAD * pool_stats().threads
    });
}
