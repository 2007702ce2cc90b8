//! The attributes that the calling thread has of its own: each is read by one or two system calls. Every `unsafe` block
//! here passes the kernel numbers, or a pointer to a local that outlives the call.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::libc::{self, c_int, c_long, c_uint, c_ulong};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::{Optional, Tid};

/// The mode of `PR_GET_SECCOMP(2const)` without a filter.
pub(crate) const SECCOMP_MODE_DISABLED: c_int = 0;

/// `linux/prctl.h`: `libc` lacks it for aarch64.
const PR_GET_SPECULATION_CTRL: c_int = 52;

/// The seccomp mode of the calling thread. `EINVAL` where the kernel has no seccomp.
pub(crate) fn seccomp_mode() -> nix::Result<c_int> {
    prctl(libc::PR_GET_SECCOMP, [0; 4])
}

/// Whether the calling thread has seccomp filters. A filter may refuse the question itself.
pub(crate) fn is_filtered() -> bool {
    !matches!(seccomp_mode(), Ok(SECCOMP_MODE_DISABLED) | Err(Errno::EINVAL))
}

/// The position of the first occurrence of a text in another. The C library is fast in an unoptimised build too.
pub(super) fn position(text: &[u8], part: &[u8]) -> Option<usize> {
    // SAFETY: both are read in their lengths.
    let found = unsafe { libc::memmem(text.as_ptr().cast(), text.len(), part.as_ptr().cast(), part.len()) };
    (!found.is_null()).then(|| found.addr() - text.as_ptr().addr())
}

/// A `prctl(2)` that takes numbers alone.
pub(super) fn prctl(option: c_int, arguments: [c_ulong; 4]) -> nix::Result<c_int> {
    let [a, b, c, d] = arguments;
    // SAFETY: no option that is passed here and in `attributes` takes a pointer.
    Errno::result(unsafe { libc::prctl(option, a, b, c, d) })
}

/// The securebits (`PR_GET_SECUREBITS(2const)`).
pub(crate) fn securebits() -> nix::Result<c_int> {
    prctl(libc::PR_GET_SECUREBITS, [0; 4])
}

/// Whether the time stamp counter, and the instruction `cpuid`, can be read without a fault (`PR_GET_TSC(2const)`,
/// `arch_prctl(2)`). `ENOSYS` on other processors.
#[cfg(target_arch = "x86_64")]
pub(crate) fn faulting() -> [nix::Result<c_int>; 2] {
    /// Of `asm/prctl.h`; not in every `libc` crate.
    const ARCH_GET_CPUID: c_int = 0x1011;
    let mut counter: c_int = 0;
    // SAFETY: the kernel writes the number during the call.
    let read = Errno::result(unsafe { libc::prctl(libc::PR_GET_TSC, &raw mut counter) });
    let cpuid = by_numbers(libc::SYS_arch_prctl, [ARCH_GET_CPUID.into(), 0, 0, 0]);
    [read.map(|_| counter), cpuid.map(|allowed| c_int::from(allowed != 0))]
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn faulting() -> [nix::Result<c_int>; 2] {
    [Err(Errno::ENOSYS); 2]
}

/// The name of the calling thread (`PR_GET_NAME(2const)`): 16 bytes, of which the last is zero.
pub(crate) fn thread_name() -> nix::Result<[u64; 2]> {
    let mut name = [0_u64; 2];
    // SAFETY: the kernel writes 16 bytes.
    Errno::result(unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) }).map(|_| name)
}

/// Gives the calling thread a name that [`thread_name`] returned.
pub(crate) fn set_thread_name(name: [u64; 2]) -> nix::Result<()> {
    // SAFETY: the kernel reads at most 16 bytes, up to a zero.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) }).map(drop)
}

/// Whether a capability is in the bounding set (`PR_CAPBSET_READ(2const)`). `EINVAL` where the kernel does not know it.
pub(crate) fn is_in_bounding_set(capability: u8) -> nix::Result<bool> {
    prctl(libc::PR_CAPBSET_READ, [capability.into(), 0, 0, 0]).map(|found| found == 1)
}

/// How far the calling thread controls a speculation of the processor: 0 for store bypass, 1 for indirect branches
/// (`PR_GET_SPECULATION_CTRL(2const)`).
pub(crate) fn speculation(which: c_int) -> nix::Result<c_int> {
    prctl(PR_GET_SPECULATION_CTRL, [which.unsigned_abs().into(), 0, 0, 0])
}

/// The `no_new_privs` attribute (`PR_GET_NO_NEW_PRIVS(2const)`).
pub(crate) fn no_new_privs() -> nix::Result<c_int> {
    prctl(libc::PR_GET_NO_NEW_PRIVS, [0; 4])
}

/// The signal that the process gets when its parent dies (`PR_GET_PDEATHSIG(2const)`).
pub(crate) fn parent_death_signal() -> nix::Result<c_int> {
    let mut found: c_int = 0;
    // SAFETY: one `int` is written, which outlives the call.
    Errno::result(unsafe { libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut found) })?;
    Ok(found)
}

/// Sets the parent-death signal.
pub(crate) fn set_parent_death_signal(signal: u64) -> nix::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, [signal as c_ulong, 0, 0, 0]).map(drop)
}

/// A system call that takes numbers and touches no memory.
pub(super) fn by_numbers(number: c_long, arguments: [c_long; 4]) -> nix::Result<c_long> {
    let [a, b, c, d] = arguments;
    // SAFETY: the callers, here and in `attributes`, pass numbers, or null where a pointer may be null.
    Errno::result(unsafe { libc::syscall(number, a, b, c, d, 0, 0) })
}

/// Makes the calling process leave no core file when it is killed (`PR_SET_DUMPABLE(2const)`).
pub(crate) fn leave_no_core_file() {
    let _ = prctl(libc::PR_SET_DUMPABLE, [0; 4]);
}

/// Makes a call that may kill the process, in the way that the crate makes it. Its result is ignored.
pub(crate) fn try_optional(call: Optional) {
    // SAFETY: it takes nothing.
    let me = unsafe { libc::syscall(libc::SYS_getpid) };
    let _ = match call {
        Optional::Kcmp => super::raw::share(super::Resource::Fs, Tid::this(), Tid::this()).map(c_long::from),
        Optional::ListMount => super::raw::first_mount().map(|_| 0),
        // The descriptor is closed at once.
        Optional::PidfdOpen => super::raw::pidfd_of_thread(Tid::this()).map(|_| 0),
        Optional::Keyctl => keyring(Keyring::Session).map(c_long::from),
        Optional::GetMempolicy => memory_policy().map(c_long::from),
        Optional::IoprioGet => io_priority_of(Tid::from_raw(0)).map(c_long::from),
        Optional::Personality => personality().map(c_long::from),
        Optional::SchedGetattr => scheduling().map(|_| 0),
        Optional::IoUringEnter => has_used_io_uring().map(c_long::from),
        Optional::Tgkill => by_numbers(libc::SYS_tgkill, [me, me, 0, 0]),
        Optional::MemfdCreate => memory_file(c"in-netns-probe").map(|_| 0),
        // An affinity without a processor is refused.
        Optional::SchedSetaffinity => by_numbers(libc::SYS_sched_setaffinity, [0, 0, 0, 0]),
        // There is no such descriptor, and no such file handle.
        Optional::PidfdGetfd => by_numbers(libc::SYS_pidfd_getfd, [-1, 0, 0, 0]),
        Optional::NameToHandleAt => by_numbers(libc::SYS_name_to_handle_at, [-1, 0, 0, 0]),
        Optional::OpenByHandleAt => by_numbers(libc::SYS_open_by_handle_at, [-1, 0, 0, 0]),
    };
}

/// Real, effective and saved user ids (`getresuid(2)`).
pub(crate) fn user_ids() -> nix::Result<[u32; 3]> {
    let mut ids = [0_u32; 3];
    let [real, effective, saved] = &mut ids;
    // SAFETY: three numbers of ours are written.
    let result = unsafe { libc::getresuid(real, effective, saved) };
    Errno::result(result).map(|_| ids)
}

/// Real, effective and saved group ids (`getresgid(2)`).
pub(crate) fn group_ids() -> nix::Result<[u32; 3]> {
    let mut ids = [0_u32; 3];
    let [real, effective, saved] = &mut ids;
    // SAFETY: as above.
    let result = unsafe { libc::getresgid(real, effective, saved) };
    Errno::result(result).map(|_| ids)
}

/// The user and group id that are checked when the thread accesses files (`setfsuid(2)`: with an invalid id it only
/// returns the current one).
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // An id has 32 bits.
pub(crate) fn filesystem_ids() -> nix::Result<[u32; 2]> {
    let user = by_numbers(libc::SYS_setfsuid, [-1, 0, 0, 0])?;
    let group = by_numbers(libc::SYS_setfsgid, [-1, 0, 0, 0])?;
    Ok([user as u32, group as u32])
}

/// Writes the supplementary groups to `room` and returns how many there are (`getgroups(2)`). `EINVAL` where they do
/// not fit.
pub(crate) fn groups(room: &mut [u32]) -> nix::Result<usize> {
    let length = c_int::try_from(room.len()).unwrap_or(c_int::MAX);
    // SAFETY: the kernel writes at most as many ids as the length that is passed.
    let found = Errno::result(unsafe { libc::syscall(libc::SYS_getgroups, length, room.as_mut_ptr()) })?;
    Ok(usize::try_from(found).unwrap_or(0))
}

/// The signals that are pending for the calling thread alone, a bit each (`SigPnd` of `proc_pid_status(5)`). The
/// cheaper `rt_sigpending(2)` includes those for the whole process, so the file is read only if that call returns any.
pub(crate) fn pending_signals() -> nix::Result<u64> {
    let mut pending = 0_u64;
    // SAFETY: the set is written to a word of ours, of the size that is passed.
    Errno::result(unsafe { libc::syscall(libc::SYS_rt_sigpending, &raw mut pending, size_of::<u64>()) })?;
    if pending == 0 {
        return Ok(0);
    }
    let status = super::text_of("/proc/thread-self/status").unwrap_or_default();
    let of_thread = super::value_of(&status, "SigPnd").and_then(|set| u64::from_str_radix(set, 16).ok());
    // Without `/proc` all of them may be for the thread.
    Ok(of_thread.unwrap_or(pending))
}

/// The signals that the calling thread blocks (`rt_sigprocmask(2)`), a bit each, the first signal lowest.
pub(crate) fn signal_mask() -> nix::Result<u64> {
    let mut mask = 0_u64;
    let none: *const u64 = std::ptr::null();
    // SAFETY: no new mask is read, and the old one is written to a word of ours, of the size that is passed.
    let result =
        unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, none, &raw mut mask, size_of::<u64>()) };
    Errno::result(result).map(|_| mask)
}

/// Sets the signals that the calling thread blocks.
pub(crate) fn set_signal_mask(mask: u64) -> nix::Result<()> {
    let none: *mut u64 = std::ptr::null_mut();
    // SAFETY: the new mask is read from a local, of the size that is passed; the old one is not asked for.
    let result =
        unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, none, size_of::<u64>()) };
    Errno::result(result).map(drop)
}

/// The ambient capability set. Only the capabilities in `within` are asked for: the ambient set is a subset of the
/// inheritable one.
pub(crate) fn ambient_capabilities(within: u64) -> u64 {
    let is_set = |capability: &u8| {
        let asked = [libc::PR_CAP_AMBIENT.into(), libc::PR_CAP_AMBIENT_IS_SET.into(), (*capability).into(), 0];
        by_numbers(libc::SYS_prctl, asked) == Ok(1)
    };
    let possible = (0..64).filter(|capability| within & 1 << capability != 0);
    possible.filter(is_set).fold(0, |set, capability| set | 1 << capability)
}

/// The execution domain (`personality(2)`).
pub(crate) fn personality() -> nix::Result<i32> {
    // The same 32 bits on every architecture: filters allow this number.
    #[allow(clippy::cast_lossless, clippy::cast_possible_wrap)]
    let question = u32::MAX as c_long;
    let found = by_numbers(libc::SYS_personality, [question, 0, 0, 0])?;
    #[allow(clippy::cast_possible_truncation)] // The kernel's own is an `int`.
    let personality = found as i32;
    Ok(personality)
}

/// The mode of the calling thread's memory policy, 0 for the default (`get_mempolicy(2)`).
pub(crate) fn memory_policy() -> nix::Result<c_int> {
    let mut mode: c_int = 0;
    let none: *mut c_ulong = std::ptr::null_mut();
    // SAFETY: one `int` of ours is written, and no set of nodes is asked for.
    let result =
        unsafe { libc::syscall(libc::SYS_get_mempolicy, &raw mut mode, none, 0 as c_ulong, none, 0 as c_ulong) };
    Errno::result(result).map(|_| mode)
}

/// `IOPRIO_WHO_PROCESS` of `ioprio_set(2)`, which means a thread.
pub(super) const IOPRIO_ONE_THREAD: c_long = 1;

/// The I/O priority of a thread (`ioprio_get(2)`); 0 stands for the calling one.
pub(crate) fn io_priority_of(thread: Tid) -> nix::Result<i32> {
    let found = by_numbers(libc::SYS_ioprio_get, [IOPRIO_ONE_THREAD, thread.as_raw().into(), 0, 0])?;
    Ok(i32::try_from(found).unwrap_or(-1))
}

/// The words of `struct sched_attr` (`sched_getattr(2)`): policy and flags, nice value and priority, deadlines,
/// utilization clamps.
pub(crate) fn scheduling() -> nix::Result<[u64; 7]> {
    let mut attributes = [0_u64; 7];
    // SAFETY: the kernel writes at most as many bytes as the size that is passed.
    let result = unsafe {
        libc::syscall(libc::SYS_sched_getattr, 0, attributes.as_mut_ptr(), size_of_val(&attributes), 0 as c_uint)
    };
    Errno::result(result).map(|_| attributes)
}

/// How many processors are online.
pub(crate) fn online_cpus() -> Option<usize> {
    // SAFETY: it takes a number.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }).ok()
}

/// The processors that the calling thread may run on (`sched_getaffinity(2)`), of the first 1024.
pub(crate) fn affinity() -> nix::Result<[u64; 16]> {
    let mut mask = [0_u64; 16];
    // SAFETY: the kernel writes at most as many bytes as the size that is passed.
    let result = unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, size_of_val(&mask), mask.as_mut_ptr()) };
    Errno::result(result).map(|_| mask)
}

/// A keyring that a thread has for itself (`keyrings(7)`).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keyring {
    /// `KEY_SPEC_THREAD_KEYRING`
    Thread = -1,
    /// `KEY_SPEC_PROCESS_KEYRING`: each thread has a reference of its own.
    Process = -2,
    /// `KEY_SPEC_SESSION_KEYRING`
    Session = -3,
}

/// The serial number of a keyring of the calling thread (`KEYCTL_GET_KEYRING_ID`). `ENOKEY` where there is none: it is
/// not created.
pub(crate) fn keyring(which: Keyring) -> nix::Result<i32> {
    const GET_KEYRING_ID: c_long = 0;
    let found = by_numbers(libc::SYS_keyctl, [GET_KEYRING_ID, which as c_long, 0, 0])?;
    Ok(i32::try_from(found).unwrap_or(-1))
}

/// The keyring to which keys that the calling thread requests are added (`KEYCTL_SET_REQKEY_KEYRING`, which changes
/// nothing for −1).
pub(crate) fn requested_keys() -> nix::Result<i32> {
    const SET_REQKEY_KEYRING: c_long = 14;
    let found = by_numbers(libc::SYS_keyctl, [SET_REQKEY_KEYRING, -1, 0, 0])?;
    Ok(i32::try_from(found).unwrap_or(-1))
}

/// Whether the calling thread has ever made or used a ring of `io_uring(7)`: the kernel then keeps a context for it,
/// and may have started threads for it.
///
/// It asks with the number of a registered ring that cannot exist: `EBADF` where the thread has a context, `EINVAL`
/// where it has none. Before Linux 5.18 the answer is always no. `EPERM` or `ENOSYS` where a filter refuses the call.
pub(crate) fn has_used_io_uring() -> nix::Result<bool> {
    const REGISTERED_RING: c_long = 1 << 4;
    // Even if the ring existed, no work would be submitted and none waited for.
    match by_numbers(libc::SYS_io_uring_enter, [0, 0, 0, REGISTERED_RING]) {
        Err(Errno::EINVAL) => Ok(false),
        Err(errno @ (Errno::EPERM | Errno::ENOSYS)) => Err(errno),
        _ => Ok(true),
    }
}

/// The alternate signal stack of the calling thread (`sigaltstack(2)`): address, flags and size.
pub(crate) fn signal_stack() -> nix::Result<[u64; 3]> {
    let mut stack = std::mem::MaybeUninit::<libc::stack_t>::zeroed();
    // SAFETY: nothing is set, and one description of ours is written.
    Errno::result(unsafe { libc::sigaltstack(std::ptr::null(), stack.as_mut_ptr()) })?;
    // SAFETY: zeroes are a description, and the kernel has written the real one.
    let stack = unsafe { stack.assume_init() };
    // Whether the thread runs on it at the moment is not an attribute of the stack.
    let flags = stack.ss_flags & !libc::SS_ONSTACK;
    Ok([stack.ss_sp.expose_provenance() as u64, u64::from(flags.unsigned_abs()), stack.ss_size as u64])
}

/// Whether a thread of this process exists. Unlike `/proc` it needs no filesystem.
pub(crate) fn is_thread(thread: Tid) -> bool {
    // SAFETY: it takes nothing.
    let process = unsafe { libc::syscall(libc::SYS_getpid) };
    by_numbers(libc::SYS_tgkill, [process, thread.as_raw().into(), 0, 0]) != Err(Errno::ESRCH)
}

/// A file in memory (`memfd_create(2)`), close-on-exec. No other has its inode number.
pub(crate) fn memory_file(name: &std::ffi::CStr) -> nix::Result<OwnedFd> {
    memfd_create(name, MFdFlags::MFD_CLOEXEC)
}

/// The control words of the calling thread's floating-point unit: rounding, exceptions, denormal numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FloatControl {
    words: [u64; 2],
}

impl FloatControl {
    /// Reads MXCSR and the x87 control word. The status flags of MXCSR are left out: every rounded result sets them.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn of_current() -> FloatControl {
        /// The six exception flags of MXCSR.
        const FLAGS: u32 = 0x3f;
        let (mut vector, mut legacy) = (0_u32, 0_u16);
        // SAFETY: both instructions store a word of ours, and nothing else.
        unsafe {
            std::arch::asm!(
                "stmxcsr [{vector}]", "fnstcw [{legacy}]",
                vector = in(reg) &raw mut vector, legacy = in(reg) &raw mut legacy, options(nostack)
            );
        }
        FloatControl { words: [(vector & !FLAGS).into(), legacy.into()] }
    }

    /// Sets the control words of the calling thread to these.
    #[cfg(target_arch = "x86_64")]
    #[allow(clippy::cast_possible_truncation)] // Each came from a word of that size.
    pub(crate) fn set(self) {
        let (vector, legacy) = (self.words[0] as u32, self.words[1] as u16);
        // SAFETY: both words were read from these registers on this thread, so that they are valid.
        unsafe {
            std::arch::asm!(
                "ldmxcsr [{vector}]", "fldcw [{legacy}]",
                vector = in(reg) &raw const vector, legacy = in(reg) &raw const legacy, options(nostack)
            );
        }
    }

    /// Reads FPCR.
    #[cfg(target_arch = "aarch64")]
    pub(crate) fn of_current() -> FloatControl {
        let word: u64;
        // SAFETY: it reads a register.
        unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) word, options(nomem, nostack, preserves_flags)) };
        FloatControl { words: [word, 0] }
    }

    /// Sets FPCR of the calling thread.
    #[cfg(target_arch = "aarch64")]
    pub(crate) fn set(self) {
        // SAFETY: the word was read from this register on this thread.
        unsafe { std::arch::asm!("msr fpcr, {}", in(reg) self.words[0], options(nomem, nostack)) };
    }

    /// On other architectures they are not compared.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub(crate) fn of_current() -> FloatControl {
        FloatControl { words: [0; 2] }
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub(crate) fn set(self) {}
}
