//! The attributes that each thread has of its own and that the threads it starts inherit: functions that read and set
//! them. Every `unsafe` block here passes the kernel numbers, or a pointer to a local that outlives the call.

use std::mem::{self, MaybeUninit};
use std::ptr;

use nix::errno::Errno;
use nix::libc::{self, c_int, c_uint, c_ulong};

use super::Tid;
use super::readings::{IOPRIO_ONE_THREAD, by_numbers, prctl};

/// Makes the calling thread block exactly these signals: bit 0 stands for signal 1. Those that the C library reserves
/// stay as they are.
pub(crate) fn set_signal_mask(blocked: u64) -> nix::Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: it empties a set of ours.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in (1..=64).filter(|signal| blocked >> (signal - 1) & 1 == 1) {
        // SAFETY: it changes a set of ours. The library refuses its own signals, and they are not ours to block.
        unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    }
    // SAFETY: the set is read during the call.
    let result = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, set.as_ptr(), ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(Errno::from_raw(result)) }
}

/// How a thread is scheduled: `struct sched_attr` of `sched_setattr(2)`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scheduling {
    size: u32,
    pub(crate) policy: u32,
    flags: u64,
    pub(crate) nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    clamp_min: u32,
    clamp_max: u32,
}

/// `SCHED_FLAG_RESET_ON_FORK`, `SCHED_FLAG_UTIL_CLAMP_MIN` and `_MAX` of `linux/sched.h`.
const RESET_ON_FORK: u64 = 0x1;
const CLAMP: u64 = 0x20 | 0x40;

/// `SCHED_NORMAL`, `SCHED_FIFO`, `SCHED_RR` and `SCHED_DEADLINE` of `linux/sched.h`.
const NORMAL: u32 = 0;
const FIFO: u32 = 1;
const ROUND_ROBIN: u32 = 2;
const DEADLINE: u32 = 6;

impl Scheduling {
    /// Of a thread of this process; 0 for the calling one.
    pub(crate) fn of(thread: Tid) -> nix::Result<Scheduling> {
        let mut found = Scheduling::default();
        let size = mem::size_of::<Scheduling>();
        // SAFETY: the kernel writes at most `size` bytes.
        let result = unsafe { libc::syscall(libc::SYS_sched_getattr, thread.as_raw(), &raw mut found, size, 0) };
        Errno::result(result).map(|_| found)
    }

    /// Whether a thread is scheduled before all threads of the ordinary policies.
    pub(crate) fn is_real_time(self) -> bool {
        matches!(self.policy, FIFO | ROUND_ROBIN | DEADLINE)
    }

    /// Whether a thread with these attributes can start threads and processes (`sched(7)`).
    pub(crate) fn can_start_threads(self) -> bool {
        self.policy != DEADLINE || self.flags & RESET_ON_FORK != 0
    }

    /// The attributes of a thread that a thread with these attributes starts (`sched(7)`, the reset-on-fork flag).
    /// A deadline thread without that flag can start none; the attributes of an ordinary thread are returned for it.
    pub(crate) fn inherited(self) -> Scheduling {
        let resets = self.flags & RESET_ON_FORK != 0;
        let real_time = matches!(self.policy, FIFO | ROUND_ROBIN);
        let mut child = Scheduling { flags: self.flags & !RESET_ON_FORK, ..self };
        if self.policy == DEADLINE || (resets && real_time) {
            child = Scheduling { policy: NORMAL, nice: 0, priority: 0, ..child };
        } else if resets {
            child.nice = child.nice.max(0);
        }
        // Of an ordinary policy, `runtime` is the time slice, which a thread can choose since Linux 6.12.
        let slice = if resets || child.is_real_time() || self.policy == DEADLINE { 0 } else { child.runtime };
        Scheduling { runtime: slice, deadline: 0, period: 0, ..child }
    }

    /// Whether two threads are scheduled alike.
    pub(crate) fn is_like(self, other: Scheduling) -> bool {
        let of = |Scheduling { policy, nice, priority, runtime, clamp_min, clamp_max, .. }: Scheduling| {
            (policy, nice, priority, runtime, clamp_min, clamp_max)
        };
        of(self) == of(other)
    }

    /// Gives the calling thread these attributes.
    pub(crate) fn apply(self) -> nix::Result<()> {
        let mine = Scheduling::of(Tid::from_raw(0))?;
        let clamped = (mine.clamp_min, mine.clamp_max) != (self.clamp_min, self.clamp_max);
        let wanted = Scheduling { flags: if clamped { CLAMP } else { 0 }, ..self };
        // SAFETY: the kernel reads the attributes by their own size field.
        let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wanted, 0) };
        Errno::result(result).map(drop)
    }
}

/// The processors that a thread may run on, and how much of the buffer the kernel filled (`sched_setaffinity(2)`).
type Affinity = ([c_ulong; 128], usize);

fn affinity_of(thread: Tid) -> nix::Result<Affinity> {
    let mut mask = [0; 128];
    let size = mem::size_of_val(&mask);
    // SAFETY: the kernel writes at most `size` bytes, and says how many.
    let result = unsafe { libc::syscall(libc::SYS_sched_getaffinity, thread.as_raw(), size, mask.as_mut_ptr()) };
    let written = usize::try_from(Errno::result(result)?).unwrap_or(0);
    Ok((mask, written))
}

/// Gives the calling thread the processor affinity that another thread of the process has.
pub(crate) fn copy_affinity_from(thread: Tid) -> nix::Result<()> {
    let wanted = affinity_of(thread)?;
    if affinity_of(Tid::from_raw(0))? == wanted {
        return Ok(());
    }
    let (mask, size) = wanted;
    // SAFETY: the kernel reads `size` bytes, which it has written before.
    let result = unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size, mask.as_ptr()) };
    Errno::result(result).map(drop)
}

/// Sets the calling thread's I/O priority.
pub(crate) fn set_io_priority(priority: i32) -> nix::Result<()> {
    by_numbers(libc::SYS_ioprio_set, [IOPRIO_ONE_THREAD, 0, priority.into(), 0]).map(drop)
}

/// Sets the calling thread's execution domain (`personality(2)`).
pub(crate) fn set_personality(persona: u32) -> nix::Result<()> {
    // SAFETY: personality takes a number.
    Errno::result(unsafe { libc::personality(persona.into()) }).map(drop)
}

/// Gives the calling thread the default memory policy.
pub(crate) fn reset_memory_policy() -> nix::Result<()> {
    // The default policy takes no nodes.
    by_numbers(libc::SYS_set_mempolicy, [0; 4]).map(drop)
}

/// When the calling thread is killed for a memory error (`PR_MCE_KILL(2const)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MachineCheck {
    Default,
    Early,
    Late,
}

pub(crate) fn set_machine_check(policy: MachineCheck) -> nix::Result<()> {
    let arguments = match policy {
        MachineCheck::Default => [libc::PR_MCE_KILL_CLEAR, 0],
        MachineCheck::Early => [libc::PR_MCE_KILL_SET, libc::PR_MCE_KILL_EARLY],
        MachineCheck::Late => [libc::PR_MCE_KILL_SET, libc::PR_MCE_KILL_LATE],
    };
    let [what, how] = arguments.map(|number| c_ulong::from(number.unsigned_abs()));
    prctl(libc::PR_MCE_KILL, [what, how, 0, 0]).map(drop)
}

/// Whether the calling thread takes part in writing memory out (`PR_SET_IO_FLUSHER(2const)`).
pub(crate) fn set_io_flusher(flushes: bool) -> nix::Result<()> {
    /// Of `linux/prctl.h`; not in every `libc` crate.
    const PR_SET_IO_FLUSHER: c_int = 57;
    prctl(PR_SET_IO_FLUSHER, [c_ulong::from(flushes), 0, 0, 0]).map(drop)
}

/// `linux/prctl.h`: `libc` lacks these for aarch64.
const PR_SET_SPECULATION_CTRL: c_int = 53;
const PR_SPEC_ENABLE: c_ulong = 1 << 1;
const PR_SPEC_DISABLE: c_ulong = 1 << 2;

/// A speculation feature of the processor that a thread can disable for itself (`PR_SET_SPECULATION_CTRL(2const)`).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Speculation {
    StoreBypass = 0,
    IndirectBranch = 1,
}

/// Enables or disables a speculation feature for the calling thread.
pub(crate) fn allow_speculation(what: Speculation, allowed: bool) -> nix::Result<()> {
    let how = if allowed { PR_SPEC_ENABLE } else { PR_SPEC_DISABLE };
    prctl(PR_SET_SPECULATION_CTRL, [what as c_ulong, how, 0, 0]).map(drop)
}

/// The core scheduling cookie of a thread, 0 for none (`PR_SCHED_CORE(2const)`). An error where the kernel has no core
/// scheduling.
pub(crate) fn core_cookie_of(thread: Tid) -> nix::Result<u64> {
    let mut cookie: u64 = 0;
    // SAFETY: the kernel writes one number, of 8 bytes.
    let result = unsafe {
        libc::prctl(libc::PR_SCHED_CORE, libc::PR_SCHED_CORE_GET, thread.as_raw(), 0 as c_uint, &raw mut cookie)
    };
    Errno::result(result).map(|_| cookie)
}

/// Gives the calling thread the cookie that another one has.
pub(crate) fn copy_core_cookie_from(thread: Tid) -> nix::Result<()> {
    let [what, thread] = [libc::PR_SCHED_CORE_SHARE_FROM, thread.as_raw()].map(|number| number.unsigned_abs().into());
    prctl(libc::PR_SCHED_CORE, [what, thread, 0, 0]).map(drop)
}

/// Makes one capability ambient or not, for the calling thread (`PR_CAP_AMBIENT(2const)`).
pub(crate) fn set_ambient(capability: u8, raised: bool) -> nix::Result<()> {
    let how = if raised { libc::PR_CAP_AMBIENT_RAISE } else { libc::PR_CAP_AMBIENT_LOWER };
    prctl(libc::PR_CAP_AMBIENT, [c_ulong::from(how.unsigned_abs()), capability.into(), 0, 0]).map(drop)
}

/// Sets the calling thread's ids for file access (`setfsuid(2)`). The calls report no failure: read the ids again.
pub(crate) fn set_filesystem_ids(user: u32, group: u32) {
    // SAFETY: it takes a number.
    unsafe { libc::setfsuid(user) };
    // SAFETY: as above.
    unsafe { libc::setfsgid(group) };
}

/// Gives the calling thread the default floating-point environment (`fenv(3)`), which Rust takes for granted.
#[cfg(all(
    any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64"),
    any(target_env = "gnu", target_env = "musl")
))]
pub(crate) fn reset_floating_point() {
    #[link(name = "m")]
    unsafe extern "C" {
        fn fesetenv(environment: *const libc::c_void) -> c_int;
    }
    /// `FE_DFL_ENV` of `fenv.h`, the same in both C libraries on these architectures.
    const DEFAULT: *const libc::c_void = ptr::without_provenance(usize::MAX);
    // SAFETY: this pointer is a constant that the function knows, and does not read through.
    unsafe { fesetenv(DEFAULT) };
}

/// Does nothing on other targets: the environment stays as it is.
#[cfg(not(all(
    any(target_arch = "x86_64", target_arch = "x86", target_arch = "aarch64"),
    any(target_env = "gnu", target_env = "musl")
)))]
pub(crate) fn reset_floating_point() {}
