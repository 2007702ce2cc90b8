//! Inheritance: what a pinned thread has, and where it comes from. A page of documentation, without code.
//!
//! On Linux a thread inherits from the thread that starts it: its namespaces, its capabilities, its signal mask, its
//! scheduling, and more. Pinned threads serve the whole process, so they start from one *template thread*, which never
//! runs user code. The template has what the process has, whatever its first caller or its main thread is doing at that
//! instant.
//!
//! The first call of a process starts the template, from the calling thread. [`init`](crate::init) starts it earlier:
//! called first thing in `main`, it leaves nothing to be found out. Each attribute below is then as the main thread has
//! it:
//!
//! - **set**: the template is given what the main thread has;
//! - **refused**: if the first caller has it, and the main thread has not, the call is an error of kind
//!   [`Unsupported`](crate::ErrorKind::Unsupported) that names it, no thread is started, and the next caller tries
//!   again. Linux offers no way to take it off;
//! - **inherited**: it is the first caller's, since Linux shows it to its own thread alone. If the main thread makes
//!   the first call, it is the main thread's;
//! - **new**: a new thread does not inherit it;
//! - **shared**: it belongs to the process, not to a thread.
//!
//! A restriction that the main thread alone has taken on (a seccomp filter, Landlock, `no_new_privs`, a smaller
//! bounding set) is that thread's own sandbox. A pinned thread does not have it unless the first caller has it too.
//!
//! | attribute | what becomes of it | looked at by |
//! |---|---|---|
//! | network, UTS, IPC and cgroup namespace | **set**: home, see below | `ns/` |
//! | mount namespace, root, working directory, umask (`fs_struct`) | **refused** if the caller and the main thread do not share them; in a [`View`](crate::View) the view's, with the caller's working directory | `kcmp(2)`, and `ns/mnt`, `cwd`, `root` |
//! | file descriptor table | **refused** if the caller and the main thread do not share it | `kcmp(2)`, else `fd/` |
//! | pid namespace for children | **refused**: a thread that changed it cannot start threads | `clone(2)` |
//! | time namespace for children | **refused** | `ns/time_for_children` |
//! | user namespace | **shared**: a process with threads cannot change it | |
//! | signal mask | **set**, see below | `SigBlk` |
//! | effective, permitted and inheritable capabilities | **set**, and again at each call: see below | `capget(2)` |
//! | ambient capabilities | **set** | `CapAmb` |
//! | capability bounding set | **refused** if smaller | `CapBnd` |
//! | user, group and supplementary ids (a raw system call changes those of one thread; the C library those of all) | **refused** | `Uid`, `Gid`, `Groups` |
//! | ids for file access (`setfsuid(2)`) | **set** | `Uid`, `Gid` |
//! | `no_new_privs` | **refused** | `NoNewPrivs` |
//! | seccomp mode and filters | **refused** if there are more | `Seccomp`, `Seccomp_filters` |
//! | nice value, scheduling policy and priority, utilisation clamps | **set**, with the meaning of the reset-on-fork flag; **refused** where `CAP_SYS_NICE` is missing | `sched_getattr(2)` |
//! | CPU affinity | **set** | `sched_getaffinity(2)` |
//! | I/O priority | **set**, else **refused** | `ioprio_get(2)` |
//! | core scheduling cookie | **set**, else **refused** | `PR_SCHED_CORE` |
//! | timer slack | **set**; without `CAP_SYS_NICE` to what the main thread began with | `timerslack_ns` |
//! | memory policy | **set** if the main thread has the default, else **refused** if it differs | `get_mempolicy(2)`, `numa_maps` |
//! | personality | **set** | `personality` |
//! | machine check policy (`PR_MCE_KILL`), I/O flusher (`PR_SET_IO_FLUSHER`) | **set**, else **refused** | `stat` |
//! | speculation control (`PR_SET_SPECULATION_CTRL`) | **set**, and **refused** if it was disabled for good | `status` |
//! | threaded cgroup, resctrl group | **refused** | `cgroup`, `cpu_resctrl_groups` |
//! | attributes of security modules (`SELinux`, `AppArmor`, Smack) | **refused** | `attr/` |
//! | Landlock domain | **inherited** | |
//! | session keyring, keyring for requested keys | **inherited** | |
//! | securebits, "keep capabilities" | **inherited** | |
//! | time stamp counter and CPUID faulting (`PR_SET_TSC`, `arch_prctl(2)`) | **inherited** | |
//! | floating-point environment (rounding mode and the like) | **set** to the default, which Rust takes for granted; **inherited** on other architectures than `x86` and arm64 | |
//! | protection key rights | **inherited** | |
//! | vector lengths (SVE, SME), tagged addresses, pointer authentication keys on arm64 | **inherited** | |
//! | performance counters with `inherit` | **inherited** | |
//! | alternate signal stack, pending signals, robust futex list, restartable sequences | **new** | |
//! | thread keyring | **new** | |
//! | parent-death signal, timers of the thread, syscall user dispatch, `io_uring` rings registered for a thread | **new** | |
//! | child subreaper, dumpable, transparent huge pages, autogroup, resource limits, signal handlers, memory | **shared** | |
//!
//! # Home
//!
//! Home is where the process is: the namespaces that the process began in, unless its main thread has moved. A thread
//! that is in another namespace for a moment has not moved, though at that moment it looks the same. So the main thread
//! counts as moved
//!
//! - if it called [`NetNs::join`](crate::NetNs::join) or [`rootless::enter`](crate::rootless::enter), or
//! - if more threads of the process are where the main thread is than where the process began, or
//! - if it is the only thread, and the process has no descriptor of the namespace that it began in: a thread that is
//!   going to go back holds on to the way.
//!
//! Where a program moves itself by other means and keeps such a descriptor, [`init`](crate::init) says that this is
//! home: called on the main thread, it takes the namespaces that the thread is in. To know where the process began, the
//! crate notes its namespaces before `main`.
//!
//! # Signals
//!
//! A body, and a child process that it starts, blocks the signals that the main thread blocks. That thread is looked at
//! from outside, unless it makes the first call itself. It is not taken at its word while the C library blocks signals
//! for a moment (it starts a thread or a child), nor while it waits for signals (`sigwait(3)`, `ppoll(2)`,
//! `sigsuspend(2)` put another mask in place). In the last two of these, where the real mask is not to be seen, a
//! pinned thread blocks what all other threads block. A main thread that sleeps inside a signal handler is taken for
//! one that blocks what the handler blocks.
//!
//! # What the process may do now
//!
//! **A body may do what the process may do at the moment of the call.** At each call a pooled thread takes on the
//! effective and permitted capabilities of the calling thread and of the main thread, as they are then. So a process
//! may drop root after its first call and keep some capabilities, or raise them for one call and lower them again, and
//! gets what it would get by hand: the call works, or is refused with
//! [`PermissionDenied`](crate::ErrorKind::PermissionDenied). User and group ids are those of the process, since the C
//! library changes them on all threads.
//!
//! **A caller's own sandbox does not bind its bodies.** What a thread gives up for itself alone (`capset(2)`, seccomp,
//! Landlock, raw changes of its ids), a pooled thread has if the main thread has it.
//! [`Call::fresh`](crate::Call::fresh) uses a thread that the caller starts, inside the caller's sandbox. The same is
//! true of files: a caller that has root, working directory, umask or mounts to itself (`unshare(2)` with `CLONE_FS` or
//! `CLONE_NEWNS`, then `chroot(2)` or `mount(2)`) finds those of the process in a pooled body, and its own in a fresh
//! one.
//!
//! **What is not followed** after the first call: all other attributes of the table. A main thread that takes on
//! `no_new_privs`, a seccomp filter or Landlock after its first call does so for itself alone; do it before, or for all
//! threads at once (`SECCOMP_FILTER_FLAG_TSYNC`). A [`Worker`](crate::Worker) keeps the capabilities that the process
//! had when the worker took its thread.
//!
//! # Tables of file descriptors
//!
//! A namespace is entered by the number of a descriptor, and a number means something in one table alone. A thread that
//! has called `unshare(2)` with `CLONE_FILES` has a table of its own. Its calls run on threads that it starts. A handle
//! that was opened in another table, a [`Worker`](crate::Worker), a [`Command`](crate::Command) and a
//! [`NetNsPool`](crate::NetNsPool) are [`Unsupported`](crate::ErrorKind::Unsupported) there.
//!
//! **A thread unshares its table before its first call.** The crate looks once for each thread. A thread that unshares
//! its table later uses [`Call::fresh`](crate::Call::fresh) from then on: by another call its body may run in another
//! namespace, and a descriptor that the body returns is another file.
//!
//! # Processes
//!
//! A process that [`NetNs::command`](crate::NetNs::command) starts inherits from a pinned thread what a process
//! inherits from the thread that starts it, and so it has what this page says, with the capabilities that the process
//! has now. Its signal mask is that of the process, too; `std` only resets `SIGPIPE` to its default.
//!
//! # References
//!
//! `clone(2)`, `credentials(7)`, `capabilities(7)`, `sched(7)`, `namespaces(7)`, `keyrings(7)`, `seccomp(2)`,
//! `prctl(2)`, `signal(7)`, `pthread_create(3)`.
