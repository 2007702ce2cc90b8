//! Every attribute that a body can change for its own thread: no later body sees the change.

use std::fs;

use in_netns::{Call, NetNs, RetireReason, ThreadFate, pinned, with_netns};
use in_netns_tests::{alone, is_alive, profiles, tid, wait_until};
use nix::errno::Errno;
use nix::libc;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Makes a system call whose arguments are numbers.
#[track_caller]
fn syscall(number: libc::c_long, arguments: [libc::c_long; 5]) -> i64 {
    let [first, second, third, fourth, fifth] = arguments;
    // SAFETY: the tests below pass numbers and null pointers alone.
    #[allow(unsafe_code)]
    Errno::result(unsafe { libc::syscall(number, first, second, third, fourth, fifth) })
        .expect("the system call works here")
}

/// Like [`syscall`], for calls whose result is not needed.
fn call(number: libc::c_long, arguments: [libc::c_long; 5]) {
    syscall(number, arguments);
}

fn set(option: libc::c_int, arguments: [libc::c_long; 4]) {
    prctl(option, arguments);
}

fn prctl(option: libc::c_int, arguments: [libc::c_long; 4]) -> i64 {
    let [a, b, c, d] = arguments;
    syscall(libc::SYS_prctl, [option.into(), a, b, c, d])
}

/// The state of the calling thread, as the kernel reports it.
fn state() -> Vec<String> {
    const COUNTS: [&str; 3] = ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches", "Vm"];
    const OTHERS: [&str; 9] = ["State", "Pid", "NSpid", "Rss", "Threads", "SigQ", "FDSize", "HugetlbPages", "SigPnd"];
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let of_thread = status.lines().filter(|line| !COUNTS.iter().chain(&OTHERS).any(|name| line.starts_with(name)));
    let mut state: Vec<_> = of_thread.map(str::to_owned).collect();
    for (what, value) in [
        ("timer slack", prctl(libc::PR_GET_TIMERSLACK, [0; 4])),
        ("securebits", prctl(libc::PR_GET_SECUREBITS, [0; 4])),
        ("nice", syscall(libc::SYS_getpriority, [0; 5])),
        ("policy", syscall(libc::SYS_sched_getscheduler, [0; 5])),
        ("I/O priority", syscall(libc::SYS_ioprio_get, [1, 0, 0, 0, 0])),
        ("personality", syscall(libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0])),
        ("session keyring", syscall(libc::SYS_keyctl, [0, -3, 0, 0, 0])),
        ("request-key keyring", syscall(libc::SYS_keyctl, [14, -1, 0, 0, 0])),
        ("floating point", i64::from(rounds_up())),
    ] {
        state.push(format!("{what}: {value}"));
    }
    state
}

/// Whether the calling thread's floating-point arithmetic rounds other than to nearest.
fn rounds_up() -> bool {
    std::hint::black_box(1.0_f64) + std::hint::black_box(f64::EPSILON / 4.0) > 1.0
}

/// Runs `body` in calls that wait for the inspection, and in calls that do not. The next bodies see no change.
#[track_caller]
fn no_later_body_meets(body: fn()) {
    let _alone = alone();
    let ns = NetNs::new().unwrap();
    let pristine = pinned(|_| state()).unwrap();
    let outcome = Call::new(&ns).outcome(|| (body(), tid()).1).unwrap();
    let changed = outcome.value.unwrap();
    match outcome.thread {
        ThreadFate::Reusable => {}
        ThreadFate::Retired(RetireReason::Changed(_)) => wait_until("it exits", || !is_alive(changed)),
        other => panic!("{other:?}"),
    }
    for _ in 0..20 {
        with_netns(&ns, body).unwrap();
        assert_eq!(pinned(|_| state()).unwrap(), pristine);
    }
}

#[test]
fn a_signal_mask_is_not_left_to_a_later_body() {
    no_later_body_meets(|| nix::sys::signal::SigSet::all().thread_block().unwrap());
}

#[test]
fn no_new_privs_is_not_left_to_a_later_body() {
    no_later_body_meets(|| set(libc::PR_SET_NO_NEW_PRIVS, [1, 0, 0, 0]));
}

#[test]
fn securebits_and_keepcaps_are_not_left_to_a_later_body() {
    no_later_body_meets(|| set(libc::PR_SET_KEEPCAPS, [1, 0, 0, 0]));
    no_later_body_meets(|| set(libc::PR_SET_SECUREBITS, [0x4, 0, 0, 0]));
}

#[test]
fn a_seccomp_filter_is_not_left_to_a_later_body() {
    no_later_body_meets(|| {
        let rules = [(libc::SYS_acct, vec![])].into();
        profiles::apply_here(rules, seccompiler::SeccompAction::Allow, seccompiler::SeccompAction::Errno(1));
    });
}

#[test]
fn a_timer_slack_is_not_left_to_a_later_body() {
    no_later_body_meets(|| set(libc::PR_SET_TIMERSLACK, [123_456, 0, 0, 0]));
}

#[test]
fn a_nice_value_is_not_left_to_a_later_body() {
    // Any user may set the highest value, whatever it is now.
    no_later_body_meets(|| call(libc::SYS_setpriority, [0, 0, 19, 0, 0]));
}

#[test]
fn a_scheduling_policy_is_not_left_to_a_later_body() {
    no_later_body_meets(|| {
        let parameters = libc::sched_param { sched_priority: 0 };
        // SAFETY: the parameters outlive the call.
        #[allow(unsafe_code)]
        let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
        Errno::result(result).unwrap();
    });
}

#[test]
fn an_affinity_is_not_left_to_a_later_body() {
    let all = sched_getaffinity(Pid::from_raw(0)).unwrap();
    if (0..CpuSet::count()).filter(|cpu| all.is_set(*cpu).unwrap_or(false)).count() < 2 {
        eprintln!("one CPU: no other affinity is possible");
        return;
    }
    no_later_body_meets(|| {
        let all = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let first = (0..CpuSet::count()).find(|cpu| all.is_set(*cpu).unwrap_or(false)).unwrap();
        let mut one = CpuSet::new();
        one.set(first).unwrap();
        sched_setaffinity(Pid::from_raw(0), &one).unwrap();
    });
}

#[test]
fn an_io_priority_is_not_left_to_a_later_body() {
    // The class "best effort", level 7.
    no_later_body_meets(|| call(libc::SYS_ioprio_set, [1, 0, 2 << 13 | 7, 0, 0]));
}

#[test]
fn a_personality_is_not_left_to_a_later_body() {
    // ADDR_NO_RANDOMIZE
    no_later_body_meets(|| call(libc::SYS_personality, [0x004_0000, 0, 0, 0, 0]));
}

#[test]
fn a_memory_policy_is_not_left_to_a_later_body() {
    // MPOL_LOCAL. `state` cannot show it: a policy has no line in the status file.
    let policy = || {
        let mut mode = -1;
        // SAFETY: the mode outlives the call.
        #[allow(unsafe_code)]
        let result = unsafe { libc::syscall(libc::SYS_get_mempolicy, &raw mut mode, 0, 0, 0, 0) };
        Errno::result(result).map(|_| mode)
    };
    let Ok(pristine) = policy() else {
        eprintln!("a kernel without memory policies");
        return;
    };
    no_later_body_meets(|| call(libc::SYS_set_mempolicy, [4, 0, 0, 0, 0]));
    assert_eq!(pinned(|_| policy()).unwrap(), Ok(pristine));
}

#[test]
fn a_session_keyring_is_not_left_to_a_later_body() {
    no_later_body_meets(|| call(libc::SYS_keyctl, [1, 0, 0, 0, 0]));
}

#[test]
fn a_thread_keyring_is_not_left_to_a_later_body() {
    let has_one = || {
        // SAFETY: it takes only numbers.
        #[allow(unsafe_code)]
        let found = unsafe { libc::syscall(libc::SYS_keyctl, 0, -1, 0, 0, 0) };
        found > 0
    };
    let before = pinned(|_| has_one()).unwrap();
    no_later_body_meets(|| call(libc::SYS_keyctl, [0, -1, 1, 0, 0]));
    assert_eq!(pinned(|_| has_one()).unwrap(), before);
}

#[test]
fn the_keyring_for_requested_keys_is_not_left_to_a_later_body() {
    no_later_body_meets(|| call(libc::SYS_keyctl, [14, 3, 0, 0, 0]));
}

#[test]
fn user_ids_of_the_thread_alone_are_not_left_to_a_later_body() {
    if !is_mapped(1234) {
        eprintln!("a user namespace with one id: no other is available");
        return;
    }
    no_later_body_meets(|| call(libc::SYS_setresuid, [1234, 0, 0, 0, 0]));
    no_later_body_meets(|| call(libc::SYS_setresgid, [1234, 0, 0, 0, 0]));
    no_later_body_meets(|| call(libc::SYS_setresgid, [-1, -1, 1234, 0, 0]));
    no_later_body_meets(|| call(libc::SYS_setfsgid, [1234, 0, 0, 0, 0]));
    no_later_body_meets(|| {
        let groups = [4321_u32];
        // SAFETY: the list outlives the call.
        #[allow(unsafe_code)]
        Errno::result(unsafe { libc::syscall(libc::SYS_setgroups, 1, groups.as_ptr()) }).unwrap();
    });
}

/// Whether a user id exists in the user namespace of the process.
fn is_mapped(id: u32) -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    map.lines().any(|line| {
        let numbers: Vec<u32> = line.split_ascii_whitespace().map(|number| number.parse().unwrap()).collect();
        (numbers[0]..numbers[0].saturating_add(numbers[2])).contains(&id)
    })
}

#[test]
fn an_ambient_and_inheritable_capability_is_not_left_to_a_later_body() {
    no_later_body_meets(|| {
        caps::raise(None, caps::CapSet::Inheritable, caps::Capability::CAP_NET_RAW).unwrap();
        caps::raise(None, caps::CapSet::Ambient, caps::Capability::CAP_NET_RAW).unwrap();
    });
}

#[test]
fn a_smaller_bounding_set_is_not_left_to_a_later_body() {
    no_later_body_meets(|| set(libc::PR_CAPBSET_DROP, [23, 0, 0, 0]));
    // A capability that is inheritable stays so when it is dropped.
    no_later_body_meets(|| {
        caps::raise(None, caps::CapSet::Inheritable, caps::Capability::CAP_SYS_NICE).unwrap();
        set(libc::PR_CAPBSET_DROP, [23, 0, 0, 0]);
        caps::drop(None, caps::CapSet::Inheritable, caps::Capability::CAP_SYS_NICE).unwrap();
    });
}

#[test]
fn a_thread_name_is_not_left_to_a_later_body() {
    no_later_body_meets(|| nix::sys::prctl::set_name(c"of a body").unwrap());
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_rounding_mode_is_not_left_to_a_later_body() {
    no_later_body_meets(|| {
        let up: u32 = 0x1f80 | 0x4000;
        // SAFETY: the control word is valid; it makes the arithmetic of this thread round upwards.
        #[allow(unsafe_code)]
        unsafe {
            std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const up, options(nostack));
        }
        assert!(rounds_up());
    });
}

#[test]
fn a_parent_death_signal_is_not_left_to_a_later_body() {
    let signal = || {
        let mut signal = -1;
        // SAFETY: the number outlives the call.
        #[allow(unsafe_code)]
        let result = unsafe { libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut signal) };
        Errno::result(result).unwrap();
        signal
    };
    no_later_body_meets(|| set(libc::PR_SET_PDEATHSIG, [libc::SIGCONT.into(), 0, 0, 0]));
    assert_eq!(pinned(|_| signal()).unwrap(), 0);
}

#[test]
fn an_alternate_signal_stack_is_not_left_to_a_later_body() {
    let stack = || {
        // SAFETY: all zeros are a valid description of a stack.
        #[allow(unsafe_code)]
        let mut now: libc::stack_t = unsafe { std::mem::zeroed() };
        // SAFETY: the description outlives the call.
        #[allow(unsafe_code)]
        let result = unsafe { libc::sigaltstack(std::ptr::null(), &raw mut now) };
        Errno::result(result).unwrap();
        now.ss_flags & libc::SS_DISABLE != 0
    };
    let before = pinned(|_| stack()).unwrap();
    no_later_body_meets(|| {
        let disabled = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        // SAFETY: the description outlives the call, and names no memory.
        #[allow(unsafe_code)]
        Errno::result(unsafe { libc::sigaltstack(&raw const disabled, std::ptr::null_mut()) }).unwrap();
    });
    assert_eq!(pinned(|_| stack()).unwrap(), before);
}

#[test]
fn a_speculation_control_is_not_left_to_a_later_body() {
    let control = || prctl(libc::PR_GET_SPECULATION_CTRL, [1, 0, 0, 0]);
    let before = pinned(|_| control()).unwrap();
    if before & 1 == 0 {
        eprintln!("a processor or kernel where no thread has a control of its own");
        return;
    }
    // PR_SPEC_INDIRECT_BRANCH, PR_SPEC_DISABLE
    no_later_body_meets(|| set(libc::PR_SET_SPECULATION_CTRL, [1, 4, 0, 0]));
    assert_eq!(pinned(|_| control()).unwrap(), before);
}
