//! The table of file descriptors that an async call began in.
//!
//! A thread of another table (`unshare(2)` with `CLONE_FILES`) cannot wake the thread of the call: the runtime is woken
//! by the number of a descriptor, which is another file there. An executor of that table cannot be woken by the thread
//! of the call for the same reason. So the call is not polled there, and what must be woken in any case, for a drop or
//! an abort, is woken by a thread with the call's table.

use std::cell::Cell;
use std::mem;
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::thread;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::sys::descriptor_table;
use crate::thread::keeper::Keeper;
use crate::thread::pinned::PinnedThread;
use crate::thread::wake_elsewhere;

/// The keeper of a call, where the caller has a table of its own.
#[derive(Clone, Default)]
pub(super) struct KeeperOfCall(Arc<Mutex<Stage>>);

#[derive(Clone, Default)]
enum Stage {
    /// Its thread is about to start.
    #[default]
    Starting,
    Started(Keeper<PinnedThread>),
    /// The call has ended. What the others have of a keeper keeps its thread, so there is none.
    Ended,
}

impl KeeperOfCall {
    pub(super) fn start(&self, keeper: Keeper<PinnedThread>) {
        self.set(Stage::Started(keeper));
    }

    pub(super) fn end(&self) {
        self.set(Stage::Ended);
    }

    fn set(&self, stage: Stage) {
        let before = mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), stage);
        drop(before);
    }

    /// The keeper, unless the call has ended.
    fn get(&self) -> Option<Keeper<PinnedThread>> {
        loop {
            let stage = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
            match stage {
                Stage::Starting => thread::yield_now(),
                Stage::Started(keeper) => return Some(keeper),
                Stage::Ended => return None,
            }
        }
    }
}

/// Identifies a thread among all of the process, also those that have exited.
#[derive(Clone, Copy, PartialEq, Eq)]
struct ThreadNumber(usize);

impl ThreadNumber {
    /// That of the calling thread.
    ///
    /// `std::thread::current` panics in a destructor that runs after those of thread-locals (`pthread_key_create(3)`).
    /// This thread-local has no destructor.
    fn of_current() -> ThreadNumber {
        static LAST: AtomicUsize = AtomicUsize::new(0);
        thread_local!(static NUMBER: Cell<usize> = const { Cell::new(0) });
        NUMBER.with(|number| {
            if number.get() == 0 {
                number.set(LAST.fetch_add(1, Ordering::Relaxed) + 1);
            }
            ThreadNumber(number.get())
        })
    }
}

/// The table that a call began in.
#[derive(Clone)]
pub(super) struct CallTable {
    keeper: Option<KeeperOfCall>,
    /// The last thread that was found to have it: most calls are polled by one.
    known: ThreadNumber,
}

impl CallTable {
    /// That of the calling thread, with the keeper of the call where it is not that of the process.
    pub(super) fn of_current(keeper: Option<KeeperOfCall>) -> CallTable {
        CallTable { keeper, known: ThreadNumber::of_current() }
    }

    /// Whether the calling thread has the table. `true` if the kernel does not say, and if the call has ended.
    fn is_current(&self) -> bool {
        let shares = match &self.keeper {
            None => descriptor_table::is_shared(),
            Some(keeper) => match keeper.get() {
                Some(keeper) => keeper.shares_table(),
                None => Ok(true),
            },
        };
        shares != Ok(false)
    }

    /// Whether the calling thread was the last one that was found to have it, which costs no system call.
    pub(super) fn is_known_here(&self) -> bool {
        self.known == ThreadNumber::of_current()
    }

    /// An error where the calling thread has another table.
    pub(super) fn check(&mut self, operation: &'static str) -> Result<(), Error> {
        if self.is_current() {
            self.known = ThreadNumber::of_current();
            return Ok(());
        }
        let why = "it began in another table of file descriptors than that of the calling thread (unshare(2) with \
                   CLONE_FILES); await it on a thread that shares its table with the one that began it";
        Err(Error::new(ErrorKind::Unsupported, operation, why))
    }

    /// Wakes the runtime of the call.
    pub(super) fn wake(&self, runtime: Waker) {
        if self.is_known_here() || self.is_current() {
            return runtime.wake();
        }
        match self.keeper.as_ref().map(KeeperOfCall::get) {
            Some(None) => {}
            Some(Some(keeper)) => {
                if !keeper.wake(runtime) {
                    // There was no thread but that of the call when it began. The body cannot be left: it may borrow.
                    process::abort();
                }
            }
            None => {
                let mut unwoken = wake_elsewhere(runtime);
                while let Err(runtime) = unwoken {
                    // No thread can be started now. The body cannot be left: it may borrow.
                    thread::sleep(PAUSE);
                    unwoken = wake_elsewhere(runtime);
                }
            }
        }
    }
}

/// The time between two attempts to start a thread.
const PAUSE: Duration = Duration::from_millis(1);
