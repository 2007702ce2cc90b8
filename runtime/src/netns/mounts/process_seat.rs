//! A value behind a lock, one for each process: a forked child neither waits for a lock that its parent left held, nor
//! keeps what the parent's copy holds.
//!
//! **Promised:** [`ProcessSeat::lock`] waits only for threads of this process. The value of an ancestor moves to the
//! first seat that a process makes, or is left alone where the ancestor's lock is held. The model checker explores it.

use std::marker::PhantomData;
use std::sync::{PoisonError, TryLockError};

use crate::sync::{AtomicPtr, Mutex, MutexGuard, Ordering};
use crate::sys::process_local::ProcessMark;

/// A value behind a lock. A child process begins with a copy, and with a lock of its own: in the child, the lock of the
/// parent stays held if another thread held it at the fork. In that case the child begins without a value.
///
/// **Why not a `ProcessLocal`:** that leaves the copies of the parent in memory, with the descriptors in them. They
/// would pile up in a child of a child, and so on.
pub(crate) struct ProcessSeat<T> {
    /// The seat of this process, or of one from which it was forked. Never null.
    latest: AtomicPtr<SeatOf<T>>,
    /// Threads share it only where they may share the lock.
    seat: PhantomData<SeatOf<T>>,
}

struct SeatOf<T> {
    process: ProcessMark,
    value: Mutex<Option<T>>,
}

impl<T> ProcessSeat<T> {
    pub(crate) fn new(value: T) -> ProcessSeat<T> {
        ProcessSeat { latest: AtomicPtr::new(SeatOf::boxed(Some(value))), seat: PhantomData }
    }

    /// The value in this process. `None` where it has yet to be made here.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Option<T>> {
        let found = self.latest.load(Ordering::Acquire);
        // SAFETY: the pointer is from `Box::into_raw`, and a seat that was stored is freed in `drop` alone.
        let mut seat = unsafe { &*found };
        if !seat.process.is_current() {
            seat = self.replace(found, seat);
        }
        seat.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the seat of this process, to which the value of an ancestor moves. The seat of the ancestor is leaked:
    /// where its lock is held, the value may be half written.
    #[cold]
    fn replace(&self, found: *mut SeatOf<T>, inherited: &SeatOf<T>) -> &SeatOf<T> {
        let made = SeatOf::boxed(None);
        // SAFETY: as in `lock`. Where it is not stored, no reference to it is left when it is freed.
        let seat = unsafe { &*made };
        // Other threads of this process wait for the value. The thread that stores the seat is the only one that looks
        // at the ancestor.
        let mut value = seat.value.lock().unwrap_or_else(PoisonError::into_inner);
        match self.latest.compare_exchange(found, made, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                *value = inherited.take();
                drop(value);
                seat
            }
            Err(theirs) => {
                drop(value);
                // SAFETY: it was not stored, so this is its only pointer.
                drop(unsafe { Box::from_raw(made) });
                // SAFETY: as in `lock`.
                unsafe { &*theirs }
            }
        }
    }
}

impl<T> Drop for ProcessSeat<T> {
    fn drop(&mut self) {
        let latest = self.latest.load(Ordering::Acquire);
        // SAFETY: as in `lock`. No other reference exists.
        let seat = unsafe { &*latest };
        if seat.process.is_current() {
            // SAFETY: the pointer is from `Box::into_raw`, and no reference to the seat is used after this.
            drop(unsafe { Box::from_raw(latest) });
        } else {
            drop(seat.take());
        }
    }
}

impl<T> SeatOf<T> {
    fn boxed(value: Option<T>) -> *mut SeatOf<T> {
        Box::into_raw(Box::new(SeatOf { process: ProcessMark::current(), value: Mutex::new(value) }))
    }

    /// Takes the value of an ancestor. `None` where the lock is held, as another thread left it at the fork.
    fn take(&self) -> Option<T> {
        match self.value.try_lock() {
            Ok(mut value) => value.take(),
            Err(TryLockError::Poisoned(value)) => value.into_inner().take(),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}
