//! What the template inherited from the first caller, attribute by attribute: set to what the main thread has, or
//! refused.
//!
//! The table is in [`inheritance`](crate::inheritance). An attribute that restricts its thread for good (a seccomp
//! filter, `no_new_privs`, a smaller bounding set) is refused if the caller has it and the main thread has not: no
//! thread can take it off.

use std::fs;

use super::Refusal;
use crate::error::Error;
use crate::sys::attributes::{self, MachineCheck, Scheduling, Speculation};
use crate::sys::{self, Capabilities, Optional, OptionalCalls, ProcTask, Resource, Tid};

/// Gives the calling thread, which is the template, the attributes of the main thread.
pub(super) fn align_with(leader: Tid) -> Result<(), Error> {
    let mine = Status::of(ProcTask::Me);
    let leaders = Status::of(ProcTask::Leader);
    let calls = OptionalCalls::of_current_thread();
    shared_resources(leader)?;
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
    timer_slack();
    groups_of_tasks()?;
    security_modules()
}

/// The lines of a thread's `status` file (`proc_pid_status(5)`). Empty where there is no `/proc`.
struct Status(String);

impl Status {
    fn of(thread: ProcTask) -> Status {
        Status(fs::read_to_string(thread.proc_path().join("status")).unwrap_or_default())
    }

    fn line(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    fn set(&self, name: &str) -> Option<u64> {
        u64::from_str_radix(self.line(name)?, 16).ok()
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.line(name)?.parse().ok()
    }
}

/// What threads share by default, and a thread can stop sharing.
fn shared_resources(leader: Tid) -> Result<(), Error> {
    let is_fs_apart = sys::share(Resource::Fs, leader, sys::current_tid()) == Ok(false);
    // Where kcmp(2) is not to be had, what differs now is not shared.
    let differs = |file: &str| {
        let of = |thread: ProcTask| fs::read_link(thread.proc_path().join(file)).ok();
        of(ProcTask::Me) != of(ProcTask::Leader)
    };
    if is_fs_apart || ["cwd", "root", "ns/mnt"].into_iter().any(differs) {
        let what = "root, working directory, umask or mount namespace (unshare(2) with CLONE_FS or CLONE_NEWNS)";
        return Err(Refusal::NotShared(what).into());
    }
    if sys::descriptor_table::is_shared_with(leader) == Ok(false) {
        return Err(Refusal::NotShared("the table of file descriptors (unshare(2) with CLONE_FILES)").into());
    }
    Ok(())
}

/// A thread cannot be given back the namespace that it made for its children's clocks (`time_namespaces(7)`).
fn namespaces_for_children() -> Result<(), Error> {
    let of = |thread: ProcTask| fs::read_link(thread.proc_path().join("ns/time_for_children")).ok();
    if of(ProcTask::Me) != of(ProcTask::Leader) {
        return Err(Refusal::caller_has("a time namespace of its own for children (unshare(2) with CLONE_NEWTIME)"));
    }
    Ok(())
}

/// The ids, which the C library changes for all threads at once, and a system call for one.
fn ids(mine: &Status, leaders: &Status) -> Result<(), Error> {
    let without_filesystem_id = |ids: &str| ids.rsplit_once(char::is_whitespace).map(|(ids, _)| ids.to_owned());
    for name in ["Uid", "Gid"] {
        let (Some(mine), Some(leaders)) = (mine.line(name), leaders.line(name)) else { continue };
        if without_filesystem_id(mine) != without_filesystem_id(leaders) {
            return Err(Refusal::caller_has("user or group ids of its own (a raw setresuid(2) or the like)"));
        }
    }
    if mine.line("Groups") != leaders.line("Groups") {
        return Err(Refusal::caller_has("supplementary groups of its own (a raw setgroups(2))"));
    }
    let filesystem_id =
        |status: &Status, name| -> Option<u32> { status.line(name)?.rsplit_once(char::is_whitespace)?.1.parse().ok() };
    let all = |status: &Status| Some((filesystem_id(status, "Uid")?, filesystem_id(status, "Gid")?));
    if let (Some(now), Some((user, group))) = (all(mine), all(leaders)) {
        if now != (user, group) {
            attributes::set_filesystem_ids(user, group);
            if all(&Status::of(ProcTask::Me)) != Some((user, group)) {
                return Err(Refusal::caller_has("ids of its own for file access (setfsuid(2))"));
            }
        }
    }
    Ok(())
}

/// The sets that a thread uses and may use: what the main thread or the caller has. Later calls bring their own.
fn capabilities(leader: Tid) -> Result<(), Error> {
    let failed = |errno| Error::from_errno("compare the template thread's capabilities with the main thread's", errno);
    let mine = sys::capabilities_of(sys::current_tid()).map_err(failed)?;
    let leaders = sys::capabilities_of(leader).map_err(failed)?;
    let effective = leaders.effective | mine.effective;
    if effective & !mine.permitted != 0 {
        return Err(Refusal::caller_has("given up capabilities that the main thread has"));
    }
    let wanted = Capabilities { effective, inheritable: leaders.inheritable, ..mine };
    if wanted != mine && sys::set_capabilities(wanted).is_err() {
        return Err(Refusal::caller_has("an inheritable set of its own (capset(2))"));
    }
    Ok(())
}

/// The bounding and the ambient set.
fn capability_bounds(mine: &Status, leaders: &Status) -> Result<(), Error> {
    if let (Some(mine), Some(leaders)) = (mine.set("CapBnd"), leaders.set("CapBnd")) {
        if leaders & !mine != 0 {
            return Err(Refusal::caller_has("dropped capabilities from its bounding set"));
        }
    }
    if let (Some(mine), Some(leaders)) = (mine.set("CapAmb"), leaders.set("CapAmb")) {
        for capability in (0..64).filter(|bit| (mine ^ leaders) >> bit & 1 == 1) {
            if attributes::set_ambient(capability, leaders >> capability & 1 == 1).is_err() {
                return Err(Refusal::caller_has("ambient capabilities of its own"));
            }
        }
    }
    Ok(())
}

/// What a thread can take upon itself, and never get rid of. If the main thread alone has it, it is that thread's own
/// affair.
fn restrictions(mine: &Status, leaders: &Status) -> Result<(), Error> {
    let more = |name| mine.number(name) > leaders.number(name);
    if more("NoNewPrivs") {
        return Err(Refusal::caller_has("no_new_privs (PR_SET_NO_NEW_PRIVS)"));
    }
    if more("Seccomp") || more("Seccomp_filters") {
        return Err(Refusal::caller_has("a seccomp filter that the main thread has not"));
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
            return Err(Refusal::caller_has(&what));
        }
    }
    let io_priority_of =
        |thread| calls.has(Optional::IoprioGet).then(|| attributes::io_priority_of(thread).ok()).flatten();
    if let (Some(mine), Some(leaders)) = (io_priority_of(myself), io_priority_of(leader)) {
        if mine != leaders && attributes::set_io_priority(leaders).is_err() {
            return Err(Refusal::caller_has("an I/O priority of its own (ioprio_set(2))"));
        }
    }
    if let (Ok(mine), Ok(leaders)) = (attributes::core_cookie_of(myself), attributes::core_cookie_of(leader)) {
        if mine != leaders && attributes::copy_core_cookie_from(leader).is_err() {
            return Err(Refusal::caller_has("a core scheduling cookie of its own (PR_SCHED_CORE)"));
        }
    }
    Ok(())
}

/// Attributes that are bits of the kernel's own (`linux/sched.h`), shown in `stat`.
fn task_flags() -> Result<(), Error> {
    const MCE_PROCESS: u64 = 0x80;
    const MCE_EARLY: u64 = 0x0800_0000;
    const MACHINE_CHECK: u64 = MCE_PROCESS | MCE_EARLY;
    const IO_FLUSHER: u64 = 0x0008_0000 | 0x0010_0000;
    let of = |thread: ProcTask| {
        let stat = fs::read_to_string(thread.proc_path().join("stat")).ok()?;
        stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(6)?.parse::<u64>().ok()
    };
    let (Some(mine), Some(leaders)) = (of(ProcTask::Me), of(ProcTask::Leader)) else { return Ok(()) };
    let differs = |bits: u64| (mine ^ leaders) & bits != 0;
    if differs(MACHINE_CHECK) {
        let policy = match (leaders & MCE_PROCESS != 0, leaders & MCE_EARLY != 0) {
            (false, _) => MachineCheck::Default,
            (true, true) => MachineCheck::Early,
            (true, false) => MachineCheck::Late,
        };
        if attributes::set_machine_check(policy).is_err() {
            return Err(Refusal::caller_has("a machine check policy of its own (PR_MCE_KILL)"));
        }
    }
    if differs(IO_FLUSHER) && attributes::set_io_flusher(leaders & IO_FLUSHER == IO_FLUSHER).is_err() {
        return Err(Refusal::caller_has("the state of an I/O flusher (PR_SET_IO_FLUSHER)"));
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
        if set.is_err() || (allowed && Status::of(ProcTask::Me).line(name) != leaders.line(name)) {
            return Err(Refusal::caller_has("given up speculation for good (PR_SET_SPECULATION_CTRL)"));
        }
    }
    Ok(())
}

fn personality() -> Result<(), Error> {
    let of = |thread: ProcTask| {
        let persona = fs::read_to_string(thread.proc_path().join("personality")).ok()?;
        u32::from_str_radix(persona.trim(), 16).ok()
    };
    let (Some(mine), Some(leaders)) = (of(ProcTask::Me), of(ProcTask::Leader)) else { return Ok(()) };
    if mine != leaders && attributes::set_personality(leaders).is_err() {
        return Err(Refusal::caller_has("an execution domain of its own (personality(2))"));
    }
    Ok(())
}

/// The kernel shows another thread's memory policy only in the list of mappings: as that of each mapping that has none
/// of its own.
fn memory_policy(calls: OptionalCalls) -> Result<(), Error> {
    let of = |thread: ProcTask| {
        let mappings = fs::read_to_string(thread.proc_path().join("numa_maps")).ok()?;
        mappings.lines().next()?.split(' ').nth(1).map(str::to_owned)
    };
    if !calls.has(Optional::GetMempolicy) || matches!(attributes::memory_policy(), Ok(0) | Err(_)) {
        return Ok(());
    }
    let leaders = of(ProcTask::Leader);
    if of(ProcTask::Me) == leaders {
        return Ok(());
    }
    if leaders.is_some_and(|policy| policy == "default") && attributes::reset_memory_policy().is_ok() {
        return Ok(());
    }
    Err(Refusal::caller_has("a memory policy of its own (set_mempolicy(2))"))
}

/// Shown to a thread with `CAP_SYS_NICE` alone. Otherwise it is what the main thread began with, before `main`.
fn timer_slack() {
    let leaders = fs::read_to_string(ProcTask::Leader.proc_path().join("timerslack_ns"));
    let leaders = leaders.ok().and_then(|slack| slack.trim().parse().ok()).or_else(sys::at_start::timer_slack);
    // A thread that is scheduled for real time has none, and shows 0.
    if let Some(slack) = leaders.filter(|slack| *slack != 0) {
        if sys::timer_slack().ok() != Some(slack) {
            // Nothing but the precision of timeouts depends on it.
            let _ = sys::set_timer_slack(slack);
        }
    }
}

/// What the kernel accounts a thread to: a threaded cgroup (`cgroups(7)`) and a group of `resctrl`.
fn groups_of_tasks() -> Result<(), Error> {
    for (file, what) in [("cgroup", "a cgroup of its own"), ("cpu_resctrl_groups", "a resctrl group of its own")] {
        let of = |thread: ProcTask| fs::read_to_string(thread.proc_path().join(file)).ok();
        // A second look, for a process that is being moved at this moment.
        if of(ProcTask::Me) != of(ProcTask::Leader) && of(ProcTask::Me) != of(ProcTask::Leader) {
            return Err(Refusal::caller_has(what));
        }
    }
    Ok(())
}

/// The attributes that security modules keep for a thread (`proc_pid_attr(5)`).
fn security_modules() -> Result<(), Error> {
    const FILES: [&str; 7] =
        ["current", "exec", "fscreate", "keycreate", "sockcreate", "apparmor/current", "smack/current"];
    for file in FILES {
        let of = |thread: ProcTask| fs::read(thread.proc_path().join("attr").join(file)).ok();
        if of(ProcTask::Me) != of(ProcTask::Leader) {
            return Err(Refusal::caller_has("an attribute of its own for a security module (/proc/thread-self/attr)"));
        }
    }
    Ok(())
}
