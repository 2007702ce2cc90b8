//! The synchronisation types of the two rendezvous and of the seat of a process. The model checks replace them with
//! loom's.

use std::ops::Deref;
use std::time::Duration;

use crate::sys;
pub(crate) use crate::sys::current_thread_id as current_thread;
pub(crate) use crate::sys::placement::{Cpus, confine, current_cpu, release};

pub(crate) use std::hint::spin_loop;
pub(crate) use std::sync::Arc;
#[cfg(feature = "tokio")]
pub(crate) use std::sync::Condvar;
#[cfg(feature = "tokio")]
pub(crate) use std::sync::atomic::AtomicBool;
/// An atomic number on which no other memory depends.
pub(crate) use std::sync::atomic::AtomicU32 as Hint;
pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
pub(crate) use std::sync::{Mutex, MutexGuard};
#[cfg(feature = "tokio")]
pub(crate) use std::thread_local;
pub(crate) use std::time::Instant;

/// `std`'s cell with the interface of loom's, through which loom sees each access.
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        UnsafeCell(std::cell::UnsafeCell::new(value))
    }

    pub(crate) fn with_mut<R>(&self, access: impl FnOnce(*mut T) -> R) -> R {
        access(self.0.get())
    }
}

/// A word that a thread can sleep on until another thread changes it (`futex(2)`).
pub(crate) struct Futex(AtomicU32);

impl Futex {
    pub(crate) fn new(value: u32) -> Futex {
        Futex(AtomicU32::new(value))
    }

    /// Sleeps while the word is `expected`, until woken or for `timeout`. May return for no reason.
    pub(crate) fn wait(&self, expected: u32, timeout: Option<Duration>) {
        sys::futex_wait(&self.0, expected, timeout);
    }

    /// Wakes the thread that sleeps on the word.
    pub(crate) fn wake(&self) {
        sys::futex_wake(&self.0);
    }
}

impl Deref for Futex {
    type Target = AtomicU32;

    fn deref(&self) -> &AtomicU32 {
        &self.0
    }
}

/// Identifies a thread among those that live at the same time.
#[cfg(feature = "tokio")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ThreadKey(usize);

/// The calling thread's key. It is available in the destructor of a thread-local too.
#[cfg(feature = "tokio")]
pub(crate) fn current_thread_key() -> ThreadKey {
    thread_local!(static KEY: u8 = const { 0 });
    KEY.with(|key| ThreadKey(std::ptr::from_ref(key).addr()))
}
