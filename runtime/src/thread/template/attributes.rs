//! Sets each attribute that the template inherited from the first caller to that of the main thread, or refuses the
//! call.
//!
//! The table is in [`inheritance`](crate::inheritance). An attribute that restricts its thread for good (a seccomp
//! filter, `no_new_privs`, a smaller bounding set) is refused if the caller has it and the main thread does not: no
//! thread can remove it.

use std::fs;

use super::{DESCRIPTORS, FILES, caller_has, has_files_unlike, not_shared};
use crate::error::Error;
use crate::sys::attributes::{self, MachineCheck, Scheduling, Speculation};
use crate::sys::readings;
use crate::sys::{self, Capabilities, Optional, OptionalCalls, ProcTask, Tid};

/// Gives the calling thread, which is the template, the attributes of the main thread.
pub(super) fn align_with(leader: Tid) -> Result<(), Error> {
    let mine = Status::of(ProcTask::Current)?;
    let leaders = Status::of(ProcTask::Leader)?;
    let calls = OptionalCalls::of_current_thread();
    namespaces_for_children()?;
    ids(&mine, &leaders)?;
    capabilities(leader)?;
    capability_bounds(&mine, &leaders)?;
    restrictions(&mine, &leaders)?;
    scheduling(leader, calls)?;
    task_flags()?;
    speculation(&mine, &leaders)?;
    personality()?;
    memory_policy(calls)?;
    timer_slack()?;
    accounting()?;
    security_modules()
}

/// The text of a file of a thread in `/proc`. `None` where it cannot be read.
fn text(thread: ProcTask, file: &str) -> Result<Option<String>, Error> {
    let path = thread.proc_path().join(file);
    sys::unless_short(sys::text_of(&path))
        .map_err(|errno| Error::from_errno(format!("start the template thread: read {}", path.display()), errno))
}

/// The lines of a thread's `status` file (`proc_pid_status(5)`). Empty where there is no `/proc`.
struct Status(String);

impl Status {
    fn of(thread: ProcTask) -> Result<Status, Error> {
        Ok(Status(text(thread, "status")?.unwrap_or_default()))
    }

    fn line(&self, name: &str) -> Option<&str> {
        sys::value_of(&self.0, name)
    }

    fn set(&self, name: &str) -> Option<u64> {
        u64::from_str_radix(self.line(name)?, 16).ok()
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.line(name)?.parse().ok()
    }
}

/// Checks the resources that threads share by default, and that a thread can stop sharing.
pub(super) fn compare_shared_resources(leader: Tid) -> Result<(), Error> {
    if has_files_unlike(leader, ProcTask::Leader.proc_path()) {
        return Err(not_shared(FILES));
    }
    if sys::descriptor_table::is_shared_with(leader) == Ok(false) {
        return Err(not_shared(DESCRIPTORS));
    }
    Ok(())
}

/// Checks the time namespace for children (`time_namespaces(7)`): a thread that has unshared it cannot return to it.
fn namespaces_for_children() -> Result<(), Error> {
    let of = |thread: ProcTask| fs::read_link(thread.proc_path().join("ns/time_for_children")).ok();
    if of(ProcTask::Current) != of(ProcTask::Leader) {
        return Err(caller_has("a time namespace of its own for children (unshare(2) with CLONE_NEWTIME)"));
    }
    Ok(())
}

/// Checks the user and group ids: the C library changes them for all threads, a raw system call for one thread only.
fn ids(mine: &Status, leaders: &Status) -> Result<(), Error> {
    let without_filesystem_id = |ids: &str| ids.rsplit_once(char::is_whitespace).map(|(ids, _)| ids.to_owned());
    for name in ["Uid", "Gid"] {
        let (Some(mine), Some(leaders)) = (mine.line(name), leaders.line(name)) else { continue };
        if without_filesystem_id(mine) != without_filesystem_id(leaders) {
            return Err(caller_has("user or group ids of its own (a raw setresuid(2) or the like)"));
        }
    }
    if mine.line("Groups") != leaders.line("Groups") {
        return Err(caller_has("supplementary groups of its own (a raw setgroups(2))"));
    }
    let filesystem_id =
        |status: &Status, name| -> Option<u32> { status.line(name)?.rsplit_once(char::is_whitespace)?.1.parse().ok() };
    let all = |status: &Status| Some((filesystem_id(status, "Uid")?, filesystem_id(status, "Gid")?));
    if let (Some(now), Some((user, group))) = (all(mine), all(leaders)) {
        if now != (user, group) {
            attributes::set_filesystem_ids(user, group);
            if all(&Status::of(ProcTask::Current)?) != Some((user, group)) {
                return Err(caller_has("ids of its own for file access (setfsuid(2))"));
            }
        }
    }
    Ok(())
}

/// Sets the capabilities to those that the main thread or the caller has. Each later call has an allowance of its own.
fn capabilities(leader: Tid) -> Result<(), Error> {
    let failed = |errno| Error::from_errno("compare the template thread's capabilities with the main thread's", errno);
    let mine = sys::capabilities_of(sys::current_tid()).map_err(failed)?;
    let leaders = sys::capabilities_of(leader).map_err(failed)?;
    let effective = leaders.effective | mine.effective;
    if effective & !mine.permitted != 0 {
        return Err(caller_has("given up capabilities that the main thread has"));
    }
    let wanted = Capabilities { effective, inheritable: leaders.inheritable, ..mine };
    if wanted != mine && sys::set_capabilities(wanted).is_err() {
        return Err(caller_has("an inheritable set of its own (capset(2))"));
    }
    Ok(())
}

/// The bounding and the ambient set.
fn capability_bounds(mine: &Status, leaders: &Status) -> Result<(), Error> {
    if let (Some(mine), Some(leaders)) = (mine.set("CapBnd"), leaders.set("CapBnd")) {
        if leaders & !mine != 0 {
            return Err(caller_has("dropped capabilities from its bounding set"));
        }
    }
    if let (Some(mine), Some(leaders)) = (mine.set("CapAmb"), leaders.set("CapAmb")) {
        for capability in (0..64).filter(|bit| (mine ^ leaders) >> bit & 1 == 1) {
            if attributes::set_ambient(capability, leaders >> capability & 1 == 1).is_err() {
                return Err(caller_has("ambient capabilities of its own"));
            }
        }
    }
    Ok(())
}

/// Checks the restrictions that a thread cannot remove. One that only the main thread has is ignored: it concerns that
/// thread alone.
fn restrictions(mine: &Status, leaders: &Status) -> Result<(), Error> {
    let more = |name| mine.number(name) > leaders.number(name);
    if more("NoNewPrivs") {
        return Err(caller_has("no_new_privs (PR_SET_NO_NEW_PRIVS)"));
    }
    if more("Seccomp") || more("Seccomp_filters") {
        return Err(caller_has("a seccomp filter that the main thread has not"));
    }
    Ok(())
}

fn scheduling(leader: Tid, calls: OptionalCalls) -> Result<(), Error> {
    sys::attributes::copy_affinity_from(leader)
        .map_err(|errno| Error::from_errno("start the template thread, with the main thread's CPU affinity", errno))?;
    let myself = Tid::from_raw(0);
    let scheduling_of = |thread| calls.has(Optional::SchedGetattr).then(|| Scheduling::of(thread).ok()).flatten();
    if let (Some(mine), Some(leaders)) = (scheduling_of(myself), scheduling_of(leader)) {
        let wanted = leaders.inherited();
        if !mine.is_like(wanted) && wanted.apply().is_err() {
            let what = format!(
                "a nice value of {} and scheduling policy {}, the main thread {} and {}, and CAP_SYS_NICE is missing \
                 to change that",
                mine.nice, mine.policy, wanted.nice, wanted.policy
            );
            return Err(caller_has(&what));
        }
    }
    let io_priority_of =
        |thread| calls.has(Optional::IoprioGet).then(|| readings::io_priority_of(thread).ok()).flatten();
    if let (Some(mine), Some(leaders)) = (io_priority_of(myself), io_priority_of(leader)) {
        if mine != leaders && attributes::set_io_priority(leaders).is_err() {
            return Err(caller_has("an I/O priority of its own (ioprio_set(2))"));
        }
    }
    if let (Ok(mine), Ok(leaders)) = (attributes::core_cookie_of(myself), attributes::core_cookie_of(leader)) {
        if mine != leaders && attributes::copy_core_cookie_from(leader).is_err() {
            return Err(caller_has("a core scheduling cookie of its own (PR_SCHED_CORE)"));
        }
    }
    Ok(())
}

/// Sets the attributes that the kernel keeps as task flags (`linux/sched.h`), which the file `stat` shows.
fn task_flags() -> Result<(), Error> {
    const MCE_PROCESS: u64 = 0x80;
    const MCE_EARLY: u64 = 0x0800_0000;
    const MACHINE_CHECK: u64 = MCE_PROCESS | MCE_EARLY;
    const IO_FLUSHER: u64 = 0x0008_0000 | 0x0010_0000;
    let flags = |stat: String| stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(6)?.parse::<u64>().ok();
    let of = |thread| text(thread, "stat").map(|stat| stat.and_then(flags));
    let (Some(mine), Some(leaders)) = (of(ProcTask::Current)?, of(ProcTask::Leader)?) else { return Ok(()) };
    let differs = |bits: u64| (mine ^ leaders) & bits != 0;
    if differs(MACHINE_CHECK) {
        let policy = match (leaders & MCE_PROCESS != 0, leaders & MCE_EARLY != 0) {
            (false, _) => MachineCheck::Default,
            (true, true) => MachineCheck::Early,
            (true, false) => MachineCheck::Late,
        };
        if attributes::set_machine_check(policy).is_err() {
            return Err(caller_has("a machine check policy of its own (PR_MCE_KILL)"));
        }
    }
    if differs(IO_FLUSHER) && attributes::set_io_flusher(leaders & IO_FLUSHER == IO_FLUSHER).is_err() {
        return Err(caller_has("the state of an I/O flusher (PR_SET_IO_FLUSHER)"));
    }
    Ok(())
}

fn speculation(mine: &Status, leaders: &Status) -> Result<(), Error> {
    let lines = [
        ("Speculation_Store_Bypass", Speculation::StoreBypass, "vulnerable"),
        ("SpeculationIndirectBranch", Speculation::IndirectBranch, "enabled"),
    ];
    for (name, what, allowed) in lines {
        if mine.line(name) == leaders.line(name) {
            continue;
        }
        let allowed = leaders.line(name).is_some_and(|line| line.contains(allowed));
        let set = attributes::allow_speculation(what, allowed);
        if set.is_err() || (allowed && Status::of(ProcTask::Current)?.line(name) != leaders.line(name)) {
            return Err(caller_has("given up speculation for good (PR_SET_SPECULATION_CTRL)"));
        }
    }
    Ok(())
}

fn personality() -> Result<(), Error> {
    let persona = |text: String| u32::from_str_radix(text.trim(), 16).ok();
    let of = |thread| text(thread, "personality").map(|text| text.and_then(persona));
    let (Some(mine), Some(leaders)) = (of(ProcTask::Current)?, of(ProcTask::Leader)?) else { return Ok(()) };
    if mine != leaders && attributes::set_personality(leaders).is_err() {
        return Err(caller_has("an execution domain of its own (personality(2))"));
    }
    Ok(())
}

/// Sets the memory policy. The kernel shows that of another thread only in the list of mappings, for each mapping that
/// has none of its own.
fn memory_policy(calls: OptionalCalls) -> Result<(), Error> {
    let policy = |mappings: String| mappings.lines().next()?.split(' ').nth(1).map(str::to_owned);
    let of = |thread| text(thread, "numa_maps").map(|mappings| mappings.and_then(policy));
    if !calls.has(Optional::GetMempolicy) || matches!(readings::memory_policy(), Ok(0) | Err(_)) {
        return Ok(());
    }
    let leaders = of(ProcTask::Leader)?;
    if of(ProcTask::Current)? == leaders {
        return Ok(());
    }
    if leaders.is_some_and(|policy| policy == "default") && attributes::reset_memory_policy().is_ok() {
        return Ok(());
    }
    Err(caller_has("a memory policy of its own (set_mempolicy(2))"))
}

/// Sets the timer slack. The kernel shows that of another thread only with `CAP_SYS_NICE`; without it, the value that
/// the main thread had before `main` is used.
fn timer_slack() -> Result<(), Error> {
    let leaders = text(ProcTask::Leader, "timerslack_ns")?;
    let leaders = leaders.and_then(|slack| slack.trim().parse().ok()).or_else(sys::at_start::timer_slack);
    // A real-time thread has none, and shows 0.
    if let Some(slack) = leaders.filter(|slack| *slack != 0) {
        if sys::timer_slack().ok() != Some(slack) {
            // A failure is ignored: only the precision of timeouts depends on it.
            let _ = sys::set_timer_slack(slack);
        }
    }
    Ok(())
}

/// Whether a file of the calling thread in `/proc` differs from that of the main thread.
fn differs(file: &str) -> Result<bool, Error> {
    Ok(text(ProcTask::Current, file)? != text(ProcTask::Leader, file)?)
}

/// Checks what the kernel accounts a thread to: a threaded cgroup (`cgroups(7)`), a group of `resctrl`, and a login
/// (`pam_loginuid(8)`).
fn accounting() -> Result<(), Error> {
    let files = [
        ("cgroup", "a cgroup of its own"),
        ("cpu_resctrl_groups", "a resctrl group of its own"),
        // Each change of the login uid begins another session.
        ("sessionid", "a login uid of its own (/proc/thread-self/loginuid)"),
    ];
    for (file, what) in files {
        // Compared twice, because the process may be moved between two reads.
        if differs(file)? && differs(file)? {
            return Err(caller_has(what));
        }
    }
    Ok(())
}

/// Checks the attributes that security modules keep for a thread (`proc_pid_attr(5)`).
fn security_modules() -> Result<(), Error> {
    const FILES: [&str; 7] =
        ["current", "exec", "fscreate", "keycreate", "sockcreate", "apparmor/current", "smack/current"];
    for file in FILES {
        if differs(&format!("attr/{file}"))? {
            return Err(caller_has("an attribute of its own for a security module (/proc/thread-self/attr)"));
        }
    }
    Ok(())
}
