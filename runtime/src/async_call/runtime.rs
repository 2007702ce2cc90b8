//! The runtime of an async call, and its threads.
//!
//! A body may fork. The child process shares the epoll instance of the parent's runtime, and would take its events. So
//! it ends as soon as the copy of the body waits.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{io, mem, panic};

use nix::errno::Errno;
use tokio::runtime::{Builder, Runtime};

use super::local::LocalTasks;
use crate::error::{Error, ErrorKind};
use crate::netns::mounts::Mounts;
use crate::netns::{NetNs, Place};
use crate::sys::process_local::{ProcessMark, end_child_at_thread_exit};
use crate::thread::keeper::Closer;
use crate::thread::pinned::PinnedThread;
use crate::thread::{Pool, ThreadExit, descriptors, run_by_keeper, run_elsewhere, tokio_at_home};
use crate::unwind::contain;

/// A runtime needs descriptors, which can be short. Besides, tokio's driver for signals has descriptors for the whole
/// process. In another table their numbers may be other files.
fn not_built(source: io::Error) -> Error {
    const OPERATION: &str = "build the tokio runtime of an async call";
    if Pool::of_process().home_or_init().is_ok_and(descriptors::are_apart) {
        let why = "the calling thread has a table of file descriptors of its own, without those that tokio keeps for \
                   the process; make the call from another thread";
        return Error::from_io(ErrorKind::Unsupported, OPERATION, source).explained(why);
    }
    refused_by_tokio(OPERATION, source)
}

/// The error where tokio builds no runtime: descriptors are short as a rule.
pub(super) fn refused_by_tokio(operation: impl Into<String>, source: io::Error) -> Error {
    let Some(errno) = source.raw_os_error() else {
        let text = source.to_string();
        return Error::from_io(ErrorKind::LimitReached, operation, source).explained(text);
    };
    let error = Error::from_errno(operation, Errno::from_raw(errno)).explain_no_watch().explain_closed();
    error.explain(|kind| {
        // `EPERM` is also what the kernel says where a number is an ordinary file's now.
        let why = if tokio_at_home::check().is_ok() {
            "a descriptor that tokio keeps for the process was closed, and its number is another file's now, as by a \
             daemon that closes all that it has (close_range(2)); or a seccomp filter that was added forbids \
             epoll_create1(2), eventfd2(2) or socketpair(2)"
        } else {
            "tokio needs epoll_create1(2), eventfd2(2) and socketpair(2), and a seccomp filter may forbid one"
        };
        (kind != ErrorKind::LimitReached).then(|| why.into())
    })
}

/// How long a blocking thread waits for its next closure, in the parent and in a child that was forked in a closure.
const BLOCKING_KEEP_ALIVE: Duration = Duration::from_secs(1);

/// The runtime of a call. All its threads are in the call's namespace, or do no work.
pub(super) struct CallRuntime {
    runtime: Runtime,
    local: LocalTasks,
    blocking: Arc<BlockingThreads>,
    inside: Arc<UntilEnd<RuntimePlace>>,
    process: ProcessMark,
}

impl CallRuntime {
    /// Builds the runtime on the pinned thread, which is inside already, for a view in these mounts.
    pub(super) fn build(place: &Place, mounts: Option<Arc<Mounts>>) -> Result<CallRuntime, Error> {
        tokio_at_home::check().map_err(not_built)?;
        let blocking = Arc::new(BlockingThreads::default());
        let mut builder = Builder::new_current_thread();
        builder.enable_all().thread_name("in-netns-block");
        let (starts, stops) = (Arc::clone(&blocking), Arc::clone(&blocking));
        let inside = Arc::new(UntilEnd::new(RuntimePlace { place: place.clone(), mounts }));
        let place_of_threads = Arc::clone(&inside);
        let process = ProcessMark::current();
        // A task that the body has spawned may fork too.
        builder.on_thread_park(move || process.end_child());
        builder
            .on_thread_start(move || starts.on_start(&place_of_threads))
            .on_thread_stop(move || {
                // And so may a blocking closure. In the child, the lock of the exits may be held for ever.
                process.end_child();
                stops.exits.add_current();
            })
            .thread_keep_alive(BLOCKING_KEEP_ALIVE);
        let runtime = builder.build().map_err(not_built)?;
        Ok(CallRuntime { runtime, local: LocalTasks::new(), blocking, inside, process })
    }

    /// Drives the runtime until `future` is ready.
    pub(super) fn drive<F: Future>(&mut self, future: F) -> F::Output {
        let process = self.process;
        let mut future = pin!(future);
        let in_one_process = poll_fn(|cx| {
            let polled = future.as_mut().poll(cx);
            process.end_child();
            polled
        });
        self.local.run_until(&self.runtime, in_one_process)
    }

    /// Whether there are blocking threads, for which the end waits.
    pub(super) fn has_blocking_threads(&self) -> bool {
        self.blocking.any.load(Ordering::Relaxed)
    }

    /// Ends the tasks that were spawned, waits for blocking closures that run, and calls `then`.
    ///
    /// If the body has left the table of descriptors that its thread began with, another thread does so inside, which
    /// has that table: the `closer`. What is closed here would stay open there: the descriptors of the runtime, and
    /// that of the namespace where the call has the last handle of it.
    pub(super) fn end<R: Send + 'static>(
        self,
        closer: Closer<PinnedThread>,
        then: impl FnOnce() -> R + Send + 'static,
    ) -> R {
        let CallRuntime { runtime, local, blocking, inside, process: _ } = self;
        // tokio catches the panics of tasks' destructors. If another panic occurs, the thread is still restored.
        contain(|| {
            let entered = runtime.enter();
            drop(local);
            drop(entered);
        });
        let place = inside.get().map(|inside| inside.place);
        let end = move || {
            // A blocking thread may have left the table too, so the last reference must not be one of theirs.
            let last = runtime.handle().clone();
            contain(|| drop(runtime));
            blocking.exits.wait();
            // What the body has handed out may keep the runtime's functions.
            drop((last, inside.take()));
            then()
        };
        match (closer, place) {
            (Closer::ThisThread, place) => {
                // The last one is dropped at the end.
                drop(place);
                end()
            }
            (Closer::AnyPinnedThread, Some(place)) => run_elsewhere(place, end).unwrap_or_else(|end| end()),
            (Closer::Keeper(keeper), Some(place)) => run_by_keeper(&keeper, place, end).unwrap_or_else(|end| end()),
            (_, None) => unreachable!("only the end takes the place out"),
        }
    }
}

/// The threads that run blocking closures.
#[derive(Default)]
struct BlockingThreads {
    any: AtomicBool,
    /// The exits of the threads that have stopped.
    exits: ThreadExits,
}

impl BlockingThreads {
    /// Enters the namespace on the new thread. It inherited that of the thread that started it, which may be another
    /// one: a handle of the runtime can be used on any thread.
    fn on_start(&self, inside: &UntilEnd<RuntimePlace>) {
        self.any.store(true, Ordering::Relaxed);
        end_child_at_thread_exit();
        let inside = inside.get().unwrap_or_else(|| end_thread_of_no_runtime());
        panic_unless_entered(inside.place.netns(), inside.enter_by_birth_or_now());
    }
}

/// The threads of a runtime that have started, or that are about to exit. A join of such a thread may return a moment
/// before it has released its namespace.
#[derive(Debug, Default)]
pub(super) struct ThreadExits(Mutex<Vec<ThreadExit>>);

impl ThreadExits {
    /// Adds the calling thread.
    pub(super) fn add_current(&self) {
        let mut exits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if exits.len() == exits.capacity() {
            exits.retain(|exit| !exit.is_over());
            // With this much room, only some of the threads look at all exits.
            let as_many = exits.len().max(8);
            exits.reserve(as_many);
        }
        exits.push(ThreadExit::of_current());
    }

    /// Returns when the threads have exited.
    pub(super) fn wait(&self) {
        let exits = mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        exits.into_iter().for_each(ThreadExit::wait);
    }
}

/// Where the threads of a runtime belong, until the runtime ends.
///
/// **Why it is taken out:** a handle of the runtime, of a task or of a timer, which user code may keep, keeps the
/// function that threads start with, and so all that the function has. After a panic in `build`, tokio keeps it for
/// ever.
pub(super) struct UntilEnd<T>(Mutex<Option<T>>);

impl<T: Clone> UntilEnd<T> {
    pub(super) fn new(value: T) -> UntilEnd<T> {
        UntilEnd(Mutex::new(Some(value)))
    }

    /// `None` where it was taken out.
    pub(super) fn get(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The place of the threads of a call's runtime.
#[derive(Clone)]
struct RuntimePlace {
    place: Place,
    /// For a view, the mounts that the call's own thread has entered. The view may have others by now.
    mounts: Option<Arc<Mounts>>,
}

impl RuntimePlace {
    /// As the function of the same name, but also enters the mounts of a view.
    fn enter_by_birth_or_now(&self) -> Result<(), Error> {
        match &self.mounts {
            Some(mounts) if !mounts.are_current() => self.place.as_target().enter_for_good(mounts),
            _ => enter_by_birth_or_now(self.place.netns()),
        }
    }
}

/// Ends a new thread of a runtime that was not built, or has ended. It does so as [`panic_unless_entered`], but without
/// a message.
pub(super) fn end_thread_of_no_runtime() -> ! {
    panic::resume_unwind(Box::new("there is no runtime"))
}

/// Moves a runtime's new thread into `ns`, unless it has inherited that namespace.
pub(super) fn enter_by_birth_or_now(ns: &NetNs) -> Result<(), Error> {
    match ns.is_current() {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => ns.as_target().setns(),
    }
}

/// Ends a runtime's new thread that could not enter. tokio has no other interface for this: a thread that panics
/// when it starts takes no work. The work is left to another thread, or cancelled at the runtime's end.
pub(super) fn panic_unless_entered(ns: &NetNs, entered: Result<(), Error>) {
    if let Err(error) = entered {
        panic!("a thread of the runtime in {ns} could not get there, and runs nothing: {error}");
    }
}
