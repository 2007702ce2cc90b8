//! Many tasks on one runtime, each in its own pod's network across awaits: the structure of kata-containers #13885.
//!
//! A guard that moves the current thread, held across an `.await`, leaves the worker in the pod's namespace while other
//! tasks run there. It is dropped on whichever worker runs the task at that time. `--broken` runs that version, to show
//! the difference.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use in_netns::{NetNs, in_netns};
use nix::sched::{CloneFlags, setns};
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

/// Counts the namespaces in which the steps of all tasks ran.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The number of steps in their pod's namespace.
    pub inside: usize,
    /// The number of all other steps.
    pub elsewhere: usize,
}

#[derive(Default)]
struct Steps {
    inside: AtomicUsize,
    elsewhere: AtomicUsize,
}

impl Steps {
    fn check(&self, pod: &NetNs) -> io::Result<()> {
        if pod.is_current()? { &self.inside } else { &self.elsewhere }.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// The work of a task in its pod: it waits and continues.
    async fn take(&self, pod: &NetNs) -> io::Result<()> {
        for _ in 0..10 {
            self.check(pod)?;
            sleep(Duration::from_millis(1)).await;
            tokio::task::yield_now().await;
            self.check(pod)?;
        }
        Ok(())
    }
}

/// The counter is static, because tasks are `'static`; each run has its own.
fn run<F>(runtime: &Runtime, tasks: usize, task: impl Fn(NetNs, &'static Steps) -> F) -> io::Result<Tally>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let steps: &'static Steps = Box::leak(Box::default());
    let pods = (0..10).map(|_| NetNs::new()).collect::<Result<Vec<_>, _>>()?;
    runtime.block_on(async {
        let tasks: Vec<_> =
            pods.iter().cycle().take(tasks).map(|pod| runtime.spawn(task(pod.clone(), steps))).collect();
        for task in tasks {
            task.await??;
        }
        Ok::<_, io::Error>(())
    })?;
    Ok(Tally { inside: steps.inside.load(Ordering::Relaxed), elsewhere: steps.elsewhere.load(Ordering::Relaxed) })
}

fn workers() -> io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(4).enable_all().build()
}

#[in_netns(pod)]
async fn work_in(pod: &NetNs, steps: &Steps) -> io::Result<()> {
    steps.take(pod).await
}

/// Runs the tasks with this crate.
///
/// # Errors
///
/// If no namespace can be created.
pub fn ours(tasks: usize) -> io::Result<Tally> {
    run(&workers()?, tasks, |pod, steps| async move { work_in(&pod, steps).await })
}

/// The usual guard: it moves the thread on which it is made, and later moves the thread on which it is dropped.
struct BrokenGuard(OwnedFd);

impl BrokenGuard {
    fn enter(pod: &NetNs) -> io::Result<BrokenGuard> {
        let back = NetNs::current()?.as_fd().try_clone_to_owned()?;
        setns(pod, CloneFlags::CLONE_NEWNET)?;
        Ok(BrokenGuard(back))
    }
}

impl Drop for BrokenGuard {
    fn drop(&mut self) {
        let _ = setns(&self.0, CloneFlags::CLONE_NEWNET);
    }
}

/// Runs the tasks with the usual guard.
///
/// # Errors
///
/// If no namespace can be created.
pub fn broken(tasks: usize) -> io::Result<Tally> {
    // Its workers may be in any namespace; they exit with the runtime.
    run(&workers()?, tasks, |pod, steps| async move {
        let _guard = BrokenGuard::enter(&pod)?;
        steps.take(&pod).await
    })
}

fn main() -> io::Result<()> {
    in_netns::rootless::enter()?;
    println!("in_netns:         {:?}", ours(100)?);
    if std::env::args().any(|argument| argument == "--broken") {
        println!("the broken guard: {:?}", broken(100)?);
    }
    Ok(())
}
