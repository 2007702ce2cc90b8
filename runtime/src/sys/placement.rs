//! The processor that a sleeping thread is woken on.
//!
//! **Promised:** a thread that [`confine`] has narrowed has its former affinity when [`release`] has returned `true`.
//!
//! **Why this mechanism:** the kernel wakes a thread where it ran last, or on another processor that it knows to be
//! idle. A processor of a virtual machine that has nothing to run it does not know to be idle. An affinity is the one
//! means by which a program has a thread woken elsewhere.

use std::sync::OnceLock;

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use super::attributes::Scheduling;
use super::{Optional, OptionalCalls, Tid, readings};

/// A part of the processors.
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

/// The calling thread, for [`confine`].
pub(crate) fn current_thread() -> u32 {
    super::current_tid().as_raw().unsigned_abs()
}

/// The affinity of threads that may be confined.
static WHOLE: OnceLock<CpuSet> = OnceLock::new();

/// Whether a thread with the affinity of the calling thread may be confined.
///
/// Only where that is every processor. A smaller one is the user's or that of a cgroup, and the two cannot be told
/// apart: set again by [`release`], the affinity of a cgroup would outlast a change of the cgroup.
pub(crate) fn may_be_confined() -> bool {
    if !OptionalCalls::of_current_thread().has(Optional::SchedSetaffinity) {
        return false;
    }
    let Ok(affinity) = sched_getaffinity(Tid::from_raw(0)) else { return false };
    let cpus = (0..CpuSet::count()).filter(|cpu| affinity.is_set(*cpu).unwrap_or(false)).count();
    let is_whole = cpus > 1 && readings::online_cpus().is_some_and(|online| cpus >= online);
    is_whole && *WHOLE.get_or_init(|| affinity) == affinity
}

/// Has another thread, which sleeps, wake on some of the processors. Returns whether it will: not where its affinity
/// has been changed from outside, as by taskset(1), nor for a real-time thread that calls.
pub(crate) fn confine(thread: u32, cpus: Cpus) -> bool {
    let (Some(mut narrowed), Ok(thread)) = (WHOLE.get().copied(), thread.try_into().map(Tid::from_raw)) else {
        return false;
    };
    // The caller's filter need not be that of the thread.
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

/// Whether the calling thread may have its processor where most threads would wait for it. A thread that is confined
/// to that processor could wait for as long as other real-time threads keep it busy.
fn is_real_time(calls: OptionalCalls) -> bool {
    calls.has(Optional::SchedGetattr) && Scheduling::of(Tid::from_raw(0)).is_ok_and(Scheduling::is_real_time)
}

/// Lets the calling thread run on every processor again. Returns whether it may.
pub(crate) fn release() -> bool {
    // The kernel takes this for no restriction, now and when processors are added.
    sched_setaffinity(Tid::from_raw(0), all()).is_ok()
}

fn all() -> &'static CpuSet {
    static ALL: OnceLock<CpuSet> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all = CpuSet::new();
        for cpu in 0..CpuSet::count() {
            // It fails beyond the last one alone.
            let _ = all.set(cpu);
        }
        all
    })
}
