//! The first call of the process is made while the main thread is busy: it starts threads, waits for signals, or visits
//! another namespace. Pinned threads still have the signal mask and the namespaces of the process.
//!
//! The argument is the activity of the main thread.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use in_netns::{NetNs, pinned, with_netns};
use in_netns_tests::{here, key, threads_in, wait_until};
use nix::sched::{CloneFlags, setns, unshare};

/// The signals that a thread blocks, all 64 of them.
fn blocked(task: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{task}/status")).expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).expect("a mask");
    u64::from_str_radix(line.trim(), 16).expect("a number")
}

fn my_mask() -> u64 {
    blocked("thread-self")
}

fn mask_of_bodies() -> u64 {
    let mask = pinned(|_| my_mask()).expect("a lease");
    assert_eq!(pinned(|_| thread::spawn(my_mask).join().expect("a mask")).expect("a lease"), mask);
    mask
}

/// A set of signals, by their numbers.
fn set_of(signals: impl IntoIterator<Item = i32>) -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::zeroed();
    // SAFETY: sigemptyset initialises the set.
    #[allow(unsafe_code)]
    unsafe {
        libc::sigemptyset(set.as_mut_ptr())
    };
    // SAFETY: initialised.
    #[allow(unsafe_code)]
    let mut set = unsafe { set.assume_init() };
    for signal in signals {
        // SAFETY: the set is a local value.
        #[allow(unsafe_code)]
        unsafe {
            libc::sigaddset(&raw mut set, signal)
        };
    }
    set
}

fn block(signals: impl IntoIterator<Item = i32>) {
    let set = set_of(signals);
    // SAFETY: the set is read during the call.
    #[allow(unsafe_code)]
    let result = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    assert_eq!(result, 0);
}

/// Waits until the main thread sleeps in a system call.
fn wait_for_leader_in(syscall: libc::c_long) {
    wait_until("the main thread is in its system call", || {
        let now = fs::read_to_string("/proc/self/syscall").unwrap_or_default();
        now.split(' ').next() == Some(&syscall.to_string())
    });
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// A network namespace that another thread creates without the library.
fn made_by_hand() -> OwnedFd {
    let make = || {
        unshare(CloneFlags::CLONE_NEWNET).expect("unshare");
        fs::File::open("/proc/thread-self/ns/net").expect("a namespace").into()
    };
    thread::spawn(make).join().expect("a namespace")
}

fn my_net() -> OwnedFd {
    fs::File::open("/proc/thread-self/ns/net").expect("a namespace").into()
}

fn enter(namespace: impl AsFd) {
    setns(namespace, CloneFlags::CLONE_NEWNET).expect("setns");
}

fn home_of_bodies() -> (u64, u64) {
    pinned(|_| here()).expect("a lease")
}

/// The main thread runs its activity until another thread has made the first calls.
fn meanwhile<R: Send + 'static>(call: impl FnOnce() -> R + Send + 'static, mut busy: impl FnMut()) -> R {
    let caller = thread::spawn(call);
    while !caller.is_finished() {
        busy();
    }
    caller.join().expect("the caller's own checks hold")
}

pub(crate) fn main() {
    crate::rootless();
    let scenario = crate::arguments().next().expect("a scenario");
    signals(&scenario);
}

/// The signals that the main thread blocks.
fn signals(scenario: &str) {
    match scenario {
        // The main thread makes the first call, and so starts a thread itself.
        "calls" => assert_eq!(mask_of_bodies(), 0),
        "starts-threads" => {
            let busy = || drop(thread::spawn(|| ()).join());
            assert_eq!(meanwhile(mask_of_bodies, busy), 0);
        }
        // The C library blocks all signals while it starts a child, and the main thread waits inside for the exec.
        "starts-children" => {
            let busy = || assert!(std::process::Command::new("true").status().expect("a child").success());
            assert_eq!(meanwhile(mask_of_bodies, busy), 0);
        }
        "blocks-some" => {
            let wanted = [libc::SIGTERM, libc::SIGRTMIN() + 3, libc::SIGRTMAX()];
            block(wanted);
            let expected = wanted.into_iter().map(bit).fold(0, |all, one| all | one);
            let busy = || drop(thread::spawn(|| ()).join());
            assert_eq!(meanwhile(mask_of_bodies, busy), expected);
        }
        "blocks-all" => {
            block(1..=libc::SIGRTMAX());
            assert_ne!(my_mask(), 0);
            let (caller, mask) = (thread::spawn(mask_of_bodies), my_mask());
            assert_eq!(caller.join().expect("a mask"), mask);
        }
        "caller-blocks-all" => {
            let call = || {
                block(1..=libc::SIGRTMAX());
                mask_of_bodies()
            };
            let busy = || drop(thread::spawn(|| ()).join());
            assert_eq!(meanwhile(call, busy), 0);
        }
        // While the thread waits in sigwait, the kernel shows those signals as not blocked.
        "waits-for-signals" => {
            let waited = [libc::SIGTERM, libc::SIGUSR1];
            block(waited);
            let (tell, told) = mpsc::channel();
            let leader = libc::pid_t::try_from(std::process::id()).expect("an id");
            thread::spawn(move || {
                wait_for_leader_in(libc::SYS_rt_sigtimedwait);
                tell.send(mask_of_bodies()).expect("main waits");
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(leader), nix::sys::signal::SIGUSR1).expect("kill");
            });
            let (set, mut signal) = (set_of(waited), 0);
            // SAFETY: both locals outlive the call.
            #[allow(unsafe_code)]
            let result = unsafe { libc::sigwait(&raw const set, &raw mut signal) };
            assert_eq!((result, signal), (0, libc::SIGUSR1));
            assert_eq!(told.recv().expect("a mask"), bit(libc::SIGTERM) | bit(libc::SIGUSR1));
        }
        // As signal(7) describes: the signals are blocked everywhere, and only ppoll(2) lets them in.
        "lets-signals-in-while-it-polls" => {
            block([libc::SIGTERM, libc::SIGHUP]);
            let (end, ended) = nix::unistd::pipe().expect("a pipe");
            let caller = thread::spawn(move || {
                wait_for_leader_in(libc::SYS_ppoll);
                let mask = mask_of_bodies();
                drop(ended);
                mask
            });
            let mut polled =
                libc::pollfd { fd: std::os::fd::AsRawFd::as_raw_fd(&end), events: libc::POLLIN, revents: 0 };
            let none = set_of([]);
            // SAFETY: all locals outlive the call.
            #[allow(unsafe_code)]
            unsafe {
                libc::ppoll(&raw mut polled, 1, std::ptr::null(), &raw const none)
            };
            assert_eq!(caller.join().expect("a mask"), bit(libc::SIGTERM) | bit(libc::SIGHUP));
        }
        other => visits(other),
    }
}

/// The namespaces that the main thread is in.
fn visits(scenario: &str) {
    let start = here();
    match scenario {
        // Visits another namespace briefly, again and again.
        "flips" => {
            let (other, back) = (made_by_hand(), my_net());
            let busy = || {
                enter(&other);
                enter(&back);
            };
            assert_eq!(meanwhile(home_of_bodies, busy), start);
        }
        // Visits another namespace once, for a long time.
        "visits" => {
            let (other, back) = (made_by_hand(), my_net());
            // Opened before the visit.
            let (go, wait) = mpsc::channel::<()>();
            let caller = thread::spawn(move || {
                wait.recv().expect("main goes on");
                home_of_bodies()
            });
            enter(&other);
            go.send(()).expect("the caller waits");
            let home = caller.join().expect("a home");
            enter(back);
            assert_eq!(home, start);
        }
        // The main thread makes the first call itself, in the middle of a visit.
        "visits-and-calls" => {
            let (other, back) = (made_by_hand(), my_net());
            enter(&other);
            let there = here();
            assert_ne!(there, start);
            let third = NetNs::new().expect("a namespace");
            assert_eq!(with_netns(&third, here).expect("a call"), key(third.id()));
            assert_eq!(home_of_bodies(), start);
            enter(back);
            let other = NetNs::from_fd(other).expect("a namespace");
            assert_eq!(key(other.id()), there);
            assert_eq!(threads_in(&other), [] as [u32; 0]);
        }
        "visits-another-host-name" => {
            let uts = || fs::read_link("/proc/thread-self/ns/uts").expect("a namespace");
            let (start, back) = (uts(), fs::File::open("/proc/self/ns/uts").expect("a namespace"));
            unshare(CloneFlags::CLONE_NEWUTS).expect("unshare");
            assert_ne!(uts(), start);
            assert_eq!(pinned(|_| uts()).expect("a lease"), start);
            setns(back, CloneFlags::CLONE_NEWUTS).expect("setns");
        }
        // The move is permanent: the thread cannot return.
        "moved" => {
            unshare(CloneFlags::CLONE_NEWNET).expect("unshare");
            let now = here();
            assert_ne!(now, start);
            assert_eq!(home_of_bodies(), now);
        }
        "moved-and-starts-threads" => {
            unshare(CloneFlags::CLONE_NEWNET).expect("unshare");
            let now = here();
            let stays = AtomicBool::new(true);
            thread::scope(|scope| {
                scope.spawn(|| wait_until("the end", || !stays.load(Ordering::Relaxed)));
                assert_eq!(scope.spawn(home_of_bodies).join().expect("a home"), now);
                stays.store(false, Ordering::Relaxed);
            });
        }
        "joined" => {
            let (other, _back) = (made_by_hand(), my_net());
            let other = NetNs::from_fd(other).expect("a namespace");
            other.join().expect("join");
            assert_eq!(thread::spawn(home_of_bodies).join().expect("a home"), key(other.id()));
        }
        "exited" => exits(&made_by_hand()),
        other => settles(other),
    }
}

/// The main thread exits, and then another thread makes the first call during a visit.
fn exits(other: &OwnedFd) {
    let start = here();
    let other = other.try_clone().expect("a descriptor");
    thread::spawn(move || {
        let caller = thread::spawn(move || {
            wait_until("the main thread has exited", || fs::read_link("/proc/self/ns/net").is_err());
            let back = my_net();
            enter(&other);
            assert_eq!(home_of_bodies(), start);
            enter(back);
            assert_eq!(home_of_bodies(), start);
        });
        std::process::exit(i32::from(caller.join().is_err()));
    });
    // SAFETY: exit(2) ends this thread alone; the others borrow nothing of it.
    #[allow(unsafe_code)]
    unsafe {
        libc::syscall(libc::SYS_exit, 0);
    }
}

/// Declarations that the main thread makes.
fn settles(scenario: &str) {
    let start = here();
    match scenario {
        // The call declares that this namespace is home.
        "settles-during-a-visit" => {
            let (other, back) = (made_by_hand(), my_net());
            enter(&other);
            let there = here();
            in_netns::init().expect("a template");
            enter(back);
            assert_eq!(thread::spawn(home_of_bodies).join().expect("a home"), there);
        }
        "settles-and-visits" => {
            block([libc::SIGHUP]);
            in_netns::init().expect("a template");
            block([libc::SIGTERM]);
            enter(made_by_hand());
            assert_eq!(home_of_bodies(), start);
            assert_eq!(mask_of_bodies(), bit(libc::SIGHUP));
            in_netns::init().expect("it is settled");
            assert_eq!(home_of_bodies(), start);
        }
        other => panic!("what is {other}?"),
    }
}
