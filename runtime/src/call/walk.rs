//! A walk: one body, run in many namespaces on the way.

use std::num::NonZeroUsize;
use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Builder};

use crate::call::context::Context;
use crate::call::pinned;
use crate::error::Error;
use crate::netns::NetNs;
use crate::thread::pinned::PinnedThread;

/// Runs a closure in one namespace after another, on one pinned thread: one `setns` each, and one back at the end.
///
/// The results are in the order of the namespaces. One that cannot be entered gives its error in its place, and the walk goes on.
/// Between two namespaces nothing but the network namespace is changed; the rest is restored at the end, as after a
/// [`with_netns`](crate::with_netns).
///
/// # Errors
///
/// [`ThreadSpawn`](crate::ErrorKind::ThreadSpawn) where there is no thread to walk on.
///
/// # Panics
///
/// A panic of the closure ends the walk, and is resumed here.
///
/// # Examples
///
/// ```
/// # in_netns::rootless!();
/// use std::fs;
/// use in_netns::{NetNs, walk};
///
/// let pods = [NetNs::new()?, NetNs::new()?];
/// for devices in walk(&pods, |_pod| fs::read_to_string("/proc/thread-self/net/dev"))? {
///     assert!(devices??.contains("lo:"));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn walk<'n, I, F, R>(namespaces: I, mut f: F) -> Result<Vec<Result<R, Error>>, Error>
where
    I: IntoIterator<Item = &'n NetNs>,
    F: FnMut(&NetNs) -> R + Send,
    R: Send,
{
    // The iterator is the caller's code, and runs at the caller's.
    let namespaces: Vec<&NetNs> = namespaces.into_iter().collect();
    pinned(move |thread| namespaces.into_iter().map(|ns| visit(thread, ns, &mut f)).collect())
}

/// As [`walk`], on several pinned threads at once.
///
/// At most `threads` of them: as many as [`std::thread::available_parallelism`] says if `None`, and at least one. Which
/// thread visits which namespace is not said; the results are in the order of the namespaces all the same.
///
/// # Errors
///
/// [`ThreadSpawn`](crate::ErrorKind::ThreadSpawn) where there is no thread at all; where there are fewer than asked for, those
/// do the work.
///
/// # Panics
///
/// A panic of the closure is resumed here when the other threads have finished.
///
/// # Examples
///
/// ```
/// # in_netns::rootless!();
/// use in_netns::{NetNs, par_walk};
///
/// let pods: Vec<_> = (0..8).map(|_| NetNs::new()).collect::<Result<_, _>>()?;
/// for (pod, there) in pods.iter().zip(par_walk(&pods, 4, NetNs::is_current)?) {
///     assert!(there??, "in {pod}");
/// }
/// # Ok::<(), in_netns::Error>(())
/// ```
pub fn par_walk<'n, I, F, R>(
    namespaces: I,
    threads: impl Into<Option<usize>>,
    f: F,
) -> Result<Vec<Result<R, Error>>, Error>
where
    I: IntoIterator<Item = &'n NetNs>,
    F: Fn(&NetNs) -> R + Send + Sync,
    R: Send,
{
    let namespaces: Vec<&NetNs> = namespaces.into_iter().collect();
    let threads = threads.into().unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZeroUsize::get));
    let threads = threads.clamp(1, namespaces.len().max(1));
    let next = AtomicUsize::new(0);
    let walk_on = || {
        pinned(|thread| {
            let mut seen = Vec::new();
            while let Some((at, ns)) = take_next(&next, &namespaces) {
                seen.push((at, visit(thread, ns, &f)));
            }
            seen
        })
    };
    let context = Context::of_caller();

    let walks = thread::scope(|scope| {
        // Each waits for its pinned thread; this one for another. One that cannot be started leaves more to the others.
        let others: Vec<_> =
            (1..threads).map_while(|_| Builder::new().spawn_scoped(scope, || context.within(walk_on)).ok()).collect();
        let mine = walk_on();
        let theirs =
            others.into_iter().map(|other| other.join().unwrap_or_else(|payload| panic::resume_unwind(payload)));
        theirs.chain([mine]).collect::<Vec<_>>()
    });
    let mut refused = None;
    let mut seen = Vec::with_capacity(namespaces.len());
    for walk in walks {
        match walk {
            Ok(part) => seen.extend(part),
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(error) if seen.len() < namespaces.len() => Err(error),
        _ => {
            seen.sort_unstable_by_key(|(at, _)| *at);
            Ok(seen.into_iter().map(|(_, result)| result).collect())
        }
    }
}

fn take_next<'n>(next: &AtomicUsize, namespaces: &[&'n NetNs]) -> Option<(usize, &'n NetNs)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    namespaces.get(at).map(|ns| (at, *ns))
}

/// One step of a walk. A namespace that cannot be entered leaves the thread in the one before, where nobody's code runs.
fn visit<R>(thread: &mut PinnedThread, ns: &NetNs, mut f: impl FnMut(&NetNs) -> R) -> Result<R, Error> {
    thread.enter_unguarded(ns.as_target()).map(|()| f(ns))
}
