//! What the runtime's files synchronise with, here loom's types in place of those of `std`: see `runtime/src/sync.rs`.

use std::ops::{AddAssign, Deref};
use std::time::Duration;

pub(crate) use loom::cell::UnsafeCell;
pub(crate) use loom::hint::spin_loop;
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
pub(crate) use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
pub(crate) use loom::thread_local;
/// Not a part of the protocol.
pub(crate) use std::sync::atomic::AtomicU32 as Hint;

pub(crate) type ThreadKey = loom::thread::ThreadId;

pub(crate) fn current_thread_key() -> ThreadKey {
    loom::thread::current().id()
}

/// Time does not pass in a model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instant(Duration);

impl Instant {
    pub(crate) fn now() -> Instant {
        Instant(Duration::ZERO)
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0
    }

    pub(crate) fn saturating_duration_since(self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    pub(crate) fn checked_add(self, time: Duration) -> Option<Instant> {
        self.0.checked_add(time).map(Instant)
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, time: Duration) {
        self.0 += time;
    }
}

#[allow(dead_code)] // There are no processors in a model.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cpus {
    Only(u32),
    AllBut(u32),
}

std::thread_local! {
    // Loom runs the threads of a model on one.
    static IS_CONFINED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Never the same, so that a callee that sleeps is always moved.
pub(crate) fn current_cpu() -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

pub(crate) fn current_thread() -> u32 {
    1
}

pub(crate) fn confine(thread: u32, _: Cpus) -> bool {
    assert_eq!(thread, 1, "the callee has introduced itself");
    IS_CONFINED.set(true);
    true
}

pub(crate) fn release() -> bool {
    IS_CONFINED.set(false);
    true
}

pub(crate) fn is_confined() -> bool {
    IS_CONFINED.get()
}

/// Loom reports a missing wake as a deadlock.
pub(crate) struct Futex {
    word: AtomicU32,
    /// The kernel holds a lock while it looks at the word and queues the thread, and while it takes a thread out.
    sleeper: Mutex<Option<loom::thread::Thread>>,
}

impl Futex {
    pub(crate) fn new(value: u32) -> Futex {
        Futex { word: AtomicU32::new(value), sleeper: Mutex::new(None) }
    }

    /// Loom has no clock: a sleep that times out is modelled as one that ends spuriously.
    pub(crate) fn wait(&self, expected: u32, timeout: Option<Duration>) {
        if timeout.is_some() {
            return loom::thread::yield_now();
        }
        {
            let mut sleeper = self.sleeper.lock().unwrap();
            // A load might return an old value.
            if self.word.compare_exchange(expected, expected, Ordering::AcqRel, Ordering::Acquire).is_err() {
                return;
            }
            let before = sleeper.replace(loom::thread::current());
            assert!(before.is_none(), "one side sleeps at a time");
        }
        loom::thread::park();
    }

    pub(crate) fn wake(&self) {
        let sleeper = self.sleeper.lock().unwrap().take();
        if let Some(sleeper) = sleeper {
            sleeper.unpark();
        }
    }
}

impl Deref for Futex {
    type Target = AtomicU32;

    fn deref(&self) -> &AtomicU32 {
        &self.word
    }
}
