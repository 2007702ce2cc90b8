//! The shape of dataplane's way to run an async closure in a namespace: a thread and a runtime for each call.

use std::fs::File;
use std::path::Path;

use nix::sched::{CloneFlags, setns};

pub fn in_netns<Exec, Fut, Out>(netns: &Path, exec: Exec) -> Out
where
    Exec: (FnOnce() -> Fut) + Send + 'static,
    Fut: Future<Output = Out> + Send,
    Out: Send + 'static,
{
    let netns = File::open(netns).unwrap();
    let thread = std::thread::spawn(move || {
        setns(&netns, CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(exec())
    });
    thread.join().unwrap()
}
