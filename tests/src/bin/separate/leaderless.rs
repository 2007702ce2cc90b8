//! A process whose leader has exited, while another thread runs until standard input ends.
//!
//! With the argument `holders`, that thread looks for its own descriptors and sockets instead.
#![allow(clippy::print_stdout)]

use std::io::Read;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};

use in_netns::{Holder, NetNs};

pub(crate) fn main() {
    let leader = std::process::id();
    std::thread::spawn(move || {
        let leader_is_gone = || {
            let status = std::fs::read_to_string(format!("/proc/{leader}/status")).expect("/proc is mounted");
            status.lines().any(|line| line.starts_with("State:\tZ"))
        };
        while !leader_is_gone() {
            std::thread::yield_now();
        }
        if crate::arguments().next().as_deref() == Some("holders") {
            finds_its_own();
            std::process::exit(0);
        }
        println!("ready");
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    // SAFETY: exit(2), unlike exit_group(2), ends this thread alone; the other thread borrows nothing of it.
    #[allow(unsafe_code)]
    unsafe {
        libc::syscall(libc::SYS_exit, 0);
    }
}

fn finds_its_own() {
    let ns = NetNs::new().expect("a namespace");
    let copy = ns.as_fd().try_clone_to_owned().expect("a descriptor");
    let socket = ns.run(|| UdpSocket::bind("127.0.0.1:0")).expect("a call").expect("a socket");
    let found: Vec<String> = ns.holders().expect("the holders").iter().map(Holder::to_string).collect();
    let me = std::process::id();
    let expected = [
        format!("descriptor {} of process {me}", copy.as_raw_fd()),
        format!("socket {} of process {me}", socket.as_raw_fd()),
    ];
    if found != expected {
        eprintln!("{found:?} in place of {expected:?}");
        std::process::exit(1);
    }
}
