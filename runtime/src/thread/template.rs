//! The template thread: the parent of every worker.
//!
//! A thread inherits from the one that starts it: namespaces, capabilities, scheduling, signal mask, and some twenty
//! other attributes. If each caller started its own workers, they would inherit what that caller had changed for its
//! own thread. The template never runs user code, so its children inherit no such change. (Go's runtime has a template
//! thread for the same reason.)
//!
//! The first caller starts the template, so the template begins with that thread's attributes. The table in
//! [`inheritance`](crate::inheritance) says how each one is treated: it is set to what the main thread has, or the call
//! is refused, and the next caller tries again. Where the main thread makes the first call, the template inherits the
//! right attributes, except the namespaces, which the main thread may have left for a moment. [`init`](crate::init)
//! says that it has not.
//!
//! **Promised:** a body gets from its thread the attributes of the process, whatever the first caller and the main
//! thread are doing at that instant ([`signal_mask`], [`namespaces`]).
//!
//! **What breaks otherwise:** the C library blocks all signals while the main thread starts a thread. A mask that was
//! read at that moment went to every body, and to every child process that a body started: it could not be terminated.

mod attributes;
mod namespaces;
mod signal_mask;
mod thread_private;

use std::io;
use std::path::Path;
use std::sync::mpsc;

use nix::errno::Errno;

use self::thread_private::ThreadPrivate;
use super::handle::WorkerHandle;
use super::home::{Change, Home};
use super::oneshot;
use super::role::Role;
use super::roster::Roster;
use super::worker;
use crate::error::{Error, ErrorKind};
use crate::sys::{self, Capabilities, Kind, Numbering, OptionalCalls, ProcTask, Resource, Tid};

/// How the template's namespaces are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settle {
    /// The main thread, which is the caller, is in the namespaces of the process.
    AsTheMainThreadIs,
    /// The main thread and the caller may have left the namespaces of the process for a moment.
    FindOut,
}

/// A handle of the template thread, which starts workers on request.
pub(super) struct Template {
    thread: Tid,
    requests: mpsc::Sender<WorkerRequest>,
    /// What it inherited from the thread that started it, and only it can read.
    private: ThreadPrivate,
}

type WorkerRequest = (Role, oneshot::Sender<Result<WorkerHandle, Error>>);

impl Template {
    /// Starts the template thread, from the calling thread, and returns when it is at home. `home` is `None` for the
    /// first template, whose namespaces become home.
    pub(super) fn start(
        roster: &'static Roster,
        home: Option<&'static Home>,
        settle: Settle,
    ) -> Result<(Template, Option<Home>), Error> {
        let (requests, inbox) = mpsc::channel::<WorkerRequest>();
        let (ready, arrival) = oneshot::channel();
        let caller = sys::current_tid();
        let live = move || {
            let here = align(roster, caller, home, settle)
                .and_then(|()| if home.is_none() { Home::here().map(Some) } else { Ok(None) });
            let arrived = here.is_ok();
            #[cfg(feature = "tokio")]
            super::tokio_at_home::settle();
            // The receiver waits below, and a request comes only from a template that arrived.
            ready.send(here.map(|here| (sys::current_tid(), ThreadPrivate::of_current_thread(), here)));
            if arrived {
                for (role, reply) in inbox {
                    if let Some(home) = roster.home() {
                        home.prepare_inspections();
                    }
                    reply.send(worker::spawn(roster, role));
                }
            }
        };
        // `std::thread` would pass on the caller's output capture, which `cargo test` sets.
        sys::spawn_detached(move || {
            let _ = sys::name_current_thread(c"in-netns-tmpl");
            crate::unwind::contain(live);
        })
        .map_err(not_started)?;
        let (thread, private, home) = arrival.receive().unwrap_or_else(|| Err(template_died()))?;
        sys::at_start::used();
        Ok((Template { thread, requests, private }, home))
    }

    /// Whether two templates have the same attributes of those that only the thread itself can read.
    pub(super) fn has_same_private(&self, other: &Template) -> bool {
        self.private.is_like(&other.private)
    }

    /// A new worker, cloned from the template.
    pub(super) fn clone_worker(&self, role: Role) -> Result<WorkerHandle, Error> {
        let (reply, answer) = oneshot::channel();
        self.requests.send((role, reply)).map_err(|_| template_died())?;
        answer.receive().unwrap_or_else(|| Err(template_died()))
    }

    /// The capabilities of the template now: the C library removes them from all threads when the process changes its
    /// user.
    pub(super) fn capabilities(&self) -> Option<Capabilities> {
        sys::capabilities_of(self.thread).ok()
    }
}

const OPERATION: &str = "start the template thread";

fn template_died() -> Error {
    Error::new(
        ErrorKind::ThreadSpawn,
        "start a pinned thread",
        "the template thread is gone, which only a signal that kills threads can cause",
    )
}

fn not_started(source: io::Error) -> Error {
    if source.raw_os_error() == Some(Errno::EINVAL as i32) && sys::can_start_processes_only() {
        return caller_has("a pid namespace of its own for children (unshare(2) with CLONE_NEWPID)");
    }
    Error::spawn_failed("the template thread", source)
}

/// Resources that threads usually share.
const FILES: &str = "root, working directory, umask or mount namespace (unshare(2) with CLONE_FS or CLONE_NEWNS)";
const DESCRIPTORS: &str = "the table of file descriptors (unshare(2) with CLONE_FILES)";
const IPC: &str = "the IPC namespace or the list of SEM_UNDO operations (unshare(2) with CLONE_NEWIPC)";

/// The caller has an attribute that cannot be undone.
fn caller_has(what: &str) -> Error {
    first_call_refused(&format!("the calling thread has {what}, and every pinned thread would inherit it"))
}

/// The caller and the main thread do not share a resource that threads usually share.
fn not_shared(what: &str) -> Error {
    first_call_refused(&format!("the calling thread and the main thread do not share {what}"))
}

fn first_call_refused(why: &str) -> Error {
    let way_out = "make the first call from a thread that is like the main thread, or call `in_netns::init()` first in \
                   `main`";
    Error::new(ErrorKind::Unsupported, OPERATION, format!("{why}; {way_out}"))
}

/// The caller of a later template does not share such a resource with the first template.
fn not_shared_later(what: &str) -> Error {
    let why = format!(
        "the calling thread does not share {what} with the pinned threads that there are, and new ones would inherit \
         it; make a call from another thread, or use `Call::fresh`"
    );
    Error::new(ErrorKind::Unsupported, OPERATION, why)
}

/// The numbers in `/proc` of all threads but the calling one, the main thread and pinned ones.
fn others(roster: &Roster) -> io::Result<Vec<u32>> {
    let not_others = [sys::current_tid(), sys::process_id()].map(|thread| thread.as_raw().unsigned_abs());
    let is_other = |thread: u32| !not_others.contains(&thread) && !roster.is_registered(thread);
    let numbering = Numbering::of_proc()?;
    let mut numbers = sys::list_threads_once(ProcTask::Leader.proc_path())?;
    numbers.retain(|number| numbering.id_of(*number).is_some_and(is_other));
    Ok(numbers)
}

/// Makes the calling thread, the template, which has inherited from the first caller, like the process's main thread.
fn align(roster: &Roster, caller: Tid, home: Option<&Home>, settle: Settle) -> Result<(), Error> {
    sys::attributes::reset_floating_point();
    let leader = sys::process_id();
    let short = |errno| Error::from_errno(format!("{OPERATION}: look at the threads of the process"), errno);
    let others = || sys::unless_short(others(roster)).map(Option::unwrap_or_default);
    match (home, settle) {
        (Some(home), _) => {
            home.restore()?;
            compare_with_first(home)?;
        }
        (None, Settle::AsTheMainThreadIs) => {}
        (None, Settle::FindOut) => {
            namespaces::align(&others().map_err(short)?)?;
        }
    }
    if sys::unless_short(sys::namespace_of(ProcTask::Leader, Kind::Net)).map_err(short)?.is_none() {
        // The main thread has exited, or there is no `/proc`: the other attributes cannot be compared.
        return Ok(());
    }
    if caller == leader {
        // The template has inherited the other attributes from the main thread, its signal mask too:
        // `pthread_create(3)` gives a new thread the mask that its caller had before the call.
        return Ok(());
    }
    if home.is_none() {
        attributes::compare_shared_resources(leader)?;
    }
    attributes::align_with(leader)?;
    signal_mask::align_with_leader(others)
        .map_err(|errno| Error::from_errno(format!("{OPERATION}, with the main thread's signal mask"), errno))
}

/// Checks that the calling thread, which is a later template, shares with the first one what its caller may have
/// stopped sharing since then. Otherwise the bodies of all callers would have the files of this one, and every
/// inspection would find that.
fn compare_with_first(home: &Home) -> Result<(), Error> {
    let refused = |what| Err(not_shared_later(what));
    let calls = OptionalCalls::of_current_thread();
    let thread = sys::current_tid();
    let mine = sys::capabilities_of(thread).unwrap_or_default();
    let compared = home
        .inspect_from_anywhere(thread.as_raw().unsigned_abs(), mine, false, None, calls)
        .and_then(|()| home.inspect_from_within(None, calls, None));
    match compared {
        // Not every one can be compared without `kcmp(2)`, and not with a filter of the main thread.
        Ok(()) | Err(Change::Unknown) => {}
        Err(Change::FileTable) => return refused(DESCRIPTORS),
        Err(Change::Namespace | Change::SemaphoreUndo) => return refused(IPC),
        Err(_) => return refused(FILES),
    }
    let Ok(first) = sys::directory_of_thread(home.template()) else { return Ok(()) };
    if has_files_unlike(home.template(), &first) { refused(FILES) } else { Ok(()) }
}

/// Whether the calling thread does not share root, working directory or mount namespace with a thread, whose directory
/// in `/proc` is given.
///
/// `kcmp(2)` may be missing. Then files that differ are not shared, if they differ each time: a thread of the program
/// may change the working directory of all of them between the two readings.
fn has_files_unlike(thread: Tid, task: &Path) -> bool {
    const READINGS: u32 = 32;
    let of = |task: &Path, file: &str| std::fs::read_link(task.join(file)).ok();
    let mine = ProcTask::Current.proc_path();
    // Two of each, one after the other: a thread that goes to and fro may wait for each reading before its next step.
    let differs = |file| {
        let (mine, its) = ([of(mine, file), of(mine, file)], [of(task, file), of(task, file)]);
        !mine.iter().any(|file| its.contains(file))
    };
    let differs_always = |file| (0..READINGS).all(|_| differs(file));
    match sys::share(Resource::Fs, thread, sys::current_tid()) {
        Ok(true) => of(mine, "ns/mnt") != of(task, "ns/mnt"),
        Ok(false) => true,
        Err(_) => ["cwd", "root", "ns/mnt"].into_iter().any(differs_always),
    }
}
