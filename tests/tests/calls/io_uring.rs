//! The kernel's threads for `io_uring` belong to the thread that uses it, and keep the namespace in which they were
//! started. No later body gets them, and no such thread holds the namespace after a call has returned.

use std::fs;
use std::os::fd::{FromRawFd, OwnedFd};

use in_netns::{Call, NetNs, RetireReason, ThreadFate, par_walk, walk, with_netns};
use in_netns_tests::{alone, is_alive, threads_in, tid};
use io_uring::{IoUring, opcode, squeue::Flags, types};
use nix::libc;

/// Whether rings are available: a container or a sysctl may forbid them.
fn rings() -> bool {
    let found = IoUring::new(2);
    if let Err(error) = &found {
        eprintln!("no io_uring here: {error}");
    }
    found.is_ok()
}

/// A socket that a ring of the calling thread creates. With some `flags`, a kernel thread creates it.
fn socket_by_ring(flags: Flags) -> OwnedFd {
    let mut ring = IoUring::new(2).unwrap();
    let entry = opcode::Socket::new(libc::AF_INET, libc::SOCK_DGRAM, 0).build().flags(flags);
    // SAFETY: the entry names no memory.
    #[allow(unsafe_code)]
    unsafe {
        ring.submission().push(&entry).unwrap();
    }
    ring.submit_and_wait(1).unwrap();
    let result = ring.completion().next().unwrap().result();
    assert!(result >= 0, "{}", std::io::Error::from_raw_os_error(-result));
    // SAFETY: the kernel returned this new descriptor, and no other value owns it.
    #[allow(unsafe_code)]
    unsafe {
        OwnedFd::from_raw_fd(result)
    }
}

fn kernel_threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.starts_with("iou-wrk-")).count()
}

#[test]
fn a_request_of_a_later_body_is_made_in_its_own_namespace() {
    let _alone = alone();
    if !rings() {
        return;
    }
    for fresh in [false, true] {
        for _ in 0..20 {
            for ns in [NetNs::new().unwrap(), NetNs::new().unwrap()] {
                let call = if fresh { Call::new(&ns).fresh() } else { Call::new(&ns) };
                let socket = call.run(|| socket_by_ring(Flags::ASYNC)).unwrap();
                assert_eq!(NetNs::of_socket(&socket).unwrap(), ns);
                assert_eq!(threads_in(&ns), [] as [u32; 0], "nothing holds the namespace");
                assert_eq!(kernel_threads(), 0);
            }
        }
    }
}

#[test]
fn a_request_in_a_walk_is_made_in_the_namespace_of_its_item() {
    let _alone = alone();
    if !rings() {
        return;
    }
    let spaces: Vec<_> = (0..4).map(|_| NetNs::new().unwrap()).collect();
    let by_ring = |_: &NetNs| socket_by_ring(Flags::ASYNC);
    for walked in [walk(&spaces, by_ring), par_walk(&spaces, 2, by_ring)] {
        for (ns, socket) in spaces.iter().zip(walked.unwrap()) {
            assert_eq!(NetNs::of_socket(socket.unwrap()).unwrap(), *ns);
            assert_eq!(threads_in(ns), [] as [u32; 0], "nothing holds the namespace");
        }
    }
    assert_eq!(kernel_threads(), 0);
}

#[test]
fn a_thread_that_has_used_io_uring_is_retired() {
    let _alone = alone();
    if !rings() {
        return;
    }
    let ns = NetNs::new().unwrap();
    for flags in [Flags::empty(), Flags::ASYNC] {
        let outcome = Call::new(&ns).outcome(|| (drop(socket_by_ring(flags)), tid()).1).unwrap();
        let ThreadFate::Retired(RetireReason::Changed(change)) = outcome.thread else { panic!("{:?}", outcome.thread) };
        assert!(change.to_string().contains("io_uring"), "{change}");
        assert!(!is_alive(outcome.value.unwrap()), "it is gone before the call returned");
    }
}

/// A request that never completes: a read of a pipe without data.
#[test]
fn a_request_that_is_under_way_holds_nothing() {
    let _alone = alone();
    if !rings() {
        return;
    }
    let ns = NetNs::new().unwrap();
    let (reader, _writer) = nix::unistd::pipe().unwrap();
    let mut buffer = vec![0_u8; 1];
    let ring = with_netns(&ns, || {
        let mut ring = IoUring::new(2).unwrap();
        let fd = types::Fd(std::os::fd::AsRawFd::as_raw_fd(&reader));
        let entry = opcode::Read::new(fd, buffer.as_mut_ptr(), 1).build().flags(Flags::ASYNC);
        // SAFETY: the buffer outlives the ring.
        #[allow(unsafe_code)]
        unsafe {
            ring.submission().push(&entry).unwrap();
        }
        ring.submit().unwrap();
        ring
    })
    .unwrap();
    assert_eq!(threads_in(&ns), [] as [u32; 0], "nothing holds the namespace");
    drop(ring);
}
