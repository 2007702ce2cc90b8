//! System calls that not every kernel has, and that a seccomp filter may answer with a signal that kills.
//!
//! **Promised:** none of them is made on a thread where it would kill the process.
//!
//! **Why this mechanism:** a filter cannot be read, and some filters, such as `@system-service` of systemd, kill for a
//! call that they do not list. `PR_GET_SECCOMP` tells whether there is a filter at all. Where there is one, a child
//! process tries each call once. It has the filters of the thread that started it, and the kernel kills the child
//! instead of the process. The result holds for threads with as many filters: a thread can only add filters.

use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;

use super::{before_main, filters, readings};

/// A system call that is not made before [`OptionalCalls`] says that it is harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Optional {
    Kcmp,
    ListMount,
    PidfdOpen,
    Keyctl,
    GetMempolicy,
    IoprioGet,
    Personality,
    SchedGetattr,
    IoUringEnter,
    Tgkill,
    MemfdCreate,
    SchedSetaffinity,
    PidfdGetfd,
    NameToHandleAt,
    OpenByHandleAt,
}

impl Optional {
    const EACH: [Optional; 15] = [
        Optional::Kcmp,
        Optional::ListMount,
        Optional::PidfdOpen,
        Optional::Keyctl,
        Optional::GetMempolicy,
        Optional::IoprioGet,
        Optional::Personality,
        Optional::SchedGetattr,
        Optional::IoUringEnter,
        Optional::Tgkill,
        Optional::MemfdCreate,
        Optional::SchedSetaffinity,
        Optional::PidfdGetfd,
        Optional::NameToHandleAt,
        Optional::OpenByHandleAt,
    ];

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// The set of [`Optional`] system calls that a thread can make without being killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OptionalCalls(u32);

impl OptionalCalls {
    const ALL: OptionalCalls = OptionalCalls((1 << Optional::EACH.len()) - 1);

    /// The set for the calling thread. Without a filter it costs one `prctl(2)`; with filters it also reads `/proc`.
    /// The first time that a thread of the process has so many filters, it costs some child processes: one more than
    /// there are calls that kill.
    ///
    /// Threads with as many filters are assumed to have the same ones. Where `/proc` does not report the number, all
    /// threads with a filter are.
    pub(crate) fn of_current_thread() -> OptionalCalls {
        OptionalCalls::find().unwrap_or_else(|(found, _)| found)
    }

    /// As [`OptionalCalls::of_current_thread`]. An error with what was found so far, where there is no room for a child
    /// process at this moment, or no descriptor.
    pub(crate) fn find() -> Result<OptionalCalls, (OptionalCalls, Errno)> {
        match readings::seccomp_mode() {
            // `EINVAL`: a kernel without seccomp.
            Ok(readings::SECCOMP_MODE_DISABLED) | Err(Errno::EINVAL) => Ok(OptionalCalls::ALL),
            // An error: a filter, or a security module, refuses the question itself.
            Ok(_) | Err(_) => OptionalCalls::under_filter(),
        }
    }

    /// Child processes inherit the filters and the result. Several threads may try at once: no lock is taken, because a
    /// child process could find it locked.
    fn under_filter() -> Result<OptionalCalls, (OptionalCalls, Errno)> {
        /// The result, and the number of filters that it holds for: see [`OptionalCalls::known`].
        static FOUND: [AtomicU32; 16] = [const { AtomicU32::new(0) }; 16];
        // Where `/proc` does not report the number, 0 stands for it: no thread here has no filter.
        let filters = super::unless_short(filters::count()).map_err(|errno| (OptionalCalls(0), errno))?.unwrap_or(0);
        let place = &FOUND[usize::from(filters) % FOUND.len()];
        let found = place.load(Ordering::Relaxed);
        if found != 0 && found >> OptionalCalls::BITS == OptionalCalls::known(filters) {
            return Ok(OptionalCalls(found & OptionalCalls::ALL.0));
        }
        let tried = OptionalCalls::try_in_child()?;
        place.store(tried.0 | OptionalCalls::known(filters) << OptionalCalls::BITS, Ordering::Relaxed);
        Ok(tried)
    }

    /// One bit for each call.
    const BITS: u32 = OptionalCalls::ALL.0.count_ones();

    /// The number of filters that a result holds for, in the bits that no call has. It is never 0.
    fn known(filters: u16) -> u32 {
        u32::from(filters) + 1
    }

    /// Whether a call is harmless. The kernel may refuse it all the same.
    pub(crate) fn has(self, call: Optional) -> bool {
        self.0 & call.bit() != 0
    }

    fn try_in_child() -> Result<OptionalCalls, (OptionalCalls, Errno)> {
        /// In the upper half of the word: the number of the call that is being made, and one more at the end.
        const SHIFT: u32 = 16;
        let (mut harmless, mut next) = (0, 0);
        while next < Optional::EACH.len() {
            let first = next;
            let answer = before_main::in_child(|report| {
                readings::leave_no_core_file();
                let mut harmless = 0;
                for (number, call) in Optional::EACH.iter().enumerate().skip(first) {
                    report(harmless | u32::try_from(number).unwrap_or(0) << SHIFT);
                    readings::try_optional(*call);
                    harmless |= call.bit();
                }
                report(harmless | u32::try_from(Optional::EACH.len()).unwrap_or(0) << SHIFT);
            });
            let answer = match answer {
                Ok(answer) => answer,
                Err(errno @ (Errno::EAGAIN | Errno::ENOMEM)) => return Err((OptionalCalls(harmless), errno)),
                Err(_) => break,
            };
            harmless |= answer & ((1 << SHIFT) - 1);
            // The one that was being made killed the child. Where the child ended before it reported one, it was the
            // first.
            next = first.max((answer >> SHIFT) as usize) + 1;
        }
        Ok(OptionalCalls(harmless))
    }
}
