//! The first call of the process comes from a thread that changed one of its attributes. Either no pinned thread has
//! the change, or the call is an error with the reason and a remedy, and the next caller is served.
//!
//! The argument is the attribute.

use std::fs;
use std::sync::mpsc;
use std::thread;

use in_netns::{Call, ErrorKind, NetNs, PinnedThread, ThreadFate, pinned, pool_stats};
use in_netns_tests::{drop_effective, profiles};

/// Without `CAP_SYS_NICE` in the initial user namespace, a thread cannot be made more urgent.
fn is_real_root() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").expect("a map");
    nix::unistd::geteuid().is_root() && map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Makes a system call that takes numbers and returns a number.
fn syscall(number: libc::c_long, arguments: [libc::c_long; 5]) -> libc::c_long {
    let [first, second, third, fourth, fifth] = arguments;
    // SAFETY: every call in this module passes only numbers, or null.
    #[allow(unsafe_code)]
    let result = unsafe { libc::syscall(number, first, second, third, fourth, fifth) };
    assert!(result >= 0, "system call {number}: {}", std::io::Error::last_os_error());
    result
}

fn keyctl(operation: u32, argument: i32) -> libc::c_long {
    syscall(libc::SYS_keyctl, [operation.into(), argument.into(), 0, 0, 0])
}

fn prctl(option: libc::c_int, arguments: [libc::c_long; 4]) -> libc::c_long {
    let [a, b, c, d] = arguments;
    syscall(libc::SYS_prctl, [option.into(), a, b, c, d])
}

fn line_of_status(name: &str) -> Option<String> {
    let status = fs::read_to_string("/proc/thread-self/status").expect("a status");
    status.lines().find_map(|line| line.strip_prefix(name)).map(|text| text.trim().to_owned())
}

fn of_status(name: &str) -> String {
    line_of_status(name).expect("a line")
}

fn memory_policy() -> String {
    let mut mode: libc::c_int = 0;
    // SAFETY: the kernel writes one number.
    #[allow(unsafe_code)]
    let result = unsafe { libc::syscall(libc::SYS_get_mempolicy, &raw mut mode, 0, 0, 0, 0) };
    assert_eq!(result, 0);
    mode.to_string()
}

fn scheduling() -> String {
    let stat = fs::read_to_string("/proc/thread-self/stat").expect("a stat");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_ascii_whitespace().collect();
    // Priority, nice, real-time priority and policy of proc_pid_stat(5).
    format!("{} {} {} {}", fields[15], fields[16], fields[37], fields[38])
}

#[link(name = "m")]
#[allow(unsafe_code)]
unsafe extern "C" {
    fn fesetround(mode: libc::c_int) -> libc::c_int;
    fn fegetround() -> libc::c_int;
}

type Attribute = (fn(), fn() -> String);

/// `SCHED_RESET_ON_FORK` is not among these: the template would not inherit it.
#[allow(clippy::too_many_lines)] // One arm for each attribute.
fn attribute(name: &str) -> Attribute {
    match name {
        "nice" => (
            || {
                syscall(libc::SYS_setpriority, [0, 0, 15, 0, 0]);
            },
            scheduling,
        ),
        "policy" => (
            || {
                let parameters = libc::sched_param { sched_priority: 0 };
                // SAFETY: the parameters are read during the call.
                #[allow(unsafe_code)]
                let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
                assert_eq!(result, 0);
            },
            scheduling,
        ),
        "idle-policy" => (
            || {
                let parameters = libc::sched_param { sched_priority: 0 };
                // SAFETY: the parameters are read during the call.
                #[allow(unsafe_code)]
                let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) };
                assert_eq!(result, 0);
            },
            scheduling,
        ),
        "io-priority" => (
            || {
                syscall(libc::SYS_ioprio_set, [1, 0, 3 << 13, 0, 0]);
            },
            || syscall(libc::SYS_ioprio_get, [1, 0, 0, 0, 0]).to_string(),
        ),
        "timer-slack" => (
            || {
                prctl(libc::PR_SET_TIMERSLACK, [77_000, 0, 0, 0]);
            },
            || prctl(libc::PR_GET_TIMERSLACK, [0; 4]).to_string(),
        ),
        "personality" => (
            || {
                syscall(libc::SYS_personality, [libc::ADDR_NO_RANDOMIZE.into(), 0, 0, 0, 0]);
            },
            || syscall(libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0]).to_string(),
        ),
        "memory-policy" => (
            || {
                syscall(libc::SYS_set_mempolicy, [4, 0, 0, 0, 0]);
            },
            memory_policy,
        ),
        "machine-check" => (
            || {
                prctl(libc::PR_MCE_KILL, [libc::PR_MCE_KILL_SET.into(), libc::PR_MCE_KILL_EARLY.into(), 0, 0]);
            },
            || prctl(libc::PR_MCE_KILL_GET, [0; 4]).to_string(),
        ),
        "speculation" => (
            || {
                let what = libc::PR_SPEC_INDIRECT_BRANCH.into();
                prctl(libc::PR_SET_SPECULATION_CTRL, [what, libc::PR_SPEC_DISABLE.into(), 0, 0]);
            },
            || of_status("SpeculationIndirectBranch:"),
        ),
        "no-new-privileges" => (
            || {
                prctl(libc::PR_SET_NO_NEW_PRIVS, [1, 0, 0, 0]);
            },
            || of_status("NoNewPrivs:"),
        ),
        "seccomp" => (
            || {
                let refuse = seccompiler::SeccompAction::Errno(libc::EPERM.unsigned_abs());
                let rules = [(libc::SYS_acct, vec![])].into();
                let program = profiles::program(rules, seccompiler::SeccompAction::Allow, refuse);
                // `apply_here` would set no_new_privs too.
                let program = libc::sock_fprog {
                    len: u16::try_from(program.len()).expect("a short program"),
                    filter: program.as_ptr().cast_mut().cast(),
                };
                // SAFETY: the program is read during the call.
                #[allow(unsafe_code)]
                let result =
                    unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
                assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
            },
            || of_status("Seccomp:"),
        ),
        "bounding-set" => (
            || {
                prctl(libc::PR_CAPBSET_DROP, [23, 0, 0, 0]);
            },
            || of_status("CapBnd:"),
        ),
        "ambient-set" => (
            || {
                caps::raise(None, caps::CapSet::Inheritable, caps::Capability::CAP_NET_RAW).expect("caps");
                caps::raise(None, caps::CapSet::Ambient, caps::Capability::CAP_NET_RAW).expect("caps");
            },
            || format!("{} {}", of_status("CapInh:"), of_status("CapAmb:")),
        ),
        "effective-set" => (|| drop_effective(caps::Capability::CAP_NET_RAW), || of_status("CapEff:")),
        "filesystem-user" => (
            || {
                syscall(libc::SYS_setfsuid, [1000, 0, 0, 0, 0]);
            },
            || of_status("Uid:"),
        ),
        "user" => (
            || {
                syscall(libc::SYS_setresuid, [-1, 1000, -1, 0, 0]);
            },
            || of_status("Uid:"),
        ),
        "groups" => (
            || {
                let groups = [7 as libc::gid_t];
                // SAFETY: the kernel reads one number.
                #[allow(unsafe_code)]
                let result = unsafe { libc::syscall(libc::SYS_setgroups, 1, groups.as_ptr()) };
                assert_eq!(result, 0);
            },
            || of_status("Groups:"),
        ),
        "rounding" => (
            || {
                // FE_UPWARD.
                let upward = if cfg!(target_arch = "x86_64") { 0x800 } else { 0x0040_0000 };
                // SAFETY: it takes a number.
                #[allow(unsafe_code)]
                let result = unsafe { fesetround(upward) };
                assert_eq!(result, 0);
            },
            // SAFETY: it takes nothing.
            #[allow(unsafe_code)]
            || unsafe { fegetround() }.to_string(),
        ),
        "processes" => (
            || nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWPID).expect("unshare"),
            // The counter exists only after the first child exists.
            || format!("{:?}", fs::read_link("/proc/thread-self/ns/pid_for_children").ok()),
        ),
        "time" => (
            || nix::sched::unshare(nix::sched::CloneFlags::from_bits_retain(0x80)).expect("unshare"),
            || fs::read_link("/proc/thread-self/ns/time_for_children").expect("a namespace").display().to_string(),
        ),
        "time-slice" => (
            || {
                let mut attributes = scheduling_attributes();
                attributes[3] = 20_000_000;
                // SAFETY: the kernel reads the attributes during the call.
                #[allow(unsafe_code)]
                let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, attributes.as_ptr(), 0) };
                assert_eq!(result, 0);
            },
            time_slice,
        ),
        "login" => (|| fs::write("/proc/thread-self/loginuid", "7").expect("a login uid"), login),
        "securebits" => (
            || {
                prctl(libc::PR_SET_SECUREBITS, [libc::SECBIT_NO_SETUID_FIXUP.into(), 0, 0, 0]);
            },
            || prctl(libc::PR_GET_SECUREBITS, [0; 4]).to_string(),
        ),
        "session-keyring" => (
            || {
                keyctl(libc::KEYCTL_JOIN_SESSION_KEYRING, 0);
            },
            || keyctl(libc::KEYCTL_GET_KEYRING_ID, libc::KEY_SPEC_SESSION_KEYRING).to_string(),
        ),
        "requested-keys" => (
            || {
                keyctl(libc::KEYCTL_SET_REQKEY_KEYRING, libc::KEY_REQKEY_DEFL_SESSION_KEYRING);
            },
            || keyctl(libc::KEYCTL_SET_REQKEY_KEYRING, libc::KEY_REQKEY_DEFL_NO_CHANGE).to_string(),
        ),
        other => panic!("what is {other}?"),
    }
}

/// Whether Linux shows the attribute only to its own thread. Bodies have that of the process as soon as the main thread
/// has made a call.
fn is_seen_by_its_thread_alone(attribute: &str) -> bool {
    ["securebits", "session-keyring", "requested-keys"].contains(&attribute)
}

/// In nanoseconds. 0 before Linux 6.12.
fn time_slice() -> String {
    scheduling_attributes()[3].to_string()
}

/// `struct sched_attr` of `sched_setattr(2)`.
fn scheduling_attributes() -> [u64; 7] {
    let mut attributes = [0_u64; 7];
    // SAFETY: the kernel writes at most as many bytes as the argument says.
    #[allow(unsafe_code)]
    let result =
        unsafe { libc::syscall(libc::SYS_sched_getattr, 0, attributes.as_mut_ptr(), size_of_val(&attributes), 0) };
    assert_eq!(result, 0);
    attributes
}

/// Empty where the kernel has none.
fn login() -> String {
    fs::read_to_string("/proc/thread-self/loginuid").unwrap_or_default()
}

/// The first caller is in a body while the main thread makes its first call. That thread is not used again.
fn the_main_thread_decides((change, read): Attribute) {
    let of_the_process = read();
    let (is_inside, inside) = mpsc::channel();
    let (go_on, wait) = mpsc::channel::<()>();
    let first = thread::spawn(move || {
        let before = read();
        change();
        assert_ne!(read(), before, "it was changed");
        let body = move |_: &mut PinnedThread| {
            is_inside.send(()).expect("the main thread waits");
            wait.recv().expect("the main thread goes on");
        };
        pinned(body).expect("a lease");
    });
    inside.recv().expect("a body");
    let called = pinned(move |_| (read(), thread::spawn(read).join().expect("a child"))).expect("a lease");
    assert_eq!(called, (of_the_process.clone(), of_the_process.clone()));
    go_on.send(()).expect("the body waits");
    first.join().expect("the first caller");
    assert_eq!(pool_stats().retired_total, 0, "nothing is wrong with the threads that are replaced");
    for _ in 0..5 {
        assert_eq!(pinned(move |_| read()).expect("a lease"), of_the_process);
        let other = thread::spawn(move || pinned(move |_| read()).expect("a lease"));
        assert_eq!(other.join().expect("another caller"), of_the_process);
    }
}

/// The main thread restricts itself, and makes its first call then. That is its own sandbox.
fn the_main_thread_has_a_filter() {
    let (add_filter, read) = attribute("seccomp");
    let call = move || pinned(move |_| read()).expect("a lease");
    let before = thread::spawn(call).join().expect("the first caller");
    add_filter();
    assert_ne!(read(), before, "it was changed");
    for _ in 0..5 {
        assert_eq!(call(), before);
        assert_eq!(thread::spawn(call).join().expect("another caller"), before);
    }
    assert_eq!(pool_stats().spawned_total, 1, "no thread is replaced");
}

/// The main thread has stopped sharing something, and set its securebits, between the first call of another thread and
/// its own. Bodies have what the process has, and their threads are used again.
fn the_main_thread_leaves(what: &str) {
    use nix::sched::{CloneFlags, unshare};

    fn files() -> [String; 4] {
        ["cwd", "root", "ns/mnt", "ns/ipc"]
            .map(|file| fs::read_link(format!("/proc/thread-self/{file}")).expect("a link").display().to_string())
    }
    fn body() -> [String; 4] {
        let outcome = Call::new(NetNs::current().expect("home")).outcome(files).expect("a call");
        assert!(matches!(outcome.thread, ThreadFate::Reusable), "{:?}", outcome.thread);
        outcome.value.expect("it does not panic")
    }
    let (ask, asked) = mpsc::sync_channel::<()>(0);
    let (answer, answers) = mpsc::sync_channel(0);
    thread::spawn(move || asked.into_iter().for_each(|()| answer.send((body(), files())).expect("it is received")));
    let of_another_caller = || {
        ask.send(()).expect("it is received");
        answers.recv().expect("the caller's own checks hold")
    };
    let (at_first, of_the_process) = of_another_caller();
    assert_eq!(at_first, of_the_process);
    let flag = match what {
        "files" => CloneFlags::CLONE_FS,
        "mounts" => CloneFlags::CLONE_NEWNS,
        "ipc" => CloneFlags::CLONE_NEWIPC,
        other => panic!("{other}?"),
    };
    unshare(flag).expect("unshare");
    if what != "ipc" {
        std::env::set_current_dir("/proc").expect("/proc is mounted");
    }
    prctl(libc::PR_SET_SECUREBITS, [1 << 4, 0, 0, 0]);
    for _ in 0..10 {
        assert_eq!(body(), of_the_process);
        assert_eq!(of_another_caller(), (of_the_process.clone(), of_the_process.clone()));
    }
    assert_eq!(pool_stats().spawned_total, 1, "{:?}", pool_stats());
}

/// The working directory of the process changes again and again while its first call, and that of its main thread, find
/// out what threads share. Some child processes try it, because a process has only one first call.
fn the_working_directory_changes() {
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    fn attempt(has_kcmp: bool) {
        if !has_kcmp {
            let refused = seccompiler::SeccompAction::Errno(libc::EPERM.unsigned_abs());
            profiles::apply([(libc::SYS_kcmp, vec![])].into(), seccompiler::SeccompAction::Allow, refused);
        }
        let move_about = || {
            loop {
                for directory in ["/proc", "/"] {
                    std::env::set_current_dir(directory).expect("a directory");
                }
            }
        };
        thread::spawn(move_about);
        thread::spawn(|| pinned(|_| ()).expect("the first call")).join().expect("the first caller");
        let wanted = 1 << 4;
        prctl(libc::PR_SET_SECUREBITS, [wanted, 0, 0, 0]);
        let of_a_body = pinned(|_| prctl(libc::PR_GET_SECUREBITS, [0; 4])).expect("a call of the main thread");
        assert_eq!(of_a_body, wanted, "bodies have what the main thread has");
    }
    for round in 0..100 {
        // SAFETY: this process has one thread.
        #[allow(unsafe_code)]
        match unsafe { fork() }.expect("fork") {
            ForkResult::Child => {
                attempt(round % 2 == 0);
                std::process::exit(0);
            }
            ForkResult::Parent { child } => {
                assert_eq!(waitpid(child, None).expect("waitpid"), WaitStatus::Exited(child, 0));
            }
        }
    }
}

/// The main thread has a pid namespace of its own for children during its first call, so that it starts no threads, and
/// returns from there (as a program does that starts one child inside). Its next call takes over its attributes.
fn the_main_thread_returns() {
    use nix::sched::{CloneFlags, setns, unshare};

    if !is_real_root() {
        eprintln!("this user may not return to the pid namespace of the process");
        return;
    }
    let securebits = || pinned(|_| prctl(libc::PR_GET_SECUREBITS, [0; 4])).expect("a call");
    let before = thread::spawn(securebits).join().expect("the first caller");
    let wanted = before | 1 << 4;
    prctl(libc::PR_SET_SECUREBITS, [wanted, 0, 0, 0]);
    let of_the_process = fs::File::open("/proc/thread-self/ns/pid").expect("a namespace");
    unshare(CloneFlags::CLONE_NEWPID).expect("unshare");
    assert_eq!(securebits(), before);
    setns(of_the_process, CloneFlags::CLONE_NEWPID).expect("setns");
    assert_eq!(securebits(), wanted, "bodies have what the main thread has");
}

pub(crate) fn main() {
    crate::rootless();
    let name = crate::arguments().next().expect("an attribute");
    if name == "filter-of-the-main-thread" {
        the_main_thread_has_a_filter();
        return;
    }
    if name == "working-directory-changes" {
        the_working_directory_changes();
        return;
    }
    if name == "main-thread-returns" {
        the_main_thread_returns();
        return;
    }
    if let Some(what) = name.strip_prefix("main-thread-leaves-") {
        the_main_thread_leaves(what);
        return;
    }
    let (change, read) = attribute(&name);
    if !is_real_root() && ["user", "filesystem-user", "groups"].contains(&name.as_str()) {
        eprintln!("this user namespace has no second id for the attribute `{name}`");
        return;
    }
    let has_control = |text: String| text.starts_with("conditional");
    if name == "speculation" && !line_of_status("SpeculationIndirectBranch:").is_some_and(has_control) {
        eprintln!("a processor or kernel where no thread has a control of its own");
        return;
    }
    if name == "time-slice" && time_slice() == "0" || name == "login" && (!is_real_root() || login() != "4294967295") {
        eprintln!("the attribute `{name}` cannot be changed here");
        return;
    }
    if is_seen_by_its_thread_alone(&name) {
        the_main_thread_decides((change, read));
        return;
    }
    let of_the_process = read();
    let first = move || {
        change();
        assert_ne!(read(), of_the_process, "it was changed");
        pinned(move |_| (read(), thread::spawn(read).join().expect("a child")))
    };
    let of_the_process = read();
    match thread::spawn(first).join().expect("the caller's own checks hold") {
        Ok((body, child)) => {
            eprintln!("{name}: corrected");
            assert_eq!(body, of_the_process);
            assert_eq!(child, of_the_process);
        }
        Err(error) => {
            eprintln!("{name}: {error}");
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            let message = error.to_string();
            assert!(message.contains("first call") && message.contains("in_netns::init"), "{error}");
        }
    }
    // The next caller is served.
    assert_eq!(pinned(move |_| read()).expect("a lease"), of_the_process);
}
