//! The signals that the main thread blocks, whatever it is doing at this instant.
//!
//! **Why not one look at `SigBlk`:** for moments the main thread is not itself. The C library blocks all signals while
//! it starts a thread or a child; `sigwait(3)` shows the signals that it waits for as not blocked; `ppoll(2)`,
//! `pselect(2)`, `epoll_pwait(2)` and `sigsuspend(2)` put another mask in place while they sleep; `system(3)` blocks
//! `SIGCHLD` while its child runs.
//!
//! **What counts as evidence:** a thread that sleeps in a system call that leaves the mask alone. One that is awake is
//! looked at again and again, and blocks what it blocked each time: what happens for moments only adds. What cannot be
//! seen (a mask that the kernel has put aside, or all signals blocked each time) is taken from the other threads, which
//! inherited it: the signals that all of them block.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::libc::{self, c_long};

use crate::sys::{self, ProcTask};

/// How often the main thread is looked at, and how long to wait in between: 10 ms in all.
const LOOKS: u32 = 100;
const PAUSE: Duration = Duration::from_micros(100);
/// How many looks at a thread that is awake tell its mask.
const ENOUGH: u32 = 20;

/// Signals 1 to 64, as `SigBlk` has them: bit 0 stands for signal 1.
type Mask = u64;

const SIGCHLD: Mask = 1 << (libc::SIGCHLD - 1);

/// What the calling thread blocks. `None` where `/proc` does not tell.
fn mine() -> nix::Result<Option<Mask>> {
    let status = sys::unless_short(sys::text_of(ProcTask::Current.proc_path().join("status")))?;
    Ok(status.and_then(|status| blocked_in(&status)))
}

/// What the main thread blocks when it is itself. `others` are the threads to go by where it cannot be seen; `own` is
/// the calling thread's mask, as inherited from the first caller.
fn of_leader(own: Mask, others: impl FnOnce() -> nix::Result<Vec<u32>>) -> nix::Result<Mask> {
    let leader = ProcTask::Leader.proc_path();
    let mut always = Mask::MAX;
    let mut awake = 0;
    for look in 0..LOOKS {
        match Look::at(leader) {
            Look::AtRest(mask) => return Ok(mask),
            // Perhaps in `system(3)`, which blocks `SIGCHLD`: the caller's mask decides.
            Look::WaitsForChild(mask) => return Ok(mask & !SIGCHLD | own & SIGCHLD),
            // It may stay there forever.
            Look::Replaced if look > 0 => break,
            Look::Awake(mask) => {
                always &= mask;
                awake += 1;
                if awake >= ENOUGH && !is_momentary(always) {
                    return Ok(always);
                }
            }
            Look::Replaced | Look::Unclear => {}
        }
        thread::sleep(PAUSE);
    }
    if awake > 0 && !is_momentary(always) {
        return Ok(always);
    }
    Ok(others()?.into_iter().filter_map(of_other).fold(own, |all, mask| all & mask))
}

/// Another thread's mask, where it can be seen.
fn of_other(thread: u32) -> Option<Mask> {
    match Look::at(&sys::directory_of_task(thread)) {
        Look::AtRest(mask) | Look::WaitsForChild(mask) => Some(mask),
        Look::Awake(_) | Look::Replaced | Look::Unclear => None,
    }
}

/// Whether this is what the C library blocks for a moment: all signals, or all but its own two.
fn is_momentary(mask: Mask) -> bool {
    let own: Mask = 1 << 31 | 1 << 32;
    mask | own | UNBLOCKABLE == Mask::MAX
}

fn blocked(thread: &Path) -> Option<Mask> {
    blocked_in(&sys::text_of(thread.join("status")).ok()?)
}

/// The mask in the text of a `status` file.
fn blocked_in(status: &str) -> Option<Mask> {
    Mask::from_str_radix(sys::value_of(status, "SigBlk")?, 16).ok()
}

/// What one look at a thread tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// It sleeps, and this is its mask.
    AtRest(Mask),
    /// It sleeps in `wait4(2)` or `waitid(2)`, and this is its mask, perhaps but for `SIGCHLD`.
    WaitsForChild(Mask),
    /// It is awake, or in a system call that does not sleep for long: this is its mask, or more.
    Awake(Mask),
    /// It sleeps in a system call that has put its mask aside.
    Replaced,
    /// It cannot be determined.
    Unclear,
}

impl Look {
    fn at(thread: &Path) -> Look {
        let before = SystemCall::of(thread);
        let Some(mask) = blocked(thread) else { return Look::Unclear };
        let after = SystemCall::of(thread);
        match (before, after) {
            (Ok(before), Ok(after)) if before == after => after.look(mask),
            // A process whose files in /proc belong to root (it changed its ids), or a kernel without the file.
            (Err(_), Err(_)) => Look::without_system_call(thread, mask),
            _ => Look::Awake(mask),
        }
    }

    /// By its state and by how often it has slept.
    fn without_system_call(thread: &Path, mask: Mask) -> Look {
        let state = || {
            let status = sys::text_of(thread.join("status")).ok()?;
            let value = |name| sys::value_of(&status, name).map(str::to_owned);
            Some((value("State")?, value("SigBlk")?, value("voluntary_ctxt_switches")?))
        };
        match (state(), state()) {
            (Some(one), Some(other)) if one == other && one.0.starts_with('S') => {
                if is_momentary(mask) {
                    Look::Awake(mask)
                } else {
                    Look::AtRest(mask)
                }
            }
            (Some(_), Some(_)) => Look::Awake(mask),
            _ => Look::Unclear,
        }
    }
}

/// Where a thread sleeps: `/proc/self/task/TID/syscall` of `proc_pid_syscall(5)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SystemCall {
    /// It is awake.
    None,
    In {
        number: c_long,
        arguments: [u64; 6],
        stack: u64,
    },
}

impl SystemCall {
    fn of(thread: &Path) -> io::Result<SystemCall> {
        let line = fs::read_to_string(thread.join("syscall"))?;
        let mut words = line.split_ascii_whitespace();
        let number = words.next().and_then(|number| number.parse().ok());
        let mut next = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
        let found = number.and_then(|number| {
            let arguments = [next()?, next()?, next()?, next()?, next()?, next()?];
            Some(SystemCall::In { number, arguments, stack: next()? })
        });
        Ok(found.unwrap_or(SystemCall::None))
    }

    /// What a thread's mask tells that sleeps here.
    fn look(self, mask: Mask) -> Look {
        let SystemCall::In { number, arguments, .. } = self else { return Look::Awake(mask) };
        let unless = |replaced: bool| if replaced { Look::Replaced } else { Look::AtRest(mask) };
        match number {
            libc::SYS_rt_sigtimedwait => match word_at(arguments[0]) {
                // The signals that are waited for are blocked by rights, and let in for now.
                Some(waited) => Look::AtRest(mask | waited & !UNBLOCKABLE),
                None => Look::Unclear,
            },
            libc::SYS_rt_sigsuspend => Look::Replaced,
            libc::SYS_ppoll => unless(arguments[3] != 0),
            libc::SYS_epoll_pwait | libc::SYS_epoll_pwait2 | libc::SYS_io_uring_enter => unless(arguments[4] != 0),
            // A pointer to a pointer.
            libc::SYS_pselect6 => unless(arguments[5] != 0 && word_at(arguments[5]) != Some(0)),
            libc::SYS_wait4 | libc::SYS_waitid => Look::WaitsForChild(mask),
            libc::SYS_clone | libc::SYS_clone3 => Look::Awake(mask),
            number if is_fork(number) => Look::Awake(mask),
            _ => Look::AtRest(mask),
        }
    }
}

const UNBLOCKABLE: Mask = 1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1);

#[cfg(any(target_arch = "x86_64", target_arch = "x86", target_arch = "arm"))]
fn is_fork(number: c_long) -> bool {
    matches!(number, libc::SYS_fork | libc::SYS_vfork)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "x86", target_arch = "arm")))]
fn is_fork(_: c_long) -> bool {
    false
}

/// Eight bytes of this process's memory, through the kernel: the thread that put them there may be on its way.
fn word_at(address: u64) -> Option<u64> {
    let mut word = [0; 8];
    File::open("/proc/self/mem").and_then(|memory| memory.read_exact_at(&mut word, address)).ok()?;
    Some(u64::from_ne_bytes(word))
}

/// Gives the calling thread, which is the template, the main thread's signal mask.
pub(super) fn align_with_leader(others: impl FnOnce() -> nix::Result<Vec<u32>>) -> nix::Result<()> {
    let Some(own) = mine()? else { return Ok(()) };
    let wanted = of_leader(own, others)?;
    if wanted == own { Ok(()) } else { sys::attributes::set_signal_mask(wanted) }
}
