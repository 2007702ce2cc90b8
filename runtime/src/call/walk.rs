//! A walk: one closure runs in many namespaces, on one pinned thread or on several.

use std::num::NonZeroUsize;
use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Builder};

use crate::call::context::Context;
use crate::call::pinned;
use crate::error::Error;
use crate::netns::NetNs;
use crate::sys::process_local::in_one_process;
use crate::thread::pinned::PinnedThread;
use crate::unwind::{catch, contain, discard};

/// Runs a closure in one namespace after another, on one pinned thread: one `setns` for each, and one back at the end.
///
/// An item is a [`&NetNs`](NetNs), or a value that lends one by [`AsRef`]: a pair of a label and a namespace, or a type
/// of your own. The calling thread asks each item for its namespace, before the walk. The closure gets the item. The
/// results are in the order of the items. For an item whose namespace cannot be entered, the result is the error, and
/// the walk goes on.
///
/// Between two items only the network namespace of the thread changes. Its other attributes are restored at the end, as
/// after [`with_netns`](crate::with_netns). If the closure calls
/// [`retire_current_thread`](crate::retire_current_thread) or uses `io_uring(7)`, whose kernel threads stay in its
/// namespace, the walk goes on in another thread.
///
/// # Errors
///
/// [`ThreadSpawn`](crate::ErrorKind::ThreadSpawn) where no thread can be started.
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
///
/// With labels:
///
/// ```
/// # in_netns::rootless!();
/// use std::collections::BTreeMap;
/// use in_netns::{NetNs, walk};
///
/// let pods = BTreeMap::from([("web", NetNs::new()?), ("db", NetNs::new()?)]);
/// let seen = walk(&pods, |(name, pod)| pod.is_current().map(|inside| (*name, inside)))?;
/// let seen = seen.into_iter().flatten().collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(seen, [("db", true), ("web", true)]);
/// # Ok::<(), in_netns::Error>(())
/// ```
pub fn walk<I, F, R>(items: I, mut f: F) -> Result<Vec<Result<R, Error>>, Error>
where
    I: IntoIterator,
    I::Item: AsRef<NetNs> + Send,
    F: FnMut(I::Item) -> R + Send,
    R: Send,
{
    let stops = stops(items);
    let numbers = Numbers::below(stops.len());
    let mut seen = Vec::with_capacity(stops.len());
    // Borrowed, so that the items that a panic leaves are dropped on this thread as well.
    let mut rest = stops.into_iter();
    on_pinned_threads(&numbers, &mut |thread, _| {
        if let Some(stop) = rest.next() {
            seen.push(visit(thread, stop, &mut f));
        }
    })?;
    Ok(seen.into_iter().map(without_item).collect())
}

/// As [`walk`], on several pinned threads at once.
///
/// `threads` is the most threads to use, at least one; `None` stands for [`std::thread::available_parallelism`]. It is
/// not defined which thread visits which namespace. The results are in the order of the items.
///
/// # Errors
///
/// [`ThreadSpawn`](crate::ErrorKind::ThreadSpawn) where no thread can be started. Where fewer threads than asked for
/// can be started, those do the work.
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
pub fn par_walk<I, F, R>(items: I, threads: impl Into<Option<usize>>, f: F) -> Result<Vec<Result<R, Error>>, Error>
where
    I: IntoIterator,
    I::Item: AsRef<NetNs> + Send,
    F: Fn(I::Item) -> R + Send + Sync,
    R: Send,
{
    let places: Vec<_> = stops(items).into_iter().map(|stop| Mutex::new((Some(stop), None))).collect();
    let place = |at: usize| places[at].lock().unwrap_or_else(PoisonError::into_inner);
    let step = |thread: Result<&mut PinnedThread, Error>, at: usize| {
        let stop = place(at).0.take();
        if let Some(stop) = stop {
            // In a box, because each move of a large value takes room on the stack.
            let visited = Box::new(visit(thread, stop, &f));
            place(at).1 = Some(visited);
        }
    };
    let threads = threads.into().unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZeroUsize::get));
    let walked = match on_several_threads(threads, &Numbers::below(places.len()), &step) {
        Ok(walked) => walked,
        Err(payload) => {
            contain(|| drop(places));
            panic::resume_unwind(payload)
        }
    };
    let count = places.len();
    let visited = places.into_iter().map_while(|place| place.into_inner().unwrap_or_else(PoisonError::into_inner).1);
    let seen: Vec<_> = visited.map(|visited| without_item(*visited)).collect();
    if seen.len() < count {
        // There was no thread for the others.
        walked?;
        unreachable!("a thread that ended without an error has left no item");
    }
    Ok(seen)
}

// These are not generic, so that their code is not compiled again for each closure.

/// The numbers of the items that no thread has begun with.
struct Numbers {
    next: AtomicUsize,
    count: usize,
}

impl Numbers {
    fn below(count: usize) -> Numbers {
        Numbers { next: AtomicUsize::new(0), count }
    }

    fn next(&self) -> Option<usize> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        (next < self.count).then_some(next)
    }
}

/// Makes the steps of a walk on one pinned thread, and goes on in another one after a closure whose thread must not
/// enter another namespace. Returns an error, without a step, if there is no thread for the first one.
fn on_pinned_threads(
    numbers: &Numbers,
    step: &mut (dyn FnMut(Result<&mut PinnedThread, Error>, usize) + Send),
) -> Result<(), Error> {
    let mut waiting = None;
    loop {
        let walked = pinned(|thread| {
            while let Some(at) = waiting.take().or_else(|| numbers.next()) {
                step(Ok(&mut *thread), at);
                if thread.must_be_replaced() {
                    return false;
                }
            }
            true
        });
        match walked {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            // The closure did not run, so the item that it was to begin with is still there.
            Err(error) => match waiting.take() {
                None => return Err(error),
                // The results of earlier steps are kept, so the error is that of this step.
                Some(at) => step(Err(error), at),
            },
        }
        waiting = numbers.next();
        if waiting.is_none() {
            return Ok(());
        }
    }
}

/// Makes the steps of a walk on several pinned threads at once. Returns a panic of a step, or the error where there was
/// no thread for the first step of one of them.
fn on_several_threads(
    threads: usize,
    numbers: &Numbers,
    step: &(dyn Fn(Result<&mut PinnedThread, Error>, usize) + Sync),
) -> thread::Result<Result<(), Error>> {
    let walk_on = || on_pinned_threads(numbers, &mut |thread, at| step(thread, at));
    let context = Context::of_caller();
    let walks = thread::scope(|scope| {
        // Each of these threads waits for a pinned thread, as this thread does. If one cannot be started, the others
        // take its share.
        let others: Vec<_> = (1..threads.clamp(1, numbers.count.max(1)))
            .map_while(|_| Builder::new().spawn_scoped(scope, || context.within(walk_on)).ok())
            .collect();
        // The panic is caught, and all threads are joined: `std` aborts the process if the result of a thread that was
        // not joined panics in its drop.
        let mine = catch(walk_on);
        let theirs = others.into_iter().map(thread::ScopedJoinHandle::join);
        theirs.chain([mine]).collect::<Vec<_>>()
    });
    let (mut walked, mut thrown) = (Ok(()), None);
    for walk in walks {
        match walk {
            Ok(Ok(())) => {}
            Ok(Err(error)) => walked = Err(error),
            Err(payload) if thrown.is_none() => thrown = Some(payload),
            Err(payload) => discard(payload),
        }
    }
    thrown.map_or(Ok(walked), Err)
}

/// An item, and its namespace.
type Stop<T> = (NetNs, T);

/// The result of a step. A refused item is returned: its destructor is user code, and must run on the caller's thread.
type Visited<T, R> = Result<R, (Error, T)>;

/// The items with their namespaces. The iterator and `as_ref` are the caller's code, and run on the caller's thread: on
/// the pinned thread, `as_ref` would run in the namespace of the item before.
fn stops<I>(items: I) -> Vec<Stop<I::Item>>
where
    I: IntoIterator,
    I::Item: AsRef<NetNs>,
{
    items.into_iter().map(|item| (item.as_ref().clone(), item)).collect()
}

/// One step of a walk. Where the namespace cannot be entered, the thread stays in the previous one and runs no user
/// code.
fn visit<T, R>(thread: Result<&mut PinnedThread, Error>, stop: Stop<T>, mut f: impl FnMut(T) -> R) -> Visited<T, R> {
    let (ns, item) = stop;
    if let Err(error) = thread.and_then(|thread| thread.enter_checked(ns.as_target())) {
        return Err((error, item));
    }
    // The closure may release the namespace.
    drop(ns);
    // In a child that was forked in `f`, the walk ends: the parent makes the rest.
    Ok(in_one_process(|| f(item)))
}

/// Drops an item that was refused, on the caller's thread.
fn without_item<T, R>(visited: Visited<T, R>) -> Result<R, Error> {
    visited.map_err(|(error, _item)| error)
}
