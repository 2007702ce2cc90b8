//! The shape of patchbay's handles: a node of a simulated network, with a runtime and a thread in its namespace.

use std::fs::File;
use std::io;

use nix::sched::{CloneFlags, setns};

pub struct Device {
    netns: File,
    runtime: tokio::runtime::Handle,
}

impl Device {
    pub fn new(netns: File, runtime: tokio::runtime::Handle) -> Self {
        Self { netns, runtime }
    }

    pub fn run_sync<F, R>(&self, body: F) -> io::Result<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        let netns = self.netns.try_clone()?;
        let thread = std::thread::spawn(move || {
            setns(netns, CloneFlags::CLONE_NEWNET)?;
            Ok(body())
        });
        thread.join().unwrap()
    }

    pub fn spawn<F, Fut>(&self, body: F) -> tokio::task::JoinHandle<Fut::Output>
    where
        F: FnOnce(Self) -> Fut + Send + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: Send + 'static,
    {
        let own = Self { netns: self.netns.try_clone().unwrap(), runtime: self.runtime.clone() };
        self.runtime.spawn(async move { body(own).await })
    }
}
