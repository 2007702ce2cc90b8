//! The definition of "pristine": the attributes that each Linux thread has of its own, and how a change is treated.
//!
//! **Promised:** a thread for which [`Baseline::inspect`] and [`Home`](super::home::Home)'s inspections find nothing
//! differs from what it was before its first body in no attribute that [`TABLE`] names.
//!
//! **Why each thread has a baseline:** a worker inherits from the template, and has run no user code when it is pinned.
//! So the state that it reads then is the template's, also where that has changed since the process began; and no other
//! thread need be asked.
//!
//! **What breaks otherwise:** a body that joins a session keyring, blocks a signal or changes its user id by a raw
//! system call leaves that to the next body on its thread.
//!
//! The documentation of [`Change`] lists the attributes that the table does not name, with the reasons.

use std::cell::Cell;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::bounding_set::BoundingSet;
use super::home::Change;
use crate::sys::filters;
use crate::sys::kept::Kept;
use crate::sys::readings::{self, FloatControl, Keyring};
use crate::sys::{self, Capabilities, Optional, OptionalCalls, Tid};

/// The value of an attribute, or the error of reading it: the same error then and now is no change.
type Reading = Result<[u64; WORDS], Errno>;

/// The number of words of the longest reading, an affinity for 1,024 processors.
const WORDS: usize = 16;

/// The attribute need not be compared: another comparison detects every change of it.
const NOT_CONCERNED: Reading = Err(Errno::ENODATA);

/// Whether an attribute is to be read again after each body.
///
/// It is not where the kernel has no such call (`ENOSYS`), or a filter refuses it (`EPERM`, or `ENOSYS` too): a thread
/// can only add filters, so no body changes that. The kernel runs the whole filter for a refusal, which takes 1.5 µs
/// with the profile of a container, where an answer takes 0.2 µs.
fn is_readable(reading: &Reading) -> bool {
    !matches!(*reading, NOT_CONCERNED | Err(Errno::EPERM | Errno::ENOSYS))
}

/// One line of the table.
struct Attribute {
    /// The attribute is read only where this call is harmless; `None` where it always is.
    call: Option<Optional>,
    read: fn() -> Reading,
    treatment: Treatment,
}

/// How a change is treated.
enum Treatment {
    /// The thread is retired.
    Compare(Change),
    /// It is undone. A reset is as cheap as a comparison, so it is done without one.
    Reset(fn(&[u64; WORDS])),
}

use Treatment::{Compare, Reset};

/// The attributes that only the thread itself can read cheaply, in the order in which they are read.
///
/// [`Filters`] are compared before them: once those differ, no optional call is known to be harmless. Pending signals
/// come before the mask, because a reset of the mask would deliver them.
const TABLE: &[Attribute] = &[
    compared(|| readings::pending_signals().map(|signals| words([signals])), Change::PendingSignal),
    reset(|| readings::signal_mask().map(|mask| words([mask])), set_signal_mask),
    reset(|| sys::timer_slack().map(|slack| words([slack])), set_timer_slack),
    compared(|| readings::user_ids().map(|ids| words(ids.map(u64::from))), Change::Ids),
    compared(|| readings::group_ids().map(|ids| words(ids.map(u64::from))), Change::Ids),
    compared(|| readings::filesystem_ids().map(|ids| words(ids.map(u64::from))), Change::Ids),
    compared(groups, Change::Ids),
    compared(ambient_capabilities, Change::Capabilities),
    // They include `SECBIT_KEEP_CAPS`.
    compared(|| readings::securebits().map(word), Change::Capabilities),
    compared(|| readings::no_new_privs().map(word), Change::NoNewPrivs),
    optional(Optional::Keyctl, || readings::keyring(Keyring::Session).map(word), Change::Keyring),
    optional(Optional::Keyctl, || readings::keyring(Keyring::Thread).map(word), Change::Keyring),
    optional(Optional::Keyctl, || readings::keyring(Keyring::Process).map(word), Change::Keyring),
    optional(Optional::Keyctl, || readings::requested_keys().map(word), Change::Keyring),
    optional(Optional::SchedGetattr, || readings::scheduling().map(words), Change::Scheduling),
    compared(readings::affinity, Change::Scheduling),
    optional(Optional::IoprioGet, || readings::io_priority_of(Tid::from_raw(0)).map(word), Change::Scheduling),
    optional(Optional::GetMempolicy, || readings::memory_policy().map(word), Change::MemoryPolicy),
    optional(Optional::Personality, || readings::personality().map(word), Change::Personality),
    compared(|| readings::signal_stack().map(words), Change::SignalStack),
    compared(speculation, Change::Speculation),
    reset(|| readings::parent_death_signal().map(word), set_parent_death_signal),
    reset(|| readings::thread_name().map(words), set_name),
];

const fn compared(read: fn() -> Reading, change: Change) -> Attribute {
    Attribute { call: None, read, treatment: Compare(change) }
}

/// As [`compared`], where the call is harmless.
const fn optional(call: Optional, read: fn() -> Reading, change: Change) -> Attribute {
    Attribute { call: Some(call), read, treatment: Compare(change) }
}

const fn reset(read: fn() -> Reading, set: fn(&[u64; WORDS])) -> Attribute {
    Attribute { call: None, read, treatment: Reset(set) }
}

/// The seccomp filters of a thread, which can only add to them.
struct Filters {
    mode: nix::Result<i32>,
    /// `None` without a filter, and where `/proc` does not report the number. An error where that is not known.
    count: nix::Result<Option<u16>>,
    /// The file that reports the count. `None` where it is opened for each reading.
    file: Option<Kept<File>>,
    /// Whether they were compared at the end of this lease, and were the same.
    compared: Cell<bool>,
}

impl Filters {
    /// Those of the calling thread. The file is of its table of descriptors.
    fn of_current_thread(keeps_file: bool) -> Filters {
        let mode = readings::seccomp_mode();
        let count = if readings::is_filtered() { sys::unless_short(filters::count()) } else { Ok(None) };
        let file =
            if keeps_file && matches!(count, Ok(Some(_))) { filters::open().and_then(Kept::new).ok() } else { None };
        Filters { mode, count, file, compared: Cell::new(false) }
    }

    /// Compares those of the calling thread, which is the one that these are of.
    fn compare(&self) -> Result<(), Change> {
        if readings::seccomp_mode() != self.mode {
            return Err(Change::Seccomp);
        }
        let Some(before) = self.count.map_err(|_| Change::Unknown)? else { return Ok(()) };
        match self.file.as_ref().map_or_else(filters::count, |file| filters::count_in(file)) {
            Ok(now) if now == before => Ok(()),
            Ok(_) => Err(Change::Seccomp),
            // The body may have another `/proc`, which reports nothing, and another filter.
            Err(_) => Err(Change::Unknown),
        }
    }
}

/// The state of a thread when it was pinned, before its first body.
pub(super) struct Baseline {
    float_control: FloatControl,
    filters: Filters,
    /// Whether the kernel reports the use of `io_uring(7)`.
    tells_of_io_uring: bool,
    bounding_set: BoundingSet,
    /// The directory of its namespaces in `/proc`. `None` where it is looked up for each reading.
    namespaces: Option<Kept<OwnedFd>>,
    readings: Box<[(&'static Attribute, Reading)]>,
}

impl Baseline {
    /// Reads the state of the calling thread.
    ///
    /// A thread that is inspected often `keeps_files`. It gives them back by [`Baseline::take_files`], because its body
    /// may have a table of descriptors of its own at the end.
    pub(super) fn of_current_thread(calls: OptionalCalls, keeps_files: bool) -> Baseline {
        let readable = TABLE.iter().filter(|attribute| attribute.call.is_none_or(|call| calls.has(call)));
        let readings = readable.map(|attribute| (attribute, (attribute.read)()));
        let filters = Filters::of_current_thread(keeps_files);
        // Without a filter, other calls compare the namespaces.
        let is_filtered = filters.file.is_some();
        let namespaces = is_filtered.then(sys::open_directory_of_namespaces).and_then(Result::ok);
        Baseline {
            float_control: FloatControl::of_current(),
            filters,
            namespaces: namespaces.map(Kept::new).and_then(Result::ok),
            // A new thread has used none. Another answer is that of a seccomp filter.
            tells_of_io_uring: calls.has(Optional::IoUringEnter) && readings::has_used_io_uring() == Ok(false),
            bounding_set: BoundingSet::of_current_thread(keeps_files),
            readings: readings.filter(|(_, reading)| is_readable(reading)).collect(),
        }
    }

    /// Resets the attributes that a thread changes without a system call.
    pub(super) fn inspect_registers(&self) {
        // Writing these registers is slow on some processors; reading them is not.
        if FloatControl::of_current() != self.float_control {
            self.float_control.set();
        }
    }

    /// Whether a body has used `io_uring(7)`. It is called before the owner is notified, so the owner waits 0.3 µs for
    /// it.
    pub(super) fn has_used_io_uring(&self) -> bool {
        // With a filter that the body added the call may not be harmless any more.
        if !self.tells_of_io_uring {
            return false;
        }
        self.filters.compared.set(self.filters.compare().is_ok());
        self.filters.compared.get() && readings::has_used_io_uring() == Ok(true)
    }

    /// The files that are kept open, where there are some. Nothing is to be compared afterwards.
    pub(super) fn take_files(&mut self) -> (Option<Kept<File>>, Option<Kept<OwnedFd>>) {
        (self.filters.file.take(), self.namespaces.take())
    }

    /// The directory of the thread's namespaces, where it is kept open.
    pub(super) fn namespaces(&self) -> Option<BorrowedFd<'_>> {
        self.namespaces.as_ref().map(|directory| directory.as_fd())
    }

    /// Compares the calling thread, of which this is the baseline, and resets what can be reset. `capabilities` are
    /// those that its lease began with.
    pub(super) fn inspect(&self, capabilities: Capabilities) -> Result<(), Change> {
        self.inspect_registers();
        if !self.filters.compared.take() {
            self.filters.compare()?;
        }
        self.readings.iter().try_for_each(|(attribute, before)| match (&attribute.treatment, before) {
            (Compare(change), before) => {
                if (attribute.read)() == *before {
                    Ok(())
                } else {
                    Err(*change)
                }
            }
            (Reset(reset), Ok(before)) => {
                reset(before);
                Ok(())
            }
            // An attribute that cannot be read cannot be reset. Every kernel can read those that are reset here.
            (Reset(_), Err(_)) => Ok(()),
        })?;
        self.compare_inheritable(capabilities)
    }

    /// Compares the inheritable and the bounding set. The bounding set is read by a change of the inheritable one for a
    /// moment, so no other thread may compare that.
    fn compare_inheritable(&self, capabilities: Capabilities) -> Result<(), Change> {
        match sys::capabilities_of_current() {
            Ok(mine) if mine.inheritable == capabilities.inheritable && self.bounding_set.is_complete(mine) => Ok(()),
            Ok(_) => Err(Change::Capabilities),
            Err(_) => Err(Change::Unknown),
        }
    }
}

/// The first words of a reading; the rest are zero.
fn words<const N: usize>(first: [u64; N]) -> [u64; WORDS] {
    let mut all = [0; WORDS];
    all[..N].copy_from_slice(&first);
    all
}

#[allow(clippy::cast_sign_loss)] // All bits are kept, which is enough to compare.
fn bits_of(number: i32) -> u64 {
    u64::from(number as u32)
}

/// A number, with its sign.
fn word(number: i32) -> [u64; WORDS] {
    words([bits_of(number)])
}

fn set_signal_mask(before: &[u64; WORDS]) {
    // It accepts any mask.
    let _ = readings::set_signal_mask(before[0]);
}

fn set_timer_slack(before: &[u64; WORDS]) {
    // A real-time thread has no timer slack, and setting it has no effect.
    let _ = sys::set_timer_slack(before[0]);
}

fn set_name(before: &[u64; WORDS]) {
    // It accepts any name.
    let _ = readings::set_thread_name([before[0], before[1]]);
}

/// The number of groups, and then the groups, two in each word. For a longer list only the number.
fn groups() -> Reading {
    let mut ids = [0_u32; 2 * (WORDS - 1)];
    let count = match readings::groups(&mut ids) {
        Ok(count) => count,
        Err(Errno::EINVAL) => readings::groups(&mut [])?,
        Err(errno) => return Err(errno),
    };
    let mut all = [0; WORDS];
    all[0] = count as u64;
    for (word, pair) in all[1..].iter_mut().zip(ids.chunks_exact(2)) {
        *word = u64::from(pair[0]) << 32 | u64::from(pair[1]);
    }
    Ok(all)
}

/// The ambient set is a subset of the inheritable one. Where that is empty, as is usual, a change of the ambient set
/// needs a change of the inheritable one, which is compared together with the effective and permitted sets.
fn ambient_capabilities() -> Reading {
    let inheritable = sys::capabilities_of(sys::current_tid())?.inheritable;
    if inheritable == 0 {
        return NOT_CONCERNED;
    }
    Ok(words([readings::ambient_capabilities(inheritable)]))
}

/// The controls of the two features that a thread can disable for itself.
fn speculation() -> Reading {
    let (store_bypass, indirect_branch) = (readings::speculation(0)?, readings::speculation(1)?);
    Ok(words([store_bypass, indirect_branch].map(bits_of)))
}

fn set_parent_death_signal(before: &[u64; WORDS]) {
    // A signal that was set before can be set again.
    let _ = readings::set_parent_death_signal(before[0]);
}
