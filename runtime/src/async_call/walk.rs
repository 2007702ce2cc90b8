//! A walk of async bodies: one call for each item, and a bound on how many are under way.

use std::future::{Future, poll_fn};
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use super::body::{GivenBody, Value};
use crate::call::Call;
use crate::error::Error;
use crate::netns::NetNs;

/// Runs an async body in many namespaces, several at once: [`walk`](crate::walk) for futures.
///
/// An item is a [`&NetNs`](NetNs), or anything that lends one by [`AsRef`]. `f` gets the item, on the pinned thread of
/// a call of its own, as the body of [`with_netns_async`](crate::with_netns_async). At most `at_once` calls are under
/// way: as many as [`std::thread::available_parallelism`] says if `None`, and at least one. Each call under way has a
/// thread and four descriptors.
///
/// The results are in the order of the items. A call that cannot be made, or that cannot enter, gives its error in the
/// item's place.
///
/// Dropping the returned future cancels the calls under way.
///
/// # Panics
///
/// A panic of a body is resumed here. The other calls under way are cancelled.
///
/// # Examples
///
/// ```
/// # in_netns::rootless!();
/// use in_netns::{NetNs, walk_async};
/// use tokio::net::TcpListener;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pods = [("web", NetNs::new()?), ("db", NetNs::new()?)];
/// let bound = walk_async(&pods, 8, |(name, _)| async move {
///     TcpListener::bind("127.0.0.1:80").await.map(|_| *name)
/// });
/// let bound = bound.await.into_iter().flatten().collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(bound, ["web", "db"]);
/// # Ok(())
/// # }
/// ```
pub fn walk_async<I, F, Fut, R>(
    items: I,
    at_once: impl Into<Option<usize>>,
    f: F,
) -> impl Future<Output = Vec<Result<R, Error>>>
where
    I: IntoIterator,
    I::Item: AsRef<NetNs> + Send,
    F: Fn(I::Item) -> Fut + Send + Sync,
    Fut: Future<Output = R>,
    R: Send,
{
    // It may be large: see `body`.
    let f = Box::new(f);
    async move {
        let visited = walk(items, at_once.into(), &*f).await;
        let mut results = Vec::with_capacity(visited.len());
        for result in visited {
            results.push(result.map(|value| value.take()));
        }
        results
    }
}

async fn walk<I, F, Fut, R>(items: I, at_once: Option<usize>, f: &F) -> Vec<Result<Arc<Value<R>>, Error>>
where
    I: IntoIterator,
    I::Item: AsRef<NetNs> + Send,
    F: Fn(I::Item) -> Fut + Send + Sync,
    Fut: Future<Output = R>,
    R: Send,
{
    // The iterator is the caller's code, and runs on the caller's thread.
    let items: Vec<I::Item> = items.into_iter().collect();
    let count = items.len();
    let at_once = at_once.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZeroUsize::get));
    let mut calls = items.into_iter().enumerate().map(|(at, item)| async move {
        let ns = item.as_ref().clone();
        let (body, value) = GivenBody::new(Box::new(move || f(item)));
        (at, Call::new(ns).run_body(body).await.map(|()| value))
    });
    let mut results: Vec<Option<Result<Arc<Value<R>>, Error>>> = (0..count).map(|_| None).collect();
    let mut under_way: Vec<Slot<_>> = calls.by_ref().take(at_once.max(1)).map(Slot::new).collect();
    while !under_way.is_empty() {
        let (slot, (at, result)) = poll_fn(|cx| poll_first(&mut under_way, cx)).await;
        results[at] = Some(result);
        match calls.next() {
            Some(call) => under_way[slot] = Slot::new(call),
            None => drop(under_way.swap_remove(slot)),
        }
    }
    results.into_iter().flatten().collect()
}

/// A future, and whether it was woken since its last poll: to poll the others would be a rendezvous with each of their
/// threads.
struct Slot<F> {
    future: Pin<Box<F>>,
    wakes: Arc<SlotWaker>,
    waker: Waker,
}

impl<F> Slot<F> {
    fn new(future: F) -> Slot<F> {
        let wakes = Arc::new(SlotWaker { is_woken: AtomicBool::new(true), outer: Mutex::new(None) });
        Slot { future: Box::pin(future), waker: Waker::from(Arc::clone(&wakes)), wakes }
    }
}

/// Polls those that were woken, until one is ready.
fn poll_first<F: Future>(slots: &mut [Slot<F>], cx: &Context<'_>) -> Poll<(usize, F::Output)> {
    for (at, slot) in slots.iter_mut().enumerate() {
        // Before the look: a wake that comes now finds this waker, or is seen.
        slot.wakes.set_outer(cx.waker());
        if slot.wakes.is_woken.swap(false, Ordering::AcqRel) {
            if let Poll::Ready(value) = slot.future.as_mut().poll(&mut Context::from_waker(&slot.waker)) {
                return Poll::Ready((at, value));
            }
        }
    }
    Poll::Pending
}

struct SlotWaker {
    is_woken: AtomicBool,
    outer: Mutex<Option<Waker>>,
}

impl SlotWaker {
    fn set_outer(&self, waker: &Waker) {
        let is_known = |outer: &Waker| outer.will_wake(waker);
        if !self.outer.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(is_known) {
            // Cloning and dropping wakers is foreign code: it does not run under the lock.
            let waker = waker.clone();
            let before = self.outer.lock().unwrap_or_else(PoisonError::into_inner).replace(waker);
            drop(before);
        }
    }
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        let outer = self.outer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(outer) = outer {
            outer.wake();
        }
    }
}
