//! A process whose leader has exited, while another thread runs until standard input ends.
#![allow(clippy::print_stdout)]

use std::io::Read;

fn main() {
    let leader = std::process::id();
    std::thread::spawn(move || {
        let leader_is_gone = || {
            let status = std::fs::read_to_string(format!("/proc/{leader}/status")).expect("/proc is mounted");
            status.lines().any(|line| line.starts_with("State:\tZ"))
        };
        while !leader_is_gone() {
            std::thread::yield_now();
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
