//! Inheritance: what a pinned thread has, and where it comes from. A page of documentation, without code.
//!
//! On Linux a thread inherits from the thread that starts it: its namespaces, its capabilities, its signal mask, its
//! scheduling, and more. Pinned threads serve the whole process, so they start from one *template thread*, which never
//! runs user code. The template has what the process has, whatever its first caller or its main thread is doing at that
//! instant.
//!
//! The first call of a process starts the template, from the calling thread. [`init`](crate::init) starts it earlier.
//! If it is called at the beginning of `main`, the template has each attribute below as the main thread has it.
//! Otherwise:
//!
//! - **set**: the template is given what the main thread has;
//! - **refused**: if the first caller has it, and the main thread does not, the call is an error of kind
//!   [`Unsupported`](crate::ErrorKind::Unsupported) that names it, no thread is started, and the next caller tries
//!   again. Linux offers no way to remove it;
//! - **confirmed**: Linux shows it only to its own thread. It is the first caller's until the main thread makes a call.
//!   If the main thread has another value, all pinned threads are replaced then, by threads with that value. A main
//!   thread that has files, descriptors or an IPC namespace of its own by then (`unshare(2)`) confirms nothing;
//! - **inherited**: it is the first caller's, because Linux shows it only to its own thread, or to none. If the main
//!   thread makes the first call, it is the main thread's;
//! - **new**: a new thread does not inherit it;
//! - **shared**: it belongs to the process, not to a thread.
//!
//! A restriction that only the main thread has (a seccomp filter, Landlock, `no_new_privs`, a smaller bounding set) is
//! that thread's own sandbox. A pinned thread does not have it unless the first caller has it too, or all pinned
//! threads are replaced for an attribute that is *confirmed*.
//!
//! | attribute | how it is treated | read from |
//! |---|---|---|
//! | network, UTS, IPC and cgroup namespace | **set**: home, see below | `ns/` |
//! | mount namespace, root, working directory, umask (`fs_struct`) | **refused** if the caller and the main thread do not share them; in a [`View`](crate::View) the view's, with the caller's working directory | `kcmp(2)`, and `ns/mnt`, `cwd`, `root` |
//! | file descriptor table | **refused** if the caller and the main thread do not share it | `kcmp(2)`, else `fd/` |
//! | pid namespace for children | **refused**: a thread that changed it cannot start threads | `clone(2)` |
//! | time namespace for children | **refused** | `ns/time_for_children` |
//! | user namespace | **shared**: a process with threads cannot change it | |
//! | signal mask | **set**, see below | `SigBlk` |
//! | effective, permitted and inheritable capabilities | **set**, else **refused**; set again at each call: see below | `capget(2)` |
//! | ambient capabilities | **set**, else **refused** | `CapAmb` |
//! | capability bounding set | **refused** if smaller | `CapBnd` |
//! | user, group and supplementary ids (a raw system call changes those of one thread; the C library those of all) | **refused** | `Uid`, `Gid`, `Groups` |
//! | ids for file access (`setfsuid(2)`) | **set**, else **refused** | `Uid`, `Gid` |
//! | `no_new_privs` | **refused** | `NoNewPrivs` |
//! | seccomp mode and filters | **refused** if there are more | `Seccomp`, `Seccomp_filters` |
//! | nice value, scheduling policy and priority, time slice, utilization clamps | **set**, with the meaning of the reset-on-fork flag; **refused** where `CAP_SYS_NICE` is missing | `sched_getattr(2)` |
//! | CPU affinity | **set** | `sched_getaffinity(2)` |
//! | I/O priority | **set**, else **refused** | `ioprio_get(2)` |
//! | core scheduling cookie | **set**, else **refused** | `PR_SCHED_CORE` |
//! | timer slack | **set**; without `CAP_SYS_NICE` to what the main thread began with | `timerslack_ns` |
//! | memory policy | **set** if the main thread has the default, else **refused** if it differs | `get_mempolicy(2)`, `numa_maps` |
//! | personality | **set**, else **refused** | `personality` |
//! | machine check policy (`PR_MCE_KILL`), I/O flusher (`PR_SET_IO_FLUSHER`) | **set**, else **refused** | `stat` |
//! | speculation control (`PR_SET_SPECULATION_CTRL`) | **set**, and **refused** if it was disabled for good | `status` |
//! | threaded cgroup, resctrl group | **refused** | `cgroup`, `cpu_resctrl_groups` |
//! | login uid, audit session | **refused** | `loginuid`, `sessionid` |
//! | attributes of security modules (`SELinux`, `AppArmor`, Smack) | **refused** | `attr/` |
//! | Landlock domain | **inherited** | |
//! | session and process keyring, keyring for requested keys | **confirmed** | `keyctl(2)` |
//! | securebits, "keep capabilities" | **confirmed** | `PR_GET_SECUREBITS` |
//! | time stamp counter and CPUID faulting (`PR_SET_TSC`, `arch_prctl(2)`) | **confirmed** where there is no seccomp filter | `PR_GET_TSC` |
//! | floating-point environment (rounding mode and the like) | **set** to the default, which Rust takes for granted; **inherited** on other architectures than `x86` and arm64 | |
//! | protection key rights, GS base (`arch_prctl(2)`), I/O permissions (`ioperm(2)`) on x86 | **inherited** | |
//! | vector lengths (SVE, SME), tagged addresses, pointer authentication keys on arm64 | **inherited** | |
//! | performance counters with `inherit` | **inherited** | |
//! | alternate signal stack, pending signals, robust futex list, restartable sequences | **new** | |
//! | thread keyring | **new** | |
//! | parent-death signal, timers of the thread, syscall user dispatch, `io_uring` rings registered for a thread | **new** | |
//! | child subreaper, dumpable, transparent huge pages, autogroup, resource limits, signal handlers, memory | **shared** | |
//!
//! # Home
//!
//! Home is the namespaces that the process began in, unless its main thread has moved. A thread that is in another
//! namespace for a moment has not moved, though it cannot be distinguished at that moment. So the main thread counts as
//! moved
//!
//! - if it called [`NetNs::join`](crate::NetNs::join) or [`rootless::enter`](crate::rootless::enter), or
//! - if more threads of the process are in the main thread's namespace than in the one that the process began in, or
//! - if it is the only thread, and the process has no descriptor of the namespace that it began in, which a thread
//!   needs to go back.
//!
//! Where a program moves itself by other means and keeps such a descriptor, call [`init`](crate::init) on the main
//! thread: the namespaces that the thread is in are then home. The crate notes the namespaces of the process before
//! `main`.
//!
//! # Signals
//!
//! A body, and a child process that it starts, blocks the signals that the main thread blocks. Unless the main thread
//! makes the first call itself, its mask is read from `/proc`. A mask that it has only for a moment is not used: that
//! of the C library while it starts a thread or a child, and that of a call that waits for signals (`sigwait(3)`,
//! `ppoll(2)`, `sigsuspend(2)`). During `ppoll(2)` and `sigsuspend(2)` the real mask cannot be read, and a pinned
//! thread blocks the signals that all other threads block. The mask of a signal handler in which the main thread sleeps
//! counts as the main thread's.
//!
//! # What the process may do now
//!
//! **A body may do what the process may do at the moment of the call.** At each call a pooled thread adopts the
//! effective and permitted capabilities that the calling thread and the main thread have then. So a process may drop
//! root after its first call and keep some capabilities, or raise them for one call and lower them again. The call then
//! works, or fails with [`PermissionDenied`](crate::ErrorKind::PermissionDenied), as a plain `setns(2)` would. User and
//! group ids are those of the process, because the C library changes them on all threads.
//!
//! **A caller's own sandbox does not apply to its bodies.** A privilege that only the calling thread has given up
//! (`capset(2)`, seccomp, Landlock, raw changes of its ids) is available to a pooled thread if the main thread has it.
//! [`Call::fresh`](crate::Call::fresh) uses a thread that the caller starts, inside the caller's sandbox. The same is
//! true of files: for a caller that has root, working directory, umask or mounts of its own (`unshare(2)` with
//! `CLONE_FS` or `CLONE_NEWNS`, then `chroot(2)` or `mount(2)`), a pooled body has those of the process, and a fresh
//! one has the caller's.
//!
//! **All other attributes of the table are fixed by the first call**, or by the first one of the main thread. If the
//! main thread sets `no_new_privs`, a seccomp filter or Landlock after that, it does so for itself alone. Do it before
//! the first call, or for all threads at once (`SECCOMP_FILTER_FLAG_TSYNC`). A [`Worker`](crate::Worker) keeps the
//! capabilities that the process had when the worker leased its thread. Where the process changes its user after that,
//! the C library takes them from all threads: the next run leases another thread if the process has kept
//! `CAP_SYS_ADMIN`, and has no capabilities otherwise.
//!
//! # Tables of file descriptors
//!
//! A namespace is entered by the number of a descriptor, and a number is valid in one table only. A thread that has
//! called `unshare(2)` with `CLONE_FILES` has a table of its own. Its calls run on threads that it starts. A handle
//! that was opened in another table, a [`Worker`](crate::Worker), a [`Command`](crate::Command) and a
//! [`NetNsPool`](crate::NetNsPool) are [`Unsupported`](crate::ErrorKind::Unsupported) there. A handle of the
//! table of the process that is dropped in another one is closed by another thread. One of another table stays open,
//! and keeps its namespace.
//!
//! **A thread must unshare its table before its first call.** The crate checks the table once for each thread. A thread
//! that unshares its table later must use [`Call::fresh`](crate::Call::fresh) from then on. Otherwise its body may run
//! in another namespace, and a descriptor that the body returns is another file.
//!
//! **An async call must be polled in the table in which it was first polled**, and the handle of `NetNs::spawn_async`
//! in that of its start: the thread of the call and the executor wake each other by the numbers of descriptors.
//! Elsewhere both are [`Unsupported`](crate::ErrorKind::Unsupported). Then the body of the call is dropped, inside, and
//! that of the handle goes on. They may be dropped, and aborted, in any table. tokio's own objects may be used in one
//! table only, such as a `NetNsRuntime`, and a channel to a task that a body has spawned.
//!
//! A body may unshare its table: no later body gets its thread. What this crate holds for the call is closed in the
//! table that the thread of the call began with. What the body itself has open at that moment stays open there, and
//! keeps the namespace if it is a socket: the body closes it before.
//!
//! # Processes
//!
//! A process that [`NetNs::command`](crate::NetNs::command) starts inherits the attributes of the pinned thread that
//! starts it, which are those on this page, with the capabilities that the process has now. Its signal mask is that of
//! the process, too; `std` only resets `SIGPIPE` to its default.
//!
//! # References
//!
//! `clone(2)`, `credentials(7)`, `capabilities(7)`, `sched(7)`, `namespaces(7)`, `keyrings(7)`, `seccomp(2)`,
//! `prctl(2)`, `signal(7)`, `pthread_create(3)`.
