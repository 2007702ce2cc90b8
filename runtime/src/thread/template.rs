//! The template thread: the parent of every worker.
//!
//! A thread inherits from the one that starts it: namespaces, capabilities, affinity, signal mask. Were workers started by
//! whoever needs one, they would inherit whatever that caller had done to its own thread. The template never runs user code, so
//! there is nothing to inherit. (Go's runtime keeps such a thread for the same reason.)
//!
//! The template itself is started by the first caller. What it inherited it therefore sets right at once, with the process's
//! leader as the measure; what cannot be set right is an error, and the next caller tries again.

use std::fs;
use std::sync::mpsc;
use std::thread::Builder;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};

use super::handle::WorkerHandle;
use super::oneshot;
use super::roster::Roster;
use super::worker;
use crate::error::{Error, ErrorKind};
use crate::sys::{self, Kind, ProcTask, Resource};
use crate::thread::home::Home;

/// A way to ask the template for a worker.
pub(super) struct Template {
    requests: mpsc::Sender<oneshot::Sender<Result<WorkerHandle, Error>>>,
}

impl Template {
    /// Starts the template thread, from the calling thread, and returns when it stands at home.
    pub(super) fn start(roster: &'static Roster) -> Result<(Template, Home), Error> {
        let (requests, inbox) = mpsc::channel::<oneshot::Sender<Result<WorkerHandle, Error>>>();
        let (ready, arrival) = oneshot::channel();
        let live = move || {
            let home = align_with_leader().and_then(|()| Home::here());
            let arrived = home.is_ok();
            // The receiver waits below, and a request comes only from a template that arrived.
            ready.send(home);
            if arrived {
                for reply in inbox {
                    reply.send(worker::spawn(roster));
                }
            }
        };
        Builder::new()
            .name("in-netns-tmpl".into())
            .spawn(live)
            .map_err(|source| Error::spawn_failed("the template thread", source))?;
        let home = arrival.receive().unwrap_or_else(|| Err(template_died()))?;
        Ok((Template { requests }, home))
    }

    /// A new worker, cloned from the template.
    pub(super) fn clone_worker(&self) -> Result<WorkerHandle, Error> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(reply).map_err(|_| template_died())?;
        answer.receive().unwrap_or_else(|| Err(template_died()))
    }
}

fn template_died() -> Error {
    Error::new(
        ErrorKind::ThreadSpawn,
        "start a pinned thread",
        "the template thread is gone, which only a signal that kills threads can cause",
    )
}

/// Makes the calling thread, which inherited from whoever made the first call, like the leader of the process.
fn align_with_leader() -> Result<(), Error> {
    const OPERATION: &str = "start the template thread";
    let leader = sys::process_id();
    let first_call_elsewhere = |why: &str| {
        let explanation = format!("{why}; make the first call from a thread that has not (one call is enough)");
        Err(Error::new(ErrorKind::Unsupported, OPERATION, explanation))
    };

    if sys::namespace_of(ProcTask::Leader, Kind::Net).is_err() {
        // The leader has exited, and the process goes on without it: there is nothing to align with.
        return Ok(());
    }
    for kind in [Kind::Net, Kind::Uts, Kind::Ipc, Kind::Cgroup] {
        if sys::namespace_of(ProcTask::Me, kind).ok() != sys::namespace_of(ProcTask::Leader, kind).ok() {
            let operation = || format!("{OPERATION}, in the {} namespace of the process", kind.file());
            kind.open(ProcTask::Leader)
                .and_then(|namespace| sys::setns(namespace, kind.flag()))
                .map_err(|errno| Error::from_errno(operation(), errno).explain_making())?;
        }
    }
    let apart = |resource| matches!(sys::share(resource, leader, sys::current_tid()), Ok(false));
    if apart(Resource::Fs)
        || sys::namespace_of(ProcTask::Me, Kind::Mount).ok() != sys::namespace_of(ProcTask::Leader, Kind::Mount).ok()
    {
        return first_call_elsewhere("the calling thread has unshared its filesystem attributes or mount namespace");
    }
    if apart(Resource::Files) {
        return first_call_elsewhere("the calling thread has unshared its file descriptor table");
    }
    align_capabilities(leader, first_call_elsewhere)?;
    sys::copy_affinity_from(leader)
        .map_err(|errno| Error::from_errno(format!("{OPERATION}, with the leader's CPU affinity"), errno))?;
    if let Some(mask) = leader_signal_mask() {
        pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&mask), None)
            .map_err(|errno| Error::from_errno(format!("{OPERATION}, with the leader's signal mask"), errno))?;
    }
    Ok(())
}

fn align_capabilities(leader: sys::Tid, refuse: impl Fn(&str) -> Result<(), Error>) -> Result<(), Error> {
    let failed = |errno| Error::from_errno("compare the template thread's capabilities with the leader's", errno);
    let mine = sys::capabilities_of(sys::current_tid()).map_err(failed)?;
    let wanted = sys::capabilities_of(leader).map_err(failed)?.effective | mine.effective;
    if wanted & !mine.permitted != 0 {
        return refuse("the calling thread has given up capabilities that the process has");
    }
    if wanted != mine.effective {
        sys::set_capabilities(sys::Capabilities { effective: wanted, ..mine }).map_err(failed)?;
    }
    Ok(())
}

/// The signals that the leader blocks, from the `SigBlk` line of `/proc/self/status` (`proc_pid_status(5)`).
fn leader_signal_mask() -> Option<SigSet> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"))?;
    let blocked = u64::from_str_radix(blocked.trim(), 16).ok()?;
    Some(Signal::iterator().filter(|signal| blocked & (1 << (*signal as u32 - 1)) != 0).collect())
}
