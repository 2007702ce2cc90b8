//! The local tasks of a call: what `spawn_local` starts, beside the body.
//!
//! **Why not [`LocalSet::run_until`]:** it looks for local tasks at each poll of the body, of which most calls have
//! none: 60 ns of the 420 that a yield takes. Here the set has a waker of its own, and is polled when that was woken.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::runtime::Runtime;
use tokio::task::LocalSet;

pub(super) struct LocalTasks {
    set: LocalSet,
    wakes: Arc<Wakes>,
    /// What the set is polled with: of `wakes`.
    waker: Waker,
}

impl LocalTasks {
    pub(super) fn new() -> LocalTasks {
        // The first poll registers the waker.
        let wakes = Arc::new(Wakes { woken: AtomicBool::new(true), root: Mutex::new(None) });
        LocalTasks { set: LocalSet::new(), waker: Waker::from(Arc::clone(&wakes)), wakes }
    }

    /// Drives the runtime until `future` is ready, and the local tasks with it. `spawn_local` finds this set meanwhile.
    pub(super) fn run_until<F: Future>(&mut self, runtime: &Runtime, future: F) -> F::Output {
        let mut future = pin!(future);
        let mut output = None;
        self.run(runtime, &mut |cx| future.as_mut().poll(cx).map(|value| output = Some(value)));
        output.unwrap_or_else(|| unreachable!("the future is ready"))
    }

    /// It is not generic, so that the runtime's code is compiled once.
    fn run(&mut self, runtime: &Runtime, poll: &mut dyn FnMut(&mut Context<'_>) -> Poll<()>) {
        let mut root = LastSeen::default();
        let _found = self.set.enter();
        runtime.block_on(poll_fn(|cx| {
            if root.is_new(cx.waker()) {
                *self.wakes.root() = Some(cx.waker().clone());
            }
            let polled = poll(cx);
            if polled.is_pending() && self.wakes.take() {
                let _ = Pin::new(&mut self.set).poll(&mut Context::from_waker(&self.waker));
            }
            polled
        }));
    }
}

/// The waker that a future was last polled with, which is the same one as a rule.
///
/// [`Waker::will_wake`] does not always know a clone for what it is: the two may have different copies of one table. So
/// originals are compared. The caller keeps a clone of the one that was new, so that no other waker has its address.
#[derive(Default)]
pub(super) struct LastSeen(Option<(usize, usize)>);

impl LastSeen {
    pub(super) fn is_new(&mut self, waker: &Waker) -> bool {
        let this = (waker.data().addr(), std::ptr::from_ref(waker.vtable()).addr());
        self.0.replace(this) != Some(this)
    }
}

/// Passes wakes on, from the set to the thread that drives it.
struct Wakes {
    /// The set has something to do.
    woken: AtomicBool,
    root: Mutex<Option<Waker>>,
}

impl Wakes {
    fn root(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        self.root.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> bool {
        self.woken.load(Ordering::Relaxed) && self.woken.swap(false, Ordering::Acquire)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        let root = self.root().clone();
        if let Some(root) = root {
            root.wake();
        }
    }
}
