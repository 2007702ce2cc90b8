//! The shape of ztunnel's way to run a closure in a pod's namespace.

pub mod inpod {
    pub mod netns {
        use std::io;
        use std::os::fd::OwnedFd;
        use std::sync::Arc;

        use nix::sched::{CloneFlags, setns};

        pub struct InpodNetns {
            home: Arc<OwnedFd>,
            pod: OwnedFd,
        }

        impl InpodNetns {
            pub fn new(home: Arc<OwnedFd>, pod: OwnedFd) -> Self {
                Self { home, pod }
            }

            pub fn run<F: FnOnce() -> T, T>(&self, body: F) -> io::Result<T> {
                setns(&self.pod, CloneFlags::CLONE_NEWNET)?;
                let result = body();
                setns(&*self.home, CloneFlags::CLONE_NEWNET)?;
                Ok(result)
            }
        }
    }
}
