//! Bodies that use libraries which start threads of their own.

use in_netns::with_netns;
use notify::Watcher;

pub fn notify_watches() {
    let watched = with_netns("sample", || {
        let mut watcher = notify::recommended_watcher(|_event| ())?;
        watcher.watch("/etc".as_ref(), notify::RecursiveMode::NonRecursive)
    });
    println!("{watched:?}");
}

pub fn ureq_get() {
    let body = with_netns("sample", || {
        ureq::get("http://localhost:1/")
            .call()
            .map(|answer| answer.status())
    });
    println!("{body:?}");
}

pub fn attohttpc_get() {
    let body = with_netns("sample", || {
        attohttpc::get("http://localhost:1/")
            .send()
            .map(|answer| answer.status())
    });
    println!("{body:?}");
}

pub fn reqwest_blocking_get() {
    let body = with_netns("sample", || {
        reqwest::blocking::get("http://localhost:1/").map(|answer| answer.status())
    });
    println!("{body:?}");
}
