//! A process that has used the crate makes child processes in several ways. The children do not exec, and make calls.
//!
//! Argument: the kind of child.
#![allow(unsafe_code)]

use std::future::Future;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;

use futures::executor::block_on;
use in_netns::{
    Call, ErrorKind, NetNs, NetNsPool, View, WatchEvent, Worker, par_walk, pinned, pool_stats, retire_current_thread,
    set_keep_alive, set_poison_hook, set_stray_hook, walk, with_netns, with_netns_async,
};
use in_netns_tests::{BOUND, give_up_sys_admin, here, key, tid, wait_until};
use nix::errno::Errno;
use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;

pub(crate) fn main() {
    crate::rootless();
    let ns = NetNs::new().expect("a namespace");
    let inside = || assert_eq!(with_netns(&ns, here).expect("a call"), key(ns.id()));
    inside();
    match crate::arguments().next().expect("an argument").as_str() {
        "raw-clone" => {
            in_child(raw_clone, || {
                inside();
                in_child(raw_clone, inside);
                inside();
            });
            in_child(raw_clone, || {
                assert_eq!(pool_stats().threads, 0, "the parent's threads are not counted");
                inside();
                assert_eq!((pool_stats().threads, pool_stats().idle), (1, 1));
            });
        }
        "vfork" => vfork_child(&ns),
        "deep" => descend(&ns, 24),
        "used-worker" => {
            let worker = ns.worker();
            let on = worker.run(tid).expect("a run");
            for make in [raw_clone, libc_fork] {
                in_child(make, || {
                    runs(&worker);
                    runs(&worker);
                });
                in_child(make, inside);
            }
            assert_eq!(worker.run(tid).expect("a run"), on, "the parent's worker goes on");
            in_child(libc_fork, move || drop(worker));
        }
        "worker-dropped-unused-there" => {
            let worker = ns.worker();
            in_child(libc_fork, || {
                runs(&worker);
                drop(ns.worker());
            });
            runs(&worker);
            let used = ns.worker();
            runs(&used);
            // The child owns a copy of the parent's worker, and drops it, after a run of its own and without one.
            // SAFETY: the child makes calls and exits. That a child of a threaded process can do so is what this
            // module tests.
            match unsafe { fork() }.expect("fork") {
                ForkResult::Child => {
                    drop(worker);
                    runs(&used);
                    drop(used);
                    inside();
                    // SAFETY: it ends the child, and runs nothing that the parent registered.
                    unsafe { libc::_exit(0) }
                }
                ForkResult::Parent { child } => succeeded(child),
            }
        }
        "worker-busy" => worker_busy(&ns),
        "in-a-body" => {
            with_netns(&ns, || in_child(libc_fork, || in_body(&ns))).expect("a call");
            ns.worker().run(|| in_child(libc_fork, || in_body(&ns))).expect("a run");
        }
        "returns-from-its-body" => {
            set_keep_alive(std::time::Duration::from_secs(3600));
            let child = with_netns(&ns, || start_child(libc_fork)).expect("a call");
            assert_ne!(child, 0, "the child has no caller to return to");
            succeeded(Pid::from_raw(child));
            let child = ns.worker().run(|| start_child(libc_fork)).expect("a run");
            succeeded(Pid::from_raw(child));
            let child = Call::new(&ns).fresh().run(|| start_child(libc_fork)).expect("a call");
            succeeded(Pid::from_raw(child));
        }
        "makes-calls-and-returns-from-its-body" => {
            set_keep_alive(std::time::Duration::from_secs(3600));
            let fork_and_call = || fork_and_call(&ns);
            succeeded(Pid::from_raw(with_netns(&ns, fork_and_call).expect("a call")));
            succeeded(Pid::from_raw(ns.worker().run(fork_and_call).expect("a run")));
            succeeded(Pid::from_raw(Call::new(&ns).fresh().run(fork_and_call).expect("a call")));
            succeeded(Pid::from_raw(pinned(|_| fork_and_call()).expect("a call")));
        }
        "called-by-another-thread" => called_by_another_thread(&ns),
        "returns-to-a-loop" => returns_to_a_loop(&ns),
        "returns-to-the-thread-of-a-pool" => returns_to_the_thread_of_a_pool(&ns),
        "returns-from-a-waker" => returns_from_a_waker(&ns),
        "returns-to-a-runtime" => returns_to_a_runtime(&ns),
        "returns-to-other-tasks" => returns_to_other_tasks(&ns),
        "returns-from-a-thread-local" => returns_from_a_thread_local(&ns),
        "returns-from-its-async-body" => returns_from_its_async_body(&ns),
        "view-that-is-made-anew" => view_that_is_made_anew(&ns),
        "view-of-generations" => view_of_generations(&ns),
        "watch" => watch_in_both(),
        "watch-of-a-runtime" => watch_of_a_runtime(),
        "beside-calls" => beside_calls(&ns),
        "beside-hooks" => beside_hooks(&ns),
        "async-call" => async_call(&ns),
        "async-handle" => async_handle(&ns),
        "runtime" => runtime(&ns),
        "dropped-there" => dropped_there(&ns),
        other => panic!("no scenario {other}"),
    }
    inside();
}

fn runs(worker: &Worker) {
    assert_eq!(worker.run(here).expect("a run"), key(worker.netns().id()));
}

fn libc_fork() -> libc::c_long {
    // SAFETY: as above.
    unsafe { libc::fork() }.into()
}

/// A fork that runs no `pthread_atfork(3)` handler.
fn raw_clone() -> libc::c_long {
    // SAFETY: no stack and no shared memory: the child is a copy, as after fork.
    unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) }
}

fn start_child(make: fn() -> libc::c_long) -> i32 {
    i32::try_from(Errno::result(make()).expect("a child")).expect("a process id")
}

/// Runs `body` in a child process, which then exits, and expects it to succeed.
fn in_child(make: fn() -> libc::c_long, body: impl FnOnce()) {
    match start_child(make) {
        0 => {
            let ended = panic::catch_unwind(AssertUnwindSafe(body));
            // SAFETY: it ends the child, and runs nothing that the parent registered.
            unsafe { libc::_exit(i32::from(ended.is_err())) }
        }
        child => succeeded(Pid::from_raw(child)),
    }
}

fn is_zombie(process: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("a child that was not waited for");
    stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z"))
}

#[track_caller]
fn succeeded(child: Pid) {
    let ended = |status| matches!(status, WaitStatus::Exited(_, 0));
    let mut status = WaitStatus::StillAlive;
    wait_until("the child ends", || {
        status = waitpid(child, Some(nix::sys::wait::WaitPidFlag::WNOHANG)).expect("waitpid");
        status != WaitStatus::StillAlive
    });
    assert!(ended(status), "{status:?}");
}

/// A child that shares the memory of its parent, whose thread waits for it, as in `vfork(2)`.
fn vfork_child(ns: &NetNs) {
    extern "C" fn child(ns: *mut libc::c_void) -> libc::c_int {
        // SAFETY: the parent passes a reference, and waits until the child has ended.
        let ns = unsafe { &*ns.cast::<NetNs>() };
        i32::from(with_netns(ns, here).ok() != Some(key(ns.id())))
    }
    let mut stack = vec![0_u128; 1 << 16];
    let top = stack.as_mut_ptr_range().end.cast();
    let ns: *const NetNs = ns;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack is the child's alone, and outlives it: the parent waits.
    let pid = unsafe { libc::clone(child, top, flags, ns.cast_mut().cast()) };
    succeeded(Pid::from_raw(Errno::result(pid).expect("clone")));
}

/// Each generation forks the next one.
fn descend(ns: &NetNs, deeper: u32) {
    assert_eq!(with_netns(ns, here).expect("a call"), key(ns.id()));
    if deeper > 0 {
        let make = if deeper % 2 == 0 { libc_fork } else { raw_clone };
        in_child(make, || descend(ns, deeper - 1));
    }
}

/// The child is created while other threads of the parent run in the worker or wait for it.
fn worker_busy(ns: &NetNs) {
    let worker = ns.worker();
    let (began, go_on) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let first = scope.spawn(|| {
            worker.run(|| {
                began.store(true, Ordering::SeqCst);
                wait_until("the children have ended", || go_on.load(Ordering::SeqCst));
            })
        });
        wait_until("the run has begun", || began.load(Ordering::SeqCst));
        let second = scope.spawn(|| worker.run(here));
        in_child(libc_fork, || runs(&worker));
        go_on.store(true, Ordering::SeqCst);
        first.join().expect("no panic").expect("a run");
        assert_eq!(second.join().expect("no panic").expect("a run"), key(ns.id()));
    });
}

/// The child is created while another thread of the parent makes the mounts of a view anew.
fn view_that_is_made_anew(ns: &NetNs) {
    let files = in_netns_tests::Scratch::new();
    let (resolv_conf, unknown) = (files.path().join("resolv.conf"), files.path().join("not-there-at-home"));
    std::fs::write(&resolv_conf, "nameserver 192.0.2.53").expect("a file");
    let view = View::builder(ns).etc(files.path()).build().expect("a view");
    let reads = || {
        let text = view.run(|| std::fs::read_to_string("/etc/resolv.conf")).expect("a call").expect("a file");
        assert_eq!(text, "nameserver 192.0.2.53");
    };
    reads();
    // The mounts are made anew, which fails after a while, in every call.
    std::fs::write(&unknown, "").expect("a file");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let busy = scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                assert_eq!(view.run(|| ()).expect_err("no such file").kind(), ErrorKind::NotFound);
            }
        });
        // After a raw clone, a lock of the allocator might be held in the child.
        for _ in 0..4 {
            thread::sleep(std::time::Duration::from_millis(20));
            in_child(libc_fork, || {
                assert_eq!(view.run(|| ()).expect_err("no such file").kind(), ErrorKind::NotFound);
                let other = View::builder(ns).hosts("").build().expect("another view");
                assert_eq!(other.run(here).expect("a call"), key(ns.id()));
            });
        }
        stop.store(true, Ordering::SeqCst);
        busy.join().expect("no panic");
    });
    std::fs::remove_file(&unknown).expect("the file");
    reads();
    for make in [libc_fork, raw_clone] {
        in_child(make, || {
            reads();
            in_child(make, reads);
            drop(view.clone());
            reads();
        });
    }
}

/// A view is made anew in a child, in a child of that one, and so on. None of them keeps mounts that it cannot use.
fn view_of_generations(ns: &NetNs) {
    const GENERATIONS: usize = 3;
    fn of_views(home: &Path) -> Vec<PathBuf> {
        let descriptors = std::fs::read_dir("/proc/self/fd").expect("descriptors");
        // The descriptor that lists them is closed by then.
        let links = descriptors.filter_map(|descriptor| std::fs::read_link(descriptor.expect("an entry").path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("mnt:") && link != home).collect()
    }
    fn descend(view: View, files: &Path, home: &Path, generation: usize) {
        let (resolv_conf, other) = (files.join("resolv.conf"), files.join("other~"));
        let text = generation.to_string();
        std::fs::write(&other, &text).expect("a file");
        std::fs::rename(other, resolv_conf).expect("a file");
        assert_eq!(view.run(|| std::fs::read_to_string("/etc/resolv.conf").expect("a file")).expect("a call"), text);
        assert_eq!(of_views(home).len(), 1, "generation {generation}: {:?}", of_views(home));
        let mut view = Some(view);
        if generation < GENERATIONS {
            let next = if generation % 2 == 0 { libc_fork } else { raw_clone };
            in_child(next, || descend(view.take().expect("the view"), files, home, generation + 1));
        }
        in_child(libc_fork, || {
            drop(view.take());
            assert!(of_views(home).is_empty(), "a child that never used the view: {:?}", of_views(home));
        });
        drop(view);
        assert!(of_views(home).is_empty(), "generation {generation}: {:?}", of_views(home));
    }
    let files = in_netns_tests::Scratch::new();
    std::fs::write(files.path().join("resolv.conf"), "").expect("a file");
    let view = View::builder(ns).etc(files.path()).build().expect("a view");
    let home = std::fs::read_link("/proc/thread-self/ns/mnt").expect("a link");
    descend(view, files.path(), &home, 0);
}

/// A watch is used in a child and in its parent at the same time.
fn watch_in_both() {
    const NAMES: u32 = 12;
    let name = |number| format!("watched-{}-{number}", std::process::id());
    let last = name(NAMES - 1);
    let mut watch = NetNs::watch().expect("a watch").1;
    let mut wait_for = |wanted: &str| loop {
        match watch.next_within(BOUND).expect("an event") {
            Some(WatchEvent::Created { name, .. }) if name == *wanted => return,
            Some(_) => {}
            None => panic!("{wanted} is not reported"),
        }
    };
    let child = start_child(libc_fork);
    if child == 0 {
        let ended = panic::catch_unwind(AssertUnwindSafe(|| wait_for(&last)));
        // SAFETY: it ends the child, and runs nothing that the parent registered.
        unsafe { libc::_exit(i32::from(ended.is_err())) }
    }
    scopeguard::defer! {
        (0..NAMES).for_each(|number| drop(NetNs::delete_named(&name(number))));
    }
    for number in 0..NAMES {
        thread::scope(|scope| {
            scope.spawn(|| {
                // The main thread waits by then, as a rule.
                thread::sleep(std::time::Duration::from_millis(20));
                NetNs::create_named(&name(number)).expect("a namespace");
            });
            wait_for(&name(number));
        });
    }
    succeeded(Pid::from_raw(child));
}

/// A child drops its copy of a watch that is registered with a runtime of the parent.
fn watch_of_a_runtime() {
    let name = format!("watched-async-{}", std::process::id());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut watch = NetNs::watch().expect("a watch").1;
    let wanted = name.clone();
    // It owns the watch.
    let mut next = Some(Box::pin(async move {
        loop {
            match watch.next_async().await.expect("an event") {
                WatchEvent::Created { name, .. } if name == wanted => return,
                _ => {}
            }
        }
    }));
    let mut create = None;
    // The future is not polled again before it is woken: each poll registers anew.
    let waits = std::future::poll_fn(|context| {
        let poll = next.as_mut().expect("the future").as_mut().poll(context);
        if create.is_none() {
            let child = start_child(libc_fork);
            if child == 0 {
                drop(next.take());
                // SAFETY: it ends the child, and runs nothing that the parent registered.
                unsafe { libc::_exit(0) }
            }
            succeeded(Pid::from_raw(child));
            let name = name.clone();
            create = Some(thread::spawn(move || NetNs::create_named(&name).expect("a namespace")));
        }
        poll
    });
    let start = std::time::Instant::now();
    // At the end, the timeout polls the future once more, which then looks at the names.
    let created = runtime.block_on(async { tokio::time::timeout(BOUND, waits).await });
    create.expect("a thread").join().expect("no panic");
    NetNs::delete_named(&name).expect("the name");
    assert!(created.is_ok() && start.elapsed() < BOUND, "the watch is not woken");
}

/// Forks. The child makes calls, for which it starts threads that wait for the next call, and returns.
fn fork_and_call(ns: &NetNs) -> i32 {
    let child = start_child(libc_fork);
    if child == 0 {
        for _ in 0..2 {
            assert_eq!(with_netns(ns, here).expect("a call"), key(ns.id()));
            assert_eq!(Call::new(ns).fresh().run(here).expect("a call"), key(ns.id()));
        }
    }
    child
}

/// As [`fork_and_call`]. The child starts so many threads that they use the stacks of all threads of the parent.
fn fork_and_overwrite(ns: &NetNs) -> i32 {
    let child = start_child(libc_fork);
    if child == 0 {
        let threads = 16;
        let barrier = Arc::new(std::sync::Barrier::new(threads));
        let overwrite = move || {
            // With numbers that tell variants of an enum apart, and lead nowhere as pointers.
            #[allow(clippy::large_stack_arrays)]
            std::hint::black_box([1_u64; 1 << 15]);
            barrier.wait();
        };
        let started: Vec<_> = (0..threads).map(|_| thread::spawn(overwrite.clone())).collect();
        for thread in started {
            thread.join().expect("no panic");
        }
        assert_eq!(with_netns(ns, here).expect("a call"), key(ns.id()));
    }
    child
}

/// The caller's stack is not there in the child: the C library gives it to the threads of the child.
fn called_by_another_thread(ns: &NetNs) {
    set_keep_alive(std::time::Duration::from_secs(3600));
    // What a body uses in the child is not on the caller's stack.
    let ns: &'static NetNs = Box::leak(Box::new(ns.clone()));
    let large = [0_u8; 4096];
    let forked = thread::spawn(move || {
        let pods = [ns, ns];
        let walked = walk(pods, fork_and_overwrite).expect("a walk").into_iter();
        let walked = walked.map(|child| child.expect("it was entered")).collect();
        let worker = ns.worker();
        let children = vec![
            with_netns(ns, move || fork_and_overwrite(ns)).expect("a call"),
            with_netns(ns, move || (fork_and_overwrite(ns), large)).expect("a call").0,
            Call::new(ns).fresh().run(move || fork_and_overwrite(ns)).expect("a call"),
            Call::new(ns).fresh().run(move || (fork_and_overwrite(ns), large)).expect("a call").0,
            Call::new(ns).fresh().audit().run(move || fork_and_overwrite(ns)).expect("a call"),
            worker.run(move || fork_and_overwrite(ns)).expect("a run"),
            worker.run(move || (fork_and_overwrite(ns), large)).expect("a run").0,
            block_on(with_netns_async(ns, move || async move { fork_and_overwrite(ns) })).expect("a call"),
        ];
        [children, walked].concat()
    });
    forked.join().expect("no panic").into_iter().for_each(|child| succeeded(Pid::from_raw(child)));
}

/// A value that forks when it is called, and tells the child.
struct Forks(NetNs, std::sync::mpsc::Sender<i32>);

impl Forks {
    fn fork(&self) {
        let child = fork_and_call(&self.0);
        self.1.send(child).expect("the test waits for it");
    }
}

impl std::task::Wake for Forks {
    fn wake(self: Arc<Self>) {
        self.fork();
    }
}

impl std::fmt::Debug for Forks {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Forks")
    }
}

impl std::fmt::Display for Forks {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.fork();
        out.write_str("not prepared")
    }
}

impl std::error::Error for Forks {}

/// Children are created by the wakers of async calls, on the threads of these calls.
fn returns_from_a_waker(ns: &NetNs) {
    set_keep_alive(std::time::Duration::from_secs(3600));
    let (tell, told) = std::sync::mpsc::channel();
    for call in [Call::new(ns), Call::new(ns).fresh()] {
        let go_on = Arc::new(Notify::new());
        let waits = Arc::clone(&go_on);
        let mut handle = call.spawn_async(move || async move { waits.notified().await });
        let waker = Waker::from(Arc::new(Forks(ns.clone(), tell.clone())));
        assert!(Pin::new(&mut handle).poll(&mut Context::from_waker(&waker)).is_pending());
        go_on.notify_one();
        let child = told.recv_timeout(std::time::Duration::from_secs(10)).expect("a child");
        succeeded(Pid::from_raw(child));
        block_on(handle).expect("a body");
    }
    // A body that yields more often than one poll allows has its poller woken while the order to poll it is served. The
    // child of that waker must not go on to the tasks of the call.
    let (reader, writer) = nix::unistd::pipe().expect("a pipe");
    for call in [Call::new(ns), Call::new(ns).fresh()] {
        let writer = writer.try_clone().expect("a descriptor");
        let mut awaited = Box::pin(call.run_async(|| async {
            let task = tokio::task::spawn_local(async move { nix::unistd::write(&writer, b"!").expect("it has room") });
            for _ in 0..1_000 {
                yield_once().await;
            }
            task.await.expect("a task")
        }));
        let waker = Waker::from(Arc::new(Forks(ns.clone(), tell.clone())));
        assert!(awaited.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let child = told.recv_timeout(std::time::Duration::from_secs(10)).expect("a child");
        succeeded(Pid::from_raw(child));
        block_on(awaited).expect("a call");
    }
    drop(writer);
    assert_eq!(all_of(reader), "!!", "each task runs once, in the parent");
}

/// What is written to a pipe until all its writers are closed.
fn all_of(reader: OwnedFd) -> String {
    let mut all = String::new();
    std::fs::File::from(reader).read_to_string(&mut all).expect("text");
    all
}

/// Wakes the task at once. tokio's own `yield_now` wakes it when the runtime goes on.
async fn yield_once() {
    let mut has_yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Children are created by a waker and by an error that the thread of a pool of namespaces calls.
fn returns_to_the_thread_of_a_pool(ns: &NetNs) {
    set_keep_alive(std::time::Duration::from_secs(3600));
    let (tell, told) = std::sync::mpsc::channel();
    let next = || Pid::from_raw(told.recv_timeout(std::time::Duration::from_secs(10)).expect("a child"));
    let go_on = Arc::new(AtomicBool::new(false));
    let waits = {
        let go_on = Arc::clone(&go_on);
        move |_: &NetNs| wait_until("it may go on", || go_on.load(Ordering::SeqCst))
    };
    let pool = NetNsPool::builder().ready(0).prepare(waits).build().expect("a pool");
    let waker = Waker::from(Arc::new(Forks(ns.clone(), tell.clone())));
    let mut taken = Box::pin(pool.take_async());
    assert!(taken.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    go_on.store(true, Ordering::SeqCst);
    succeeded(next());
    drop(block_on(taken).expect("a namespace"));

    let fails = {
        let ns = ns.clone();
        move |_: &NetNs| Err::<(), _>(Forks(ns.clone(), tell.clone()))
    };
    let pool = NetNsPool::builder().ready(0).prepare(fails).build().expect("a pool");
    assert_eq!(pool.take().expect_err("it is not prepared").kind(), ErrorKind::Prepare);
    succeeded(next());
}

/// Children are created in tasks and in blocking closures, on threads of a runtime.
fn returns_to_a_runtime(ns: &NetNs) {
    set_keep_alive(std::time::Duration::from_secs(3600));
    let hour = std::time::Duration::from_secs(3600);
    let builder = ns.tokio_builder().worker_threads(2).enable_all();
    // A child does not end because its thread has waited for another closure.
    let builder = builder.configure(|builder| _ = builder.thread_keep_alive(hour));
    let runtime = builder.build().expect("a runtime");
    let succeeded = |child| succeeded(Pid::from_raw(child));
    let on = ns.clone();
    let forks = move || fork_and_call(&on);
    for _ in 0..3 {
        let fork = forks.clone();
        succeeded(block_on(runtime.spawn(async move { fork() })).expect("a task"));
        let fork = forks.clone();
        let waits = async move {
            let child = fork();
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            child
        };
        succeeded(block_on(runtime.spawn(waits)).expect("a task"));
        let fork = forks.clone();
        let inner = async move { tokio::spawn(async move { fork() }).await };
        succeeded(block_on(runtime.spawn(inner)).expect("a task").expect("a task"));
        let fork = forks.clone();
        succeeded(block_on(runtime.spawn_blocking(fork)).expect("a closure"));
        let fork = forks.clone();
        succeeded(runtime.block_on(async move { fork() }).expect("a future"));
        let fork = forks.clone();
        let waits = async move {
            let child = fork();
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            child
        };
        succeeded(runtime.block_on(waits).expect("a future"));
        // What the parent's runtime waits for still comes.
        let sleep = async { tokio::time::sleep(std::time::Duration::from_millis(1)).await };
        block_on(runtime.spawn(sleep)).expect("a task");
    }
    let fork = forks.clone();
    let blocking = || async { tokio::task::spawn_blocking(fork).await.expect("a closure") };
    succeeded(block_on(with_netns_async(ns, blocking)).expect("a call"));
}

/// A child is created in a task, while other tasks wait for the same thread of the runtime.
fn returns_to_other_tasks(ns: &NetNs) {
    let runtime = ns.tokio_builder().worker_threads(1).build().expect("a runtime");
    let (reader, writer) = nix::unistd::pipe().expect("a pipe");
    let writer = Arc::new(writer);
    for waits in [false, true] {
        let writer = Arc::clone(&writer);
        let forks = async move {
            for _ in 0..4 {
                let writer = Arc::clone(&writer);
                tokio::spawn(async move { nix::unistd::write(&writer, b"!").expect("it has room") });
            }
            let child = start_child(libc_fork);
            if waits {
                tokio::task::yield_now().await;
            }
            child
        };
        succeeded(Pid::from_raw(block_on(runtime.spawn(forks)).expect("a task")));
    }
    drop(runtime);
    drop(writer);
    assert_eq!(all_of(reader), "!".repeat(8), "each task runs once, in the parent");
}

thread_local! {
    static FORKS_AT_EXIT: std::cell::RefCell<Option<ForksWhenDropped>> = const { std::cell::RefCell::new(None) };
}

struct ForksWhenDropped(Forks);

impl Drop for ForksWhenDropped {
    fn drop(&mut self) {
        self.0.fork();
    }
}

/// Children are created, and make calls, in destructors of thread-locals on threads of the crate, which exit.
fn returns_from_a_thread_local(ns: &NetNs) {
    set_keep_alive(std::time::Duration::from_secs(3600));
    let (tell, told) = std::sync::mpsc::channel();
    let forks_at_exit = {
        let ns = ns.clone();
        move || FORKS_AT_EXIT.set(Some(ForksWhenDropped(Forks(ns.clone(), tell.clone()))))
    };
    let next = || Pid::from_raw(told.recv_timeout(std::time::Duration::from_secs(10)).expect("a child"));
    let retires = || {
        forks_at_exit();
        retire_current_thread();
    };
    with_netns(ns, retires).expect("a call");
    succeeded(next());
    Call::new(ns).fresh().run(&forks_at_exit).expect("a call");
    succeeded(next());
    block_on(Call::new(ns).fresh().run_async(async || forks_at_exit())).expect("a call");
    succeeded(next());
    let on_blocking_thread = {
        let forks_at_exit = forks_at_exit.clone();
        async || tokio::task::spawn_blocking(forks_at_exit).await.expect("a closure")
    };
    block_on(with_netns_async(ns, on_blocking_thread)).expect("a call");
    succeeded(next());
    let runtime = ns.tokio_builder().worker_threads(1).build().expect("a runtime");
    block_on(runtime.spawn(async move { forks_at_exit() })).expect("a task");
    drop(runtime);
    succeeded(next());
    // A child that exits by itself has its own status.
    let exits = || {
        let child = start_child(libc_fork);
        if child == 0 {
            std::process::exit(7);
        }
        child
    };
    let child = Pid::from_raw(with_netns(ns, exits).expect("a call"));
    assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 7)));
}

/// Runs in a child that was forked in a body: its only thread is a copy of the pinned one, and belongs to the process.
fn in_body(ns: &NetNs) {
    assert!(!retire_current_thread(), "this thread is not one of the crate's");
    assert_eq!(with_netns(ns, here).expect("a call"), key(ns.id()));
    let other = NetNs::new().expect("a namespace");
    assert_eq!(with_netns(&other, here).expect("a call"), key(other.id()));
    assert_eq!(other.worker().run(here).expect("a run"), key(other.id()));
    other.join().expect("this thread is the process's own");
    assert_eq!(here(), key(other.id()));
}

/// Children are created in the bodies of a walk and in the closure that prepares the namespaces of a pool. They do not
/// go on with the parent's work.
fn returns_to_a_loop(ns: &NetNs) {
    let items = [ns.clone(), NetNs::new().expect("a namespace")];
    let (told, bodies) = nix::unistd::pipe().expect("a pipe");
    let fork = |_: &NetNs| {
        nix::unistd::write(&bodies, b"!").expect("it has room");
        start_child(libc_fork)
    };
    let seen = [walk(&items, fork).expect("a walk"), par_walk(&items, 2, fork).expect("a walk")].concat();
    for child in seen {
        succeeded(Pid::from_raw(child.expect("it was entered")));
    }
    drop(bodies);
    let mut ran = String::new();
    std::fs::File::from(told).read_to_string(&mut ran).expect("text");
    assert_eq!(ran, "!!!!");
    let (tell, told) = std::sync::mpsc::channel();
    let prepare = move |_: &NetNs| tell.send(start_child(libc_fork)).map_err(std::io::Error::other);
    let pool = NetNsPool::builder().ready(1).prepare(prepare).build().expect("a pool");
    drop(pool.take().expect("a namespace"));
    for child in told.iter().take(1) {
        succeeded(Pid::from_raw(child));
    }
}

/// Children are created in async bodies. In the child, the body goes on and ends, and has no caller.
fn returns_from_its_async_body(ns: &NetNs) {
    async fn body() -> i32 {
        tokio::task::yield_now().await;
        let child = start_child(libc_fork);
        tokio::task::yield_now().await;
        child
    }
    /// The child has a copy of a task that waits, and leaves it alone.
    async fn body_beside_a_task() -> i32 {
        let (near, mut far) = std::os::unix::net::UnixStream::pair().expect("sockets");
        near.set_nonblocking(true).expect("O_NONBLOCK");
        let mut near = tokio::net::UnixStream::from_std(near).expect("a reactor");
        let reader = tokio::spawn(async move { near.read_u8().await });
        tokio::task::yield_now().await;
        let child = start_child(libc_fork);
        if child > 0 {
            wait_until("the child ends", || is_zombie(child));
            far.write_all(b"!").expect("it has room");
            let read = tokio::time::timeout(std::time::Duration::from_secs(10), reader).await;
            assert_eq!(read.expect("in time").expect("no panic").expect("a byte"), b'!');
        }
        child
    }
    set_keep_alive(std::time::Duration::from_secs(3600));
    let forked = |child: i32| {
        assert_ne!(child, 0, "the child has no caller to return to");
        succeeded(Pid::from_raw(child));
    };
    forked(block_on(with_netns_async(ns, body)).expect("a call"));
    forked(block_on(ns.spawn_async(body)).expect("a call"));
    forked(block_on(with_netns_async(ns, body_beside_a_task)).expect("a call"));
    forked(block_on(ns.spawn_async(body_beside_a_task)).expect("a call"));
    forked(block_on(in_netns::Call::new(ns).fresh().run_async(body)).expect("a call"));
    forked(block_on(in_netns::Call::new(ns).fresh().spawn_async(body)).expect("a call"));
}

/// Children are created while other threads of the parent make calls.
fn beside_calls(ns: &NetNs) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    assert_eq!(with_netns(ns, here).expect("a call"), key(ns.id()));
                }
            });
        }
        for _ in 0..50 {
            in_child(libc_fork, || assert_eq!(with_netns(ns, here).expect("a call"), key(ns.id())));
        }
        stop.store(true, Ordering::SeqCst);
    });
}

/// Children set hooks, and report to them, while other threads of the parent set hooks.
fn beside_hooks(ns: &NetNs) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    set_poison_hook(|_| {});
                    set_stray_hook(|_| {});
                }
            });
        }
        // After a raw clone, a lock of the allocator might be held in the child.
        for _ in 0..20 {
            in_child(libc_fork, || {
                let reported = Arc::new(AtomicBool::new(false));
                set_poison_hook({
                    let reported = Arc::clone(&reported);
                    move |_| reported.store(true, Ordering::SeqCst)
                });
                with_netns(ns, give_up_sys_admin).expect("a call");
                assert!(reported.load(Ordering::SeqCst));
            });
        }
        stop.store(true, Ordering::SeqCst);
    });
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// The parent's call is running, or has not begun.
fn async_call(ns: &NetNs) {
    let notify = Notify::new();
    let mut call = Box::pin(with_netns_async(ns, || async {
        notify.notified().await;
        here()
    }));
    let mut not_begun = Box::pin(with_netns_async(ns, || async { here() }));
    assert!(poll(&mut call).is_pending());
    for make in [libc_fork, raw_clone] {
        in_child(make, || {
            let Poll::Ready(Err(error)) = poll(&mut call) else { panic!("it is an error") };
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains("parent process"), "{error}");
            assert_eq!(block_on(&mut not_begun).expect("it begins in the child"), key(ns.id()));
            let own = with_netns_async(ns, || async { here() });
            assert_eq!(block_on(own).expect("a call of the child"), key(ns.id()));
        });
    }
    notify.notify_one();
    assert_eq!(block_on(call).expect("the parent's call goes on"), key(ns.id()));
    assert_eq!(block_on(not_begun).expect("a call"), key(ns.id()));
}

fn async_handle(ns: &NetNs) {
    let notify = Arc::new(Notify::new());
    let body = {
        let notify = Arc::clone(&notify);
        move || async move {
            notify.notified().await;
            here()
        }
    };
    let mut handle = ns.spawn_async(body);
    let aborts = handle.abort_handle();
    in_child(libc_fork, || {
        aborts.abort();
        assert!(handle.is_finished() && aborts.is_finished(), "nothing goes on in the child");
        let Poll::Ready(Err(error)) = poll(&mut handle) else { panic!("it is an error") };
        assert_eq!(error.entry().expect("an error of this crate").kind(), ErrorKind::Unsupported);
        assert_eq!(block_on(ns.spawn_async(|| async { here() })).expect("a body of the child"), key(ns.id()));
    });
    assert!(!handle.is_finished(), "the child did not abort it");
    notify.notify_one();
    assert_eq!(block_on(handle).expect("the parent's body goes on"), key(ns.id()));
}

fn runtime(ns: &NetNs) {
    let runtime = ns.tokio_builder().worker_threads(1).enable_all().build().expect("a runtime");
    in_child(libc_fork, || {
        let error = runtime.block_on(async { here() }).expect_err("its threads are the parent's");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let own = ns.tokio_builder().worker_threads(1).build().expect("a runtime of the child");
        assert_eq!(own.block_on(async { here() }).expect("a future"), key(ns.id()));
    });
    assert_eq!(runtime.block_on(async { here() }).expect("a future"), key(ns.id()));
}

/// The child owns copies, and drops them.
fn dropped_there(ns: &NetNs) {
    let mut call = Box::pin(with_netns_async(ns, std::future::pending::<()>));
    assert!(poll(&mut call).is_pending());
    let handle = ns.spawn_async(std::future::pending::<()>);
    let build = || ns.tokio_builder().worker_threads(1).build().expect("a runtime");
    let (runtime, other) = (build(), build());
    in_child(libc_fork, move || {
        drop(call);
        drop(handle);
        drop(runtime);
        other.shutdown_timeout(std::time::Duration::from_secs(3600));
    });
}
