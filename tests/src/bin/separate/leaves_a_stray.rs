//! Makes an audited call that leaves a thread behind. Prints the thread's id.

use std::sync::mpsc;
use std::thread;

use in_netns::{Call, NetNs};

pub(crate) fn main() {
    crate::rootless();
    let ns = NetNs::new().expect("a namespace");
    let (tell, hear) = mpsc::channel();
    let (_end, wait) = mpsc::channel::<()>();
    let body = || {
        let live = move || {
            tell.send(in_netns_tests::tid()).expect("the receiver is in main");
            let _ = wait.recv();
        };
        thread::Builder::new().name("left-behind".into()).spawn(live).map(drop)
    };
    Call::new(&ns).audit().run(body).expect("a call").expect("a thread");
    println!("{}", hear.recv().expect("the thread's id"));
}
