//! The processor that a sleeping thread is woken on.
//!
//! **Promised:** a thread that [`confine`] has narrowed has its former affinity when [`release`] has returned `true`.
//! `false` is returned where another program has changed the affinity of all threads meanwhile, as `taskset -a` does.
//!
//! **Why this mechanism:** the kernel wakes a thread where it ran last, or on another processor that it considers idle.
//! In a virtual machine it does not know whether a virtual processor that has nothing to run is scheduled. An affinity
//! is the only means by which a program can have a thread woken elsewhere.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use super::attributes::Scheduling;
use super::{Optional, OptionalCalls, Tid, current_tid, readings};

/// A set of processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cpus {
    /// This one alone.
    Only(u32),
    /// All but this one.
    AllBut(u32),
}

/// The processor that the calling thread is on at this moment.
pub(crate) fn current_cpu() -> u32 {
    sched_getcpu().ok().and_then(|cpu| cpu.try_into().ok()).unwrap_or(u32::MAX)
}

/// The affinity of threads that may be confined.
static WHOLE: OnceLock<CpuSet> = OnceLock::new();

/// The thread that starts them, which is never confined. 0: none yet.
static PARENT: AtomicI32 = AtomicI32::new(0);

/// Whether the threads that the calling thread starts may be confined, now or later.
///
/// They may only while their affinity has every processor. A smaller one comes from the user or from a cgroup, and the
/// two cannot be told apart: if [`release`] set the affinity of a cgroup, it would outlast a change of the cgroup.
pub(crate) fn may_be_confined() -> bool {
    if !OptionalCalls::of_current_thread().has(Optional::SchedSetaffinity) {
        return false;
    }
    let Ok(affinity) = sched_getaffinity(Tid::from_raw(0)) else { return false };
    let cpus = (0..CpuSet::count()).filter(|cpu| affinity.is_set(*cpu).unwrap_or(false)).count();
    if cpus > 1 && readings::online_cpus().is_some_and(|online| cpus >= online) {
        WHOLE.get_or_init(|| affinity);
    }
    PARENT.store(current_tid().as_raw(), Ordering::Relaxed);
    // Where it is narrower at the moment, it may become whole again, and that of the threads with it.
    WHOLE.get().is_some()
}

/// Makes another thread, which sleeps, wake on some of the processors. Returns whether it will. It will not where its
/// affinity was changed from outside, as by `taskset(1)`, or where the calling thread is a real-time thread.
pub(crate) fn confine(thread: u32, cpus: Cpus) -> bool {
    let (Some(mut narrowed), Ok(thread)) = (WHOLE.get().copied(), thread.try_into().map(Tid::from_raw)) else {
        return false;
    };
    // The calling thread's filter may differ from that of `thread`.
    let calls = OptionalCalls::of_current_thread();
    if !calls.has(Optional::SchedSetaffinity) || is_real_time(calls) || sched_getaffinity(thread).ok() != Some(narrowed)
    {
        return false;
    }
    let is_narrowed = match cpus {
        Cpus::Only(cpu) => {
            narrowed = CpuSet::new();
            narrowed.set(cpu as usize)
        }
        Cpus::AllBut(cpu) => narrowed.unset(cpu as usize),
    };
    is_narrowed.is_ok() && sched_setaffinity(thread, &narrowed).is_ok()
}

/// Whether the calling thread runs before all ordinary threads. A thread that is confined to its processor could then
/// wait for as long as real-time threads keep that processor busy.
fn is_real_time(calls: OptionalCalls) -> bool {
    calls.has(Optional::SchedGetattr) && Scheduling::of(Tid::from_raw(0)).is_ok_and(Scheduling::is_real_time)
}

/// Lets the calling thread run on every processor again. Returns whether it may, and all threads still do.
pub(crate) fn release() -> bool {
    // The kernel treats this as no restriction, now and when processors are added.
    sched_setaffinity(Tid::from_raw(0), all()).is_ok() && parent_is_whole()
}

/// Whether the thread that has started the calling thread has its former affinity. To be asked after a change of that
/// of the calling thread, which may undo one from outside: such a change comes to an older thread first.
fn parent_is_whole() -> bool {
    sched_getaffinity(Tid::from_raw(PARENT.load(Ordering::Relaxed))).ok().as_ref() == WHOLE.get()
}

fn all() -> &'static CpuSet {
    static ALL: OnceLock<CpuSet> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all = CpuSet::new();
        for cpu in 0..CpuSet::count() {
            // It fails only beyond the last processor.
            let _ = all.set(cpu);
        }
        all
    })
}
