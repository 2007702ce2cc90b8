//! A hostile load: everything at once, at random, while threads expire, are poisoned and retire, and child processes
//! are made. Each body checks that it is inside and that its thread is pristine.
//!
//! ```sh
//! IN_NETNS_HOSTILE_SECONDS=600 cargo test -p in-netns-tests --test load -- --ignored
//! ```
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::panic::{self, AssertUnwindSafe};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use in_netns::{
    Call, NetNs, Worker, par_walk, pinned, pool_stats, retire_current_thread, set_keep_alive, set_poison_hook, walk,
    with_netns, with_netns_async,
};
use in_netns_tests::{
    alone, descriptors, drop_effective, give_up_sys_admin, here, key, threads_in, threads_outside_home, tid, wait_until,
};
use io_uring::{IoUring, opcode, squeue::Flags};
use nix::libc;
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity, unshare};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

const CALLERS: u64 = 12;

/// What a body can see of its thread that must be as it is on the template's.
#[derive(Debug, PartialEq, Eq)]
struct Thread {
    namespaces: [Option<std::path::PathBuf>; 5],
    capabilities: caps::CapsHashSet,
    affinity: Vec<usize>,
    directory: std::path::PathBuf,
    name: Option<String>,
}

impl Thread {
    fn current() -> Thread {
        let namespace = |kind| std::fs::read_link(format!("/proc/thread-self/ns/{kind}")).ok();
        let affinity = sched_getaffinity(Pid::from_raw(0)).unwrap();
        Thread {
            namespaces: ["mnt", "uts", "ipc", "cgroup", "pid_for_children"].map(namespace),
            capabilities: caps::read(None, caps::CapSet::Effective).unwrap(),
            affinity: (0..CpuSet::count()).filter(|cpu| affinity.is_set(*cpu).unwrap()).collect(),
            directory: std::env::current_dir().unwrap(),
            name: thread::current().name().map(str::to_owned),
        }
    }
}

/// What all callers share.
struct Load {
    spaces: Vec<NetNs>,
    workers: Vec<Worker>,
    pristine: Thread,
    poisonings: AtomicU64,
    calls: AtomicU64,
    stop: AtomicBool,
    /// Whether rings of `io_uring` are available: a container or a sysctl may forbid them.
    rings: bool,
}

/// A socket that a ring of the calling thread creates, with a thread of the kernel if `flags` say so.
fn socket_by_ring(flags: Flags) -> OwnedFd {
    let mut ring = IoUring::new(2).unwrap();
    let entry = opcode::Socket::new(libc::AF_INET, libc::SOCK_DGRAM, 0).build().flags(flags);
    // SAFETY: the entry names no memory.
    unsafe { ring.submission().push(&entry) }.unwrap();
    ring.submit_and_wait(1).unwrap();
    let result = ring.completion().next().unwrap().result();
    assert!(result >= 0, "{}", std::io::Error::from_raw_os_error(-result));
    // SAFETY: the kernel returned this new descriptor, and no other value owns it.
    unsafe { OwnedFd::from_raw_fd(result) }
}

impl Load {
    /// What each body does first.
    fn check(&self, ns: &NetNs) {
        assert_eq!(here(), key(ns.id()));
        assert_eq!(Thread::current(), self.pristine);
    }

    /// One call of the mixture.
    fn call(&self, random: u64) {
        let pick =
            |shift: u32| &self.spaces[usize::try_from(random >> shift & 0xffff).unwrap_or(0) % self.spaces.len()];
        let (ns, other) = (pick(8), pick(16));
        let body = || self.check(ns);
        match random % 21 {
            0 => with_netns("no-such-name", || unreachable!("the body ran")).unwrap_err().to_string().truncate(0),
            1 => {
                let call = AssertUnwindSafe(|| with_netns(ns, || panic::resume_unwind(Box::new(random))));
                let payload = panic::catch_unwind(call).map(|called: Result<(), _>| called).unwrap_err();
                assert_eq!(*payload.downcast::<u64>().unwrap(), random);
            }
            2 => with_netns(ns, || {
                body();
                with_netns(other, || self.check(other)).unwrap();
                assert_eq!(here(), key(ns.id()));
            })
            .unwrap(),
            3 => {
                self.poisonings.fetch_add(1, Ordering::Relaxed);
                with_netns(ns, || {
                    body();
                    give_up_sys_admin();
                })
                .unwrap();
            }
            4 => pinned(|thread| {
                let mut guard = thread.enter(ns).unwrap();
                body();
                let inner = guard.enter(other).unwrap();
                self.check(other);
                drop(inner);
                std::mem::forget(guard);
            })
            .unwrap(),
            5 => Call::new(ns).fresh().run(|| assert_eq!(here(), key(ns.id()))).unwrap(),
            6 => with_netns(ns, || {
                body();
                drop_effective(caps::Capability::CAP_NET_RAW);
            })
            .unwrap(),
            7 => with_netns(ns, || {
                body();
                let dirty =
                    [CloneFlags::CLONE_NEWUTS, CloneFlags::CLONE_FS, CloneFlags::CLONE_FILES, CloneFlags::CLONE_NEWNS];
                unshare(dirty[(random >> 24) as usize % dirty.len()]).unwrap();
            })
            .unwrap(),
            8 => assert!(with_netns(ns, || (body(), retire_current_thread()).1).unwrap()),
            9 => walk(&self.spaces, |ns| self.check(ns)).unwrap().into_iter().for_each(Result::unwrap),
            10 => par_walk(&self.spaces, 3, |ns| self.check(ns)).unwrap().into_iter().for_each(Result::unwrap),
            11 => {
                // Cancelled at its first or second `await`, or not at all.
                let call = with_netns_async(ns, || async {
                    body();
                    tokio::time::sleep(Duration::from_micros(200)).await;
                    body();
                    tokio::task::yield_now().await;
                });
                let mut call = std::pin::pin!(call);
                let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
                for _ in 0..random >> 32 & 3 {
                    if call.as_mut().poll(&mut cx).is_ready() {
                        break;
                    }
                }
            }
            12 => futures::executor::block_on(with_netns_async(ns, || async { body() })).unwrap(),
            13 => drop(set_keep_alive(Duration::from_millis(random >> 32 & 3))),
            14 => {
                let worker = &self.workers[(random >> 32) as usize % self.workers.len()];
                worker.run(|| assert_eq!(here(), key(worker.netns().id()))).unwrap();
            }
            15 => ns.worker().run(body).unwrap(),
            // A burst, in which the two sides come to spin.
            16 => (0..200).for_each(|_| with_netns(ns, tid).map(drop).unwrap()),
            17 if self.rings => {
                let flags = if random >> 32 & 1 == 0 { Flags::ASYNC } else { Flags::empty() };
                let socket = with_netns(ns, || (body(), socket_by_ring(flags)).1).unwrap();
                assert_eq!(NetNs::of_socket(socket).unwrap(), *ns);
            }
            _ => with_netns(ns, body).unwrap(),
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// A child process that makes a call of its own. Between two of them, other threads of this process are anywhere.
    fn fork(&self) {
        let ns = &self.spaces[0];
        // SAFETY: the child makes one call and exits, which is what this test is about.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                // What `std` needs for a new thread may be locked in the parent, which no child can undo: such a child
                // is ended. SAFETY: it takes a number.
                unsafe { libc::alarm(5) };
                let made = with_netns(ns, here).is_ok_and(|at| at == key(ns.id()));
                // SAFETY: it ends the child, and runs nothing that the parent registered.
                unsafe { libc::_exit(i32::from(!made)) }
            }
            ForkResult::Parent { child } => {
                let mut status = WaitStatus::StillAlive;
                wait_until("the child ends", || {
                    status = waitpid(child, Some(WaitPidFlag::WNOHANG)).unwrap();
                    status != WaitStatus::StillAlive
                });
                let is_alarm = matches!(status, WaitStatus::Signaled(_, nix::sys::signal::Signal::SIGALRM, _));
                assert!(is_alarm || matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
            }
        }
    }
}

/// Numbers that look random, the same in each run for the same seed (`xorshift64*`).
fn next(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

fn hostile_load(duration: Duration) {
    set_poison_hook(|_| {});
    let spaces: Vec<_> = (0..6).map(|_| NetNs::new().unwrap()).collect();
    let workers = spaces.iter().take(2).map(NetNs::worker).collect();
    let pristine = with_netns(&spaces[0], Thread::current).unwrap();
    // tokio keeps a pair of sockets for signals from its first runtime on.
    futures::executor::block_on(with_netns_async(&spaces[0], || async {})).unwrap();
    // The load changes it, and other tests of this program have it too.
    let keep_alive = set_keep_alive(Duration::from_secs(5));
    let _restored = scopeguard::guard((), |()| _ = set_keep_alive(keep_alive));
    let (open, before) = (descriptors(), pool_stats());
    let (poisonings, calls) = (AtomicU64::new(0), AtomicU64::new(0));
    let rings = IoUring::new(2).inspect_err(|error| eprintln!("without io_uring, which fails here: {error}")).is_ok();
    let load = Load { spaces, workers, pristine, poisonings, calls, stop: AtomicBool::new(false), rings };

    let start = Instant::now();
    thread::scope(|scope| {
        let load = &load;
        for caller in 1..=CALLERS {
            scope.spawn(move || {
                // A failed check ends the load, and with it the test.
                let stop = scopeguard::guard((), |()| load.stop.store(true, Ordering::Relaxed));
                let mut state = caller.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                while !load.stop.load(Ordering::Relaxed) && start.elapsed() < duration {
                    load.call(next(&mut state));
                }
                if start.elapsed() >= duration {
                    scopeguard::ScopeGuard::into_inner(stop);
                }
            });
        }
        scope.spawn(|| {
            while !load.stop.load(Ordering::Relaxed) && start.elapsed() < duration {
                load.fork();
            }
        });
    });

    let Load { spaces, workers, poisonings, calls, .. } = load;
    drop(workers);
    // Cancelled async calls end on their own threads.
    wait_until("all threads are at home", || threads_outside_home().is_empty());
    for ns in &spaces {
        assert_eq!(threads_in(ns), [] as [u32; 0]);
    }
    set_keep_alive(Duration::ZERO);
    wait_until("the pool is empty", || {
        let stats = pool_stats();
        stats.leased == 0 && stats.threads <= 1
    });
    let mut left = descriptors();
    wait_until("the descriptors of the calls are closed", || {
        left = descriptors();
        left.len() <= open.len()
    });
    assert_eq!(left, open);
    let stats = pool_stats();
    assert_eq!(stats.poisoned_total, before.poisoned_total + poisonings.into_inner());
    println!("{} calls in {:.1?}, {stats:?}", calls.into_inner(), start.elapsed());
}

#[test]
fn a_hostile_load_leaves_everything_as_it_was() {
    let _alone = alone();
    hostile_load(Duration::from_secs(3));
}

#[test]
fn a_hostile_load_on_one_cpu_leaves_everything_as_it_was() {
    let _alone = alone();
    let cpu = sched_getcpu().unwrap();
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["--exact", "hostile::a_hostile_load_leaves_everything_as_it_was", "--nocapture"]);
    // SAFETY: between fork and exec, one syscall and no allocation.
    unsafe {
        program.pre_exec(move || {
            let mut one = CpuSet::new();
            one.set(cpu)?;
            Ok(sched_setaffinity(Pid::from_raw(0), &one)?)
        });
    }
    let output = program.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "it takes ten minutes, or IN_NETNS_HOSTILE_SECONDS"]
fn a_long_hostile_load_leaves_everything_as_it_was() {
    let _alone = alone();
    let seconds = std::env::var("IN_NETNS_HOSTILE_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    hostile_load(Duration::from_secs(seconds.unwrap_or(600)));
}
