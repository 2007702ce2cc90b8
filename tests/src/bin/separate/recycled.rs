//! Ten thousand processes in a pid namespace that reuses about a hundred ids (400, of which the kernel keeps 300):
//! each id is reused many times, and no process may be mistaken for another. With the argument `older`, two thousand
//! processes as before Linux 6.11.

use std::collections::HashMap;
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::mpsc;

use in_netns::{ErrorKind, NetNs, View, Worker};
use in_netns_tests::{become_root_of_a_user_namespace, profiles};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};
use seccompiler::{SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

pub(crate) fn main() {
    become_root_of_a_user_namespace(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID);
    // SAFETY: there is one thread, so the child has no locks of other threads.
    #[allow(unsafe_code)]
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => {
            let status = waitpid(child, None).expect("waitpid");
            assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child, 0));
        }
        ForkResult::Child => first_of_its_pid_namespace(),
    }
}

fn first_of_its_pid_namespace() {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("a mount namespace of its own");
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>).expect("a /proc of its own");
    // Since Linux 6.14 each pid namespace has its own limit. Before that, ids are reused much later.
    let _ = fs::write("/proc/sys/kernel/pid_max", "400");
    let is_older = crate::arguments().next().as_deref() == Some("older");
    if is_older {
        refuse_to_ask_process_descriptors();
    }
    let processes = if is_older { 2_000 } else { 10_000 };
    let spaces: Vec<NetNs> = (0..3).map(|_| NetNs::new().expect("root of this user namespace")).collect();
    one_after_another(&spaces, processes);
    while_ids_are_used_again(&spaces, processes);
}

/// A process in the namespace of a worker: its id, and a descriptor of it.
fn start(worker: &Worker) -> (Pid, OwnedFd) {
    let child = worker.run(|| {
        // SAFETY: the child makes one syscall again and again until it is killed.
        #[allow(unsafe_code)]
        match unsafe { fork() }.expect("fork") {
            ForkResult::Parent { child } => child,
            ForkResult::Child => loop {
                nix::unistd::pause();
            },
        }
    });
    let child = child.expect("a worker");
    // SAFETY: pidfd_open takes two numbers.
    #[allow(unsafe_code)]
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.as_raw(), 0) };
    let fd = i32::try_from(Errno::result(fd).expect("pidfd_open")).expect("a descriptor");
    // SAFETY: the kernel has just made the descriptor.
    #[allow(unsafe_code)]
    let pidfd = unsafe { OwnedFd::from_raw_fd(fd) };
    (child, pidfd)
}

fn end(child: Pid) {
    kill(child, Signal::SIGKILL).expect("it is ours");
    waitpid(child, None).expect("it is ours");
}

/// Each id is looked up while another process has it than before.
fn one_after_another(spaces: &[NetNs], processes: usize) {
    let workers: Vec<Worker> = spaces.iter().map(NetNs::worker).collect();
    let mut dead: HashMap<Pid, OwnedFd> = HashMap::new();
    let mut again = 0;
    for number in 0..processes {
        let at = number / 7 % spaces.len();
        let (child, pidfd) = start(&workers[at]);
        let id = child.as_raw().unsigned_abs();
        assert_eq!(NetNs::from_pid(id).expect("it lives"), spaces[at]);
        assert_eq!(NetNs::from_pidfd(&pidfd).expect("it lives"), spaces[at]);
        // A view takes longer.
        if number % 10 == 0 {
            assert_eq!(View::of_process(id).expect("it lives").netns(), &spaces[at]);
        }
        if let Some(before) = dead.get(&child) {
            again += 1;
            let error = NetNs::from_pidfd(before).expect_err("it is gone, and its id another's");
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
            let error = View::of_process(before).expect_err("it is gone, and its id another's");
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        }
        end(child);
        dead.insert(child, pidfd);
    }
    assert!(again > processes / 2 || fs::read_to_string("/proc/sys/kernel/pid_max").expect("/proc").trim() != "400");
}

/// Each process is looked up while it ends and its id is reused.
fn while_ids_are_used_again(spaces: &[NetNs], processes: usize) {
    let (tell, hear) = mpsc::sync_channel::<(usize, OwnedFd)>(4);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let workers: Vec<Worker> = spaces.iter().map(NetNs::worker).collect();
            for number in 0..processes {
                let at = number % spaces.len();
                let (child, pidfd) = start(&workers[at]);
                tell.send((at, pidfd)).expect("it is heard");
                end(child);
            }
        });
        for (at, pidfd) in hear {
            match NetNs::from_pidfd(&pidfd) {
                Ok(found) => assert_eq!(found, spaces[at], "another's"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
            }
            if pidfd.as_raw_fd() % 2 == 0 {
                match View::of_process(&pidfd) {
                    Ok(found) => assert_eq!(found.netns(), &spaces[at], "another's"),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
                }
            }
        }
    });
}

/// Makes the kernel refuse `PIDFD_GET_NET_NAMESPACE`, as before Linux 6.11.
fn refuse_to_ask_process_descriptors() {
    let request = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, 0xff04).expect("a condition");
    let rule = SeccompRule::new(vec![request]).expect("a rule");
    let refuse = SeccompAction::Errno(libc::ENOTTY.unsigned_abs());
    profiles::apply_here([(libc::SYS_ioctl, vec![rule])].into(), SeccompAction::Allow, refuse);
}
