//! Home: the namespaces that pinned threads start in and go back to, and the state of a thread there.
//!
//! **Promised:** after [`Home::restore`] succeeded, the calling thread is in home's network namespace, and in home's
//! UTS, cgroup and pid-for-children namespaces too wherever the kernel lets it go back to them; and a thread that both
//! inspections call pristine does not differ from the template thread in anything that `Change` names.
//!
//! **Why this mechanism:** the template thread never runs user code, so its state *is* home. Its thread descriptor
//! (`PIDFD_THREAD`, Linux 6.9) takes a thread back to all four namespaces in one `setns`; older kernels get a handle
//! and a `setns` for each. What no `setns` undoes (an unshared file table or `fs_struct`, a mount namespace,
//! capabilities) is compared with the template, and a thread that differs is retired. What only the thread itself can
//! read is in [`pristine`](super::pristine).
//!
//! **What breaks otherwise:** a restore of the network namespace alone leaks the mount namespace that a callback
//! unshared to the next user of the thread (container-libs #1109).
//!
//! Threads for views have root, working directory and umask of their own: see [`files`](super::files).

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::CloneFlags;

use crate::error::{Error, ErrorKind};
use crate::netns::NetNs;
use crate::sys::shortest_call::ShortestCall;
use crate::sys::{self, Capabilities, Kind, Optional, OptionalCalls, ProcTask, Resource, Tid};
use crate::thread::detached::close_elsewhere;

/// See the [module's documentation](self).
pub(crate) struct Home {
    net: NetNs,
    /// The template thread, which the inspections compare with.
    template: Tid,
    capabilities: Capabilities,
    restore_path: RestorePath,
    ipc_namespace: Option<PathBuf>,
    mount_namespace: Option<PathBuf>,
    /// A mount of that namespace, by its unique id, which no other namespace has. Seeing it again proves that the
    /// thread is there, and takes a fifth of the time of a look into `/proc`. `None` where `listmount(2)` is refused: a
    /// refusal takes longer than an answer.
    sentinel_mount: Option<AtomicU64>,
    /// The other namespaces that no `setns` restores here, as they are at home. A change of one is permanent.
    unrestorable: Vec<(Kind, Option<PathBuf>)>,
    sharing: Sharing,
    /// Whether `kcmp(2)` tells about lists of `SEM_UNDO` operations. A change of the IPC namespace leaves the list too.
    compares_semaphore_undo: bool,
    shortest_call: ShortestCall,
}

/// How to find out whether a thread shares root, working directory, umask and file descriptors with the template.
struct Sharing {
    /// Whether `kcmp(2)` told when the template started. Any thread can ask it about any other.
    was_compared: bool,
    /// Where `kcmp(2)` is missing, or a seccomp filter refuses it, as in a container without `CAP_SYS_PTRACE`: the
    /// thread itself tries what only a thread can do that shares, or that does not. A filter may be added later. Where
    /// neither is possible, no thread is ever pristine.
    probe: OnceLock<Probe>,
}

/// What a thread tries on itself. The descriptors are in the table of the template.
struct Probe {
    /// Home's mount namespace. A thread that shares its `fs_struct` gets `EINVAL` for entering it, and is not changed.
    mount_namespace: OwnedFd,
    /// A file in memory, or a pipe, that no other descriptor of the process refers to. Its locks mark the table until a
    /// thread opens and closes it.
    marker: OwnedFd,
    template: Tid,
}

/// The attributes that a thread started by a caller inherited from that caller, where they differ from the template's.
/// Such a thread is compared with its caller, and with its own state at its start.
pub(crate) struct FromCaller {
    caller: Tid,
    /// It does not share root, working directory and umask with the template.
    has_other_files: bool,
    /// It does not share the list of `SEM_UNDO` operations with the template.
    has_other_semaphore_undo: bool,
    /// The namespaces that no `setns` restores, as they were at its start.
    namespaces: Vec<(Kind, Option<PathBuf>)>,
}

/// How a thread goes home.
pub(crate) enum RestorePath {
    /// One `setns` on the template's thread descriptor, for all these kinds at once.
    Combined(OwnedFd, CloneFlags),
    /// One `setns` for each namespace. Only a thread for views goes to that of `ipc`, by home's own path.
    Individual { handles: Vec<(Kind, OwnedFd)>, ipc: Option<OwnedFd> },
}

/// A change that a body made to its thread and that nothing undoes. The thread is retired.
///
/// After each call the thread is compared with its state before its first body; an attribute that can be reset as
/// cheaply is reset instead. This is done after the caller has its value, so only a caller that calls again at once
/// waits for it. A body that is shorter than any system call, such as one that reads a cached value, can have changed
/// nothing of this but the control of the floating-point unit. That is reset, and the thread is not compared.
///
/// | attribute | what is done | µs |
/// |---|---|---:|
/// | network, UTS, cgroup and pid-for-children namespace | restored; compared where home's user namespace cannot restore it | – |
/// | IPC namespace; list of `SEM_UNDO` operations (`semop(2)`), which a change of the former leaves | compared | 0.3 |
/// | mount namespace | compared | 0.4 |
/// | root, working directory, umask; table of file descriptors | compared, whether shared | 0.5 |
/// | of a body in a [`View`](crate::View): mount namespace, root, working directory, umask, IPC namespace | restored; its `SEM_UNDO` operations are undone then | – |
/// | effective, permitted, inheritable capabilities | compared | 0.4 |
/// | capability bounding set, of a thread that has `CAP_SETPCAP` and no seccomp filter | compared, by two `capset(2)` | 1.5 |
/// | ambient capabilities | compared, where the inheritable set is not empty | – |
/// | securebits, keep-capabilities flag | compared | 0.2 |
/// | user ids, group ids, supplementary groups, ids for file access | compared | 1.0 |
/// | `no_new_privs` | compared | 0.2 |
/// | seccomp mode; number of filters, where there are some | compared | 0.2; 3 more |
/// | session, thread and process keyring, place for requested keys | compared | 0.6 |
/// | scheduling policy, nice value, priority, time slice, utilization clamps | compared | 0.2 |
/// | processor affinity, of the first 1,024 processors | compared | 0.2 |
/// | I/O priority | compared | 0.2 |
/// | memory policy (its mode) | compared | 0.2 |
/// | execution domain (`personality`) | compared | 0.1 |
/// | speculation controls | compared | 0.4 |
/// | signals that are pending for it | compared | 0.2 |
/// | alternate signal stack | compared | 0.2 |
/// | use of `io_uring` (Linux 5.18) | looked for before the caller has its value; the call waits for the kernel's threads | 0.3 |
/// | signal mask, timer slack, parent-death signal, name | reset | 0.7 |
/// | rounding and exception control of the floating-point unit | reset | 0.01 |
///
/// Measured on Linux 6.18 in a virtual machine, where entering the kernel costs 0.12 µs of each.
///
/// The following are not compared. A body that changes one of them calls
/// [`retire_current_thread`](crate::retire_current_thread):
///
/// | attribute | why |
/// |---|---|
/// | capability bounding set, of a thread with a seccomp filter | 41 system calls, 5.9 µs, each of which the filter checks |
/// | Landlock domain | the kernel does not tell |
/// | attributes of a security module (`/proc/thread-self/attr`) | a system call for each module and attribute |
/// | time namespace for children | one link of `/proc`, 2.2 µs |
/// | threaded cgroup | one file of `/proc`, 3.3 µs |
/// | login uid and audit session (`/proc/thread-self/loginuid`) | one file of `/proc`; `pam_loginuid(8)` alone sets it |
/// | syscall user dispatch (`PR_SET_SYSCALL_USER_DISPATCH`), GS base (`ARCH_SET_GS`), I/O permissions (`ioperm(2)`) | for emulators alone |
/// | resource monitoring group (`resctrl`) | the tasks file of each group |
/// | nodes of a memory policy; machine-check policy; flushes of the L1 data cache (`PR_SPEC_L1D_FLUSH`); `PR_SET_IO_FLUSHER`; trapping of time stamp counter and CPUID; core scheduling cookie; protection keys | rare, 0.2 µs each |
/// | timers that signal the thread (`SIGEV_THREAD_ID`), perf events | they are the process's, by id and by descriptor |
/// | robust futex list, `set_tid_address`, `rseq` | they belong to the C library |
/// | processor time of the thread | it counts all bodies |
/// | thread-local variables of the program | they are the program's |
///
/// Where a seccomp filter refuses `kcmp(2)`, as in a container without `CAP_SYS_PTRACE`, the thread itself tries what
/// only a thread can do that shares its filesystem attributes and its descriptors. This takes `CAP_SYS_CHROOT`. It does
/// not detect a body that stopped sharing its filesystem attributes and then started a thread that is still running. A
/// change of an attribute that a filter refuses to read (keyrings, memory policy, scheduling) is not detected either;
/// most filters refuse the change too. Nor is it where a filter refuses to start processes (`clone(2)`): then it is not
/// known which calls kill, and none of those that may is made.
///
/// Under a filter, each pinned thread keeps a file of `/proc` open, so that `umount(2)` of that `/proc` takes
/// `MNT_DETACH`.
///
/// A filter that is added to another one is detected by the number of filters (`/proc/thread-self/status`, Linux 5.9),
/// before the library makes a system call that it may kill for. It is not detected where `/proc` does not report the
/// number, nor where another thread adds the filter to all threads (`SECCOMP_FILTER_FLAG_TSYNC`) in the microseconds of
/// an inspection. A filter must allow the calls that every inspection makes: those without an alternative, such as
/// `setns(2)` and `capget(2)`. For what it forbids it must return an error or kill the process. If it kills the thread
/// alone (`SECCOMP_RET_KILL_THREAD`, `SCMP_ACT_KILL` of libseccomp) for a call of a body, the caller waits without end,
/// because the body may have lent what it borrows to other threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Its `fs_struct` is its own (`unshare(2)` with `CLONE_FS` or `CLONE_NEWNS`): root, working directory and umask
    /// may differ.
    Filesystem,
    /// It is in another mount namespace.
    MountNamespace,
    /// Its table of file descriptors is its own (`CLONE_FILES`).
    FileTable,
    /// Its effective, permitted, inheritable or ambient capabilities differ, or its securebits, or its bounding set.
    Capabilities,
    /// Its user or group ids differ, in this thread alone: by raw system calls, or `setfsuid(2)`.
    Ids,
    /// It set `no_new_privs`.
    NoNewPrivs,
    /// A seccomp filter was added.
    Seccomp,
    /// It joined another session keyring, or has a thread or process keyring, or another place for requested keys.
    Keyring,
    /// Its scheduling policy, nice value, priority, time slice, utilization clamps, processor affinity or I/O priority
    /// differ. Another program may have changed them: a cpuset of a cgroup, `taskset(1)`, `renice(1)`. Each thread that
    /// was there then is retired after its next call.
    Scheduling,
    /// Its memory policy differs.
    MemoryPolicy,
    /// Its execution domain differs (`personality(2)`).
    Personality,
    /// Its speculation controls differ (`PR_SET_SPECULATION_CTRL(2const)`).
    Speculation,
    /// A signal that it blocks is pending for it alone. The signal is never delivered: the thread exits with it.
    PendingSignal,
    /// Its alternate signal stack differs.
    SignalStack,
    /// It used `io_uring(7)`. The kernel's workers for it stay in the namespace that they were started in.
    IoUring,
    /// It is in another IPC namespace; or in another UTS, cgroup or pid-for-children namespace, from which home's user
    /// namespace does not allow it to return.
    Namespace,
    /// It stopped sharing the list of `SEM_UNDO` operations (`unshare(2)` with `CLONE_SYSVSEM`).
    SemaphoreUndo,
    /// It could not be determined, and is treated as changed: neither `kcmp(2)` nor `CAP_SYS_CHROOT` is available,
    /// `/proc` cannot be read, or a seccomp filter of the calling thread alone forbids `kcmp(2)`.
    Unknown,
}

impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Change::Filesystem => "it stopped sharing root, working directory and umask",
            Change::MountNamespace => "it changed its mount namespace",
            Change::FileTable => "it stopped sharing the file descriptor table",
            Change::Capabilities => "its capabilities changed",
            Change::Ids => "its user or group ids changed",
            Change::NoNewPrivs => "it set no_new_privs",
            Change::Seccomp => "it added a seccomp filter",
            Change::Keyring => "its keyrings changed",
            Change::Scheduling => "its scheduling, affinity or I/O priority changed",
            Change::MemoryPolicy => "its memory policy changed",
            Change::Personality => "its execution domain changed",
            Change::Speculation => "it changed its speculation controls",
            Change::PendingSignal => "a signal is pending for it",
            Change::SignalStack => "it changed its alternate signal stack",
            Change::IoUring => "it used io_uring, whose kernel threads stay in the namespace",
            Change::Namespace => "it changed a namespace that cannot be restored",
            Change::SemaphoreUndo => "it stopped sharing the list of semaphore operations to undo",
            Change::Unknown => {
                "whether it changed could not be determined (neither kcmp(2) nor CAP_SYS_CHROOT, or no /proc)"
            }
        })
    }
}

impl Home {
    /// Makes the calling thread, which is the template, home.
    pub(crate) fn here() -> Result<Home, Error> {
        let template = sys::current_tid();
        let net = NetNs::current()?;
        let capabilities = sys::capabilities_of(template)
            .map_err(|errno| Error::from_errno("read the template thread's capabilities (capget)", errno))?;
        let calls = OptionalCalls::find().map_err(|(_, errno)| match errno {
            Errno::EMFILE | Errno::ENFILE => Error::from_errno("read /proc/thread-self/status", errno),
            _ => Error::spawn_failed("a child process, which tries what a seccomp filter allows", errno.into()),
        })?;
        let sharing = Sharing::find(template, calls)?;
        let (restore_path, mut final_kinds) = RestorePath::find(template)?;
        let compares_semaphore_undo =
            sharing.was_compared && sys::share_where_harmless(Resource::SemaphoreUndo, template, template) == Ok(true);
        if !compares_semaphore_undo {
            final_kinds.push(Kind::Ipc);
        }
        let namespace_here = |kind: Kind| {
            namespace_of_current_thread(kind).map_err(|source| {
                let operation = format!("read /proc/thread-self/ns/{} of the template thread", kind.file());
                Error::from_io(ErrorKind::Other, operation, source)
            })
        };
        let (ipc_namespace, mount_namespace) = (namespace_here(Kind::Ipc)?, namespace_here(Kind::Mount)?);
        let sentinel_mount = sentinel_mount(calls).map(AtomicU64::new);
        let unrestorable =
            final_kinds.into_iter().map(|kind| Ok((kind, namespace_here(kind)?))).collect::<Result<_, Error>>()?;
        sys::descriptor_table::is_that_of_current_thread(close_elsewhere);
        Ok(Home {
            net,
            template,
            capabilities,
            restore_path,
            ipc_namespace,
            mount_namespace,
            sentinel_mount,
            unrestorable,
            sharing,
            compares_semaphore_undo,
            shortest_call: ShortestCall::measure(),
        })
    }

    /// The capabilities of the template when it was started.
    pub(crate) fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// The network namespace.
    pub(crate) fn net(&self) -> &NetNs {
        &self.net
    }

    /// Takes the calling thread home, whatever it did to its namespaces.
    pub(crate) fn restore(&self) -> Result<(), Error> {
        self.restore_by(&self.restore_path)
    }

    /// As [`Home::restore`], by the thread's own descriptors.
    pub(crate) fn restore_by(&self, path: &RestorePath) -> Result<(), Error> {
        self.explain_restore(path.setns(CloneFlags::all()))
    }

    /// As [`Home::restore`], for a thread for views, which may have entered the IPC namespace of a process.
    pub(crate) fn restore_of_view(&self) -> Result<(), Error> {
        let restored = self.restore();
        let ipc = match self.restore_path.go_to_ipc() {
            // A refusal does not matter where the thread has not moved.
            Err(_) if is_in(Kind::Ipc, self.ipc_namespace.as_deref()) == Some(true) => Ok(()),
            result => self.explain_restore(result),
        };
        restored.and(ipc)
    }

    /// As [`Home::restore`], for a thread that has changed its network namespace and no other.
    pub(crate) fn restore_network(&self) -> Result<(), Error> {
        self.explain_restore(sys::setns(self.net.as_fd(), CloneFlags::CLONE_NEWNET))
    }

    /// Takes the calling thread back to the network namespace alone, by the thread's own descriptors if it has some. It
    /// is an error too where the thread is there already and the kernel refuses.
    pub(crate) fn enter_network(&self, path: Option<&RestorePath>) -> Result<(), Error> {
        let entered = match path {
            Some(path) => path.setns(CloneFlags::CLONE_NEWNET),
            None => sys::setns(self.net.as_fd(), CloneFlags::CLONE_NEWNET),
        };
        entered.map_err(|errno| self.restore_failed(errno))
    }

    fn explain_restore(&self, restored: nix::Result<()>) -> Result<(), Error> {
        match restored {
            // Without `CAP_SYS_ADMIN` the kernel refuses even where there is nothing to do.
            Err(_) if self.is_where_thread_is() => Ok(()),
            result => result.map_err(|errno| self.restore_failed(errno)),
        }
    }

    fn restore_failed(&self, errno: Errno) -> Error {
        let operation = format!("go back home to {} (setns)", self.net);
        let error = Error::from_errno(operation, errno).explain_closed();
        let may_administer = |thread| sys::capabilities_of(thread).is_ok_and(|its| its.has(sys::CAP_SYS_ADMIN));
        // A change of the user takes the capability from the template too.
        let has_given_up =
            errno == Errno::EPERM && !may_administer(sys::current_tid()) && may_administer(self.template);
        let error = if has_given_up { error.explain_given_up() } else { error };
        error.explain_entering(self.net.as_fd())
    }

    /// The path home with descriptors of the calling thread's table. In another table than the template's, the numbers
    /// of home's own descriptors are other files, or none.
    pub(crate) fn restore_path_for_current(&self) -> nix::Result<RestorePath> {
        match &self.restore_path {
            RestorePath::Combined(_, kinds) => {
                sys::pidfd_of_thread(self.template).map(|pidfd| RestorePath::Combined(pidfd, *kinds))
            }
            RestorePath::Individual { handles, .. } => {
                let open = |kind: Kind| Ok((kind, kind.open_of_thread(self.template)?));
                let handles = handles.iter().map(|(kind, _)| open(*kind)).collect::<nix::Result<_>>()?;
                Ok(RestorePath::Individual { handles, ipc: None })
            }
        }
    }

    /// The time below which a body has made no system call.
    pub(crate) fn shortest_call(&self) -> &ShortestCall {
        &self.shortest_call
    }

    /// Whether another thread of the process can do a part of an inspection: [`Home::inspect_from_anywhere`].
    pub(crate) fn can_be_assisted(&self) -> bool {
        self.sharing.was_compared && self.sharing.probe.get().is_none()
    }

    /// Prepares the inspections of the threads that the calling thread, a template, starts: a seccomp filter that was
    /// added to all threads of the process may refuse them `kcmp(2)`.
    pub(super) fn prepare_inspections(&self) {
        if !self.can_be_assisted() {
            return;
        }
        // Where there is no room for a child process that tries the calls, the next start of a thread finds out.
        let Ok(calls) = OptionalCalls::find() else { return };
        let is_told =
            calls.has(Optional::Kcmp) && sys::share_where_harmless(Resource::Fs, self.template, self.template).is_ok();
        if !is_told {
            // As above.
            let _ = self.sharing.prepare_probe(self.template, calls);
        }
    }

    /// Whether the calling thread is in home's namespaces of every kind that a restore covers. To be called only after
    /// a failure: it reads `/proc`, which must be the one that the template sees.
    fn is_where_thread_is(&self) -> bool {
        let Ok(template) = sys::directory_of_thread(self.template) else { return false };
        let same = |kind: &Kind| {
            let of_template = sys::namespace_of_task(&template, *kind);
            match (sys::namespace_of(ProcTask::Current, *kind), of_template) {
                (Ok(here), Ok(home)) => here == home,
                // A kernel without this kind.
                (Err(_), Err(_)) => *kind != Kind::Net,
                _ => false,
            }
        };
        self.sees_same_files() && Kind::RESTORABLE.iter().all(same)
    }

    /// Whether the calling thread is in a network namespace, whatever its restore said.
    pub(crate) fn is_thread_in(&self, netns: &NetNs) -> bool {
        self.sees_same_files() && netns.is_current().unwrap_or(false)
    }

    /// The thread whose root is that of the process: the template shares it with all threads that have none of their
    /// own.
    pub(super) fn template(&self) -> Tid {
        self.template
    }

    /// Whether the calling thread shares root and mount namespace with the template, as far as the kernel tells.
    fn sees_same_files(&self) -> bool {
        sys::share(Resource::Fs, self.template, sys::current_tid()).unwrap_or(true)
    }

    /// The attributes that the calling thread, which `caller` has started and which has run no user code, inherited
    /// from that caller. `None` where it is like a thread that the template started.
    pub(crate) fn differences_by_caller(&self, caller: Tid, calls: OptionalCalls) -> Option<FromCaller> {
        let compares = self.can_be_assisted() && calls.has(Optional::Kcmp);
        let is_apart =
            |resource| compares && sys::share_where_harmless(resource, self.template, sys::current_tid()) == Ok(false);
        let has_other_files = is_apart(Resource::Fs);
        let has_other_semaphore_undo = self.compares_semaphore_undo && is_apart(Resource::SemaphoreUndo);
        // A thread that shares its files with the template is assumed to be in the template's mount namespace.
        let mount = (has_other_files || !compares).then_some((Kind::Mount, self.mount_namespace.as_deref()));
        let ipc = has_other_semaphore_undo.then_some((Kind::Ipc, self.ipc_namespace.as_deref()));
        let unrestorable = self.unrestorable.iter().map(|(kind, at_home)| (*kind, at_home.as_deref()));
        let differs = |(kind, at_home)| is_in(kind, at_home) == Some(false);
        let has_other_namespaces = unrestorable.clone().chain(mount).chain(ipc).any(differs);
        if !(has_other_files || has_other_semaphore_undo || has_other_namespaces) {
            return None;
        }
        let kinds = unrestorable.map(|(kind, _)| kind).chain([Kind::Mount]).chain(ipc.map(|(kind, _)| kind));
        let begun_with = |kind| namespace_of_current_thread(kind).ok().map(|namespace| (kind, namespace));
        let namespaces = kinds.filter_map(begun_with).collect();
        Some(FromCaller { caller, has_other_files, has_other_semaphore_undo, namespaces })
    }

    /// Compares a thread with the template in the attributes that any thread of the process can see: whether it shares
    /// root, working directory, umask and file descriptors, and which capabilities it has. `calls` are those of the
    /// calling thread.
    ///
    /// `capabilities` are those that the thread's lease began with. A thread for views has its own files: they are
    /// restored, and not compared. A thread that a caller started is compared with that caller in what it has
    /// `from_caller`. The body must have ended; the restore of the namespaces may still be under way.
    pub(crate) fn inspect_from_anywhere(
        &self,
        thread: u32,
        capabilities: Capabilities,
        own_files: bool,
        from_caller: Option<&FromCaller>,
        calls: OptionalCalls,
    ) -> Result<(), Change> {
        let thread = i32::try_from(thread).map(Tid::from_raw).map_err(|_| Change::Unknown)?;
        let like = |is_from_caller: fn(&FromCaller) -> bool| {
            from_caller.filter(|from| is_from_caller(from)).map_or(self.template, |from| from.caller)
        };
        match self.sharing.probe.get() {
            None if self.sharing.was_compared && calls.has(Optional::Kcmp) => {
                if !own_files {
                    self.share(Resource::Fs, like(|from| from.has_other_files), thread, Change::Filesystem)?;
                    let like = like(|from| from.has_other_semaphore_undo);
                    self.compare_semaphore_undo(like, thread, from_caller)?;
                }
                self.share(Resource::Files, self.template, thread, Change::FileTable)?;
            }
            Some(probe) if thread == sys::current_tid() => probe.by_current_thread(own_files)?,
            _ => return Err(Change::Unknown),
        }
        match sys::capabilities_of(thread) {
            // The thread itself compares the inheritable set: see `bounding_set`.
            Ok(its) if (its.effective, its.permitted) == (capabilities.effective, capabilities.permitted) => Ok(()),
            Ok(_) => Err(Change::Capabilities),
            Err(_) => Err(Change::Unknown),
        }
    }

    fn share(&self, resource: Resource, like: Tid, thread: Tid, change: Change) -> Result<(), Change> {
        match sys::share_where_harmless(resource, like, thread) {
            Ok(true) => Ok(()),
            Ok(false) => Err(change),
            // The caller of an async call has exited. Its fresh thread exits as well.
            Err(Errno::ESRCH) if like != self.template => Ok(()),
            Err(_) => Err(Change::Unknown),
        }
    }

    /// Compares the list of `SEM_UNDO` operations. Not for threads for views: they leave the list when they return to
    /// home's IPC namespace.
    fn compare_semaphore_undo(&self, like: Tid, thread: Tid, from_caller: Option<&FromCaller>) -> Result<(), Change> {
        if !self.compares_semaphore_undo {
            return Ok(());
        }
        let has_other_ipc_namespace = || {
            let begun = from_caller.and_then(|from| from.namespaces.iter().find(|(kind, _)| *kind == Kind::Ipc));
            let before = begun.map_or(&self.ipc_namespace, |(_, namespace)| namespace);
            let task = sys::directory_of_thread(thread).ok();
            task.and_then(|task| sys::namespace_of_task(&task, Kind::Ipc).ok()) != *before
        };
        self.share(Resource::SemaphoreUndo, like, thread, Change::SemaphoreUndo).map_err(|change| match change {
            Change::SemaphoreUndo if has_other_ipc_namespace() => Change::Namespace,
            change => change,
        })
    }

    /// Compares the calling thread, which is restored, with the template in the namespaces that no restore takes it
    /// back to. No other thread can compare these as cheaply.
    ///
    /// The mount namespace is one of them. Threads that share an `fs_struct` may be in different mount namespaces:
    /// `setns` on a process with `CLONE_NEWNS` and another flag changes the mount namespace and leaves the `fs_struct`
    /// shared (measured on Linux 6.18).
    ///
    /// `namespaces` is the directory of the thread's namespaces, where it keeps that open.
    pub(crate) fn inspect_from_within(
        &self,
        from_caller: Option<&FromCaller>,
        calls: OptionalCalls,
        namespaces: Option<BorrowedFd<'_>>,
    ) -> Result<(), Change> {
        let is_still_in = |kind, before: Option<&Path>| {
            let now = namespaces.map(|namespaces| sys::namespace_in(namespaces, kind));
            // A body may have closed the directory.
            if let (Some(Ok(now)), Some(before)) = (now, before) { Some(now == before) } else { is_in(kind, before) }
        };
        let compare = |(kind, before): (Kind, Option<&Path>)| match is_still_in(kind, before) {
            Some(true) => Ok(()),
            Some(false) if kind == Kind::Mount => Err(Change::MountNamespace),
            Some(false) => Err(Change::Namespace),
            None => Err(Change::Unknown),
        };
        if let Some(from_caller) = from_caller {
            return from_caller.namespaces.iter().try_for_each(|(kind, begun)| compare((*kind, begun.as_deref())));
        }
        let sentinel = self.sentinel_mount.as_ref().filter(|_| calls.has(Optional::ListMount));
        let listed = sentinel.is_some_and(|sentinel| sys::has_mount(sentinel.load(Ordering::Relaxed)));
        if !listed {
            compare((Kind::Mount, self.mount_namespace.as_deref()))?;
            // The namespace is the same, and that mount is gone: another one takes its place.
            if let Some(sentinel) = sentinel {
                sentinel.store(sentinel_mount(calls).unwrap_or(NO_MOUNT), Ordering::Relaxed);
            }
        }
        // A change of the IPC namespace leaves the list of `SEM_UNDO` operations, which only `kcmp(2)` can compare.
        if self.compares_semaphore_undo && !self.can_be_assisted() {
            compare((Kind::Ipc, self.ipc_namespace.as_deref()))?;
        }
        self.unrestorable.iter().try_for_each(|(kind, at_home)| compare((*kind, at_home.as_deref())))
    }
}

/// Whether the calling thread is in this namespace of a kind. `None` where `/proc` does not tell.
fn is_in(kind: Kind, namespace: Option<&Path>) -> Option<bool> {
    match namespace_of_current_thread(kind) {
        Ok(now) if now.as_deref() == namespace => Some(true),
        // Where `/proc` is covered, it shows none of any kind.
        Ok(None) if !matches!(namespace_of_current_thread(Kind::Net), Ok(Some(_))) => None,
        Ok(_) => Some(false),
        Err(_) => None,
    }
}

/// The namespace of a kind that the calling thread is in. `None`: the kernel has no such kind, or the namespace is one
/// for child processes that no process is in yet.
fn namespace_of_current_thread(kind: Kind) -> io::Result<Option<PathBuf>> {
    match sys::namespace_of(ProcTask::Current, kind) {
        Ok(namespace) => Ok(Some(namespace)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// No mount has this id.
const NO_MOUNT: u64 = 0;

/// Some mount of the calling thread's mount namespace. `None` where the kernel does not report it.
fn sentinel_mount(calls: OptionalCalls) -> Option<u64> {
    if !calls.has(Optional::ListMount) {
        return None;
    }
    match sys::first_mount() {
        Ok(mount) => Some(mount),
        // The next inspection asks again.
        Err(Errno::ENOMEM) => Some(NO_MOUNT),
        Err(_) => None,
    }
}

/// Whether the kernel lets the calling thread return to a namespace of home, in which it is. What it refuses here is
/// never tried again, so a want of memory, which passes, is an error.
fn may_return_to(namespace: &OwnedFd, kind: Kind) -> Result<bool, Error> {
    match sys::setns(namespace, kind.flag()) {
        Ok(()) => Ok(true),
        Err(errno @ Errno::ENOMEM) => {
            Err(Error::from_errno(format!("enter the {} namespace of home (setns)", kind.file()), errno))
        }
        Err(_) => Ok(false),
    }
}

impl Sharing {
    fn find(template: Tid, calls: OptionalCalls) -> Result<Sharing, Error> {
        let was_compared =
            calls.has(Optional::Kcmp) && sys::share_where_harmless(Resource::Fs, template, template) == Ok(true);
        let sharing = Sharing { was_compared, probe: OnceLock::new() };
        if !was_compared {
            sharing.prepare_probe(template, calls).map_err(|errno| {
                Error::from_errno("open what tells which files the template thread shares with others", errno)
            })?;
        }
        Ok(sharing)
    }

    /// To be called on a template. Nothing changes where the probe is not possible here.
    fn prepare_probe(&self, template: Tid, calls: OptionalCalls) -> nix::Result<()> {
        if let Some(probe) = sys::unless_short(Probe::prepare(template, calls))? {
            let _ = self.probe.set(probe);
        }
        Ok(())
    }
}

impl Probe {
    /// Prepares it on the template. An error where one of the two operations cannot be tried here.
    fn prepare(template: Tid, calls: OptionalCalls) -> nix::Result<Probe> {
        let memory_file =
            calls.has(Optional::MemfdCreate).then(|| sys::readings::memory_file(c"in-netns").ok()).flatten();
        let marker = match memory_file {
            Some(file) => file,
            // The other end is closed before the mark is made.
            None => nix::unistd::pipe2(OFlag::O_CLOEXEC)?.1,
        };
        sys::mark_descriptor_table(&marker)?;
        let probe = Probe { mount_namespace: Kind::Mount.open(ProcTask::Current)?, marker, template };
        // The template shares with itself, so any other result means that the operations do not tell.
        probe.by_current_thread(false).map_err(|_| Errno::EOPNOTSUPP).map(|()| probe)
    }

    /// Finds out whether the calling thread shares with the template.
    ///
    /// If its `fs_struct` is shared at all, it is assumed to be shared with the template. So a body that unshared it
    /// and started a thread that is still running is not detected.
    fn by_current_thread(&self, own_files: bool) -> Result<(), Change> {
        if !own_files {
            match sys::setns(&self.mount_namespace, CloneFlags::CLONE_NEWNS) {
                Err(Errno::EINVAL) => {}
                Ok(()) => return Err(Change::Filesystem),
                // Without `CAP_SYS_CHROOT`.
                Err(_) => return Err(Change::Unknown),
            }
        }
        let is_marked = sys::has_marked_descriptor_table(&self.marker);
        match is_marked
            .and_then(|marked| marked.map_or_else(|| sys::descriptor_table::is_shared_with(self.template), Ok))
        {
            Ok(true) => Ok(()),
            // The errors mean that the number is no file in the table, or one that has no locks.
            Ok(false) | Err(Errno::EBADF | Errno::EINVAL) => Err(Change::FileTable),
            Err(_) => Err(Change::Unknown),
        }
    }
}

impl RestorePath {
    /// Takes the calling thread back to the namespaces of some kinds.
    fn setns(&self, wanted: CloneFlags) -> nix::Result<()> {
        match self {
            RestorePath::Combined(template, kinds) => sys::setns(template, *kinds & wanted),
            RestorePath::Individual { handles, .. } => handles
                .iter()
                .filter(|(kind, _)| wanted.contains(kind.flag()))
                .try_for_each(|(kind, handle)| sys::setns(handle, kind.flag())),
        }
    }

    /// To home's IPC namespace.
    fn go_to_ipc(&self) -> nix::Result<()> {
        match self {
            RestorePath::Combined(template, _) => sys::setns(template, Kind::Ipc.flag()),
            RestorePath::Individual { ipc, .. } => {
                ipc.as_ref().map_or(Ok(()), |handle| sys::setns(handle, Kind::Ipc.flag()))
            }
        }
    }

    /// Tries each kind with a `setns` from home to home. A kind that the kernel refuses here, such as the UTS namespace
    /// of a parent user namespace, would be refused at each restore: these kinds are the second part of the result.
    ///
    /// The network namespace is always part of the path: where it is refused (a process that entered a user namespace
    /// and kept its parent's network), each restore must fail and be reported.
    fn find(template: Tid) -> Result<(RestorePath, Vec<Kind>), Error> {
        let mut refused = Vec::new();
        match sys::pidfd_of_thread(template) {
            Ok(pidfd) => {
                let mut kinds = CloneFlags::CLONE_NEWNET;
                for kind in &Kind::RESTORABLE[1..] {
                    if may_return_to(&pidfd, *kind)? {
                        kinds |= kind.flag();
                    } else {
                        refused.push(*kind);
                    }
                }
                Ok((RestorePath::Combined(pidfd, kinds), refused))
            }
            Err(errno @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM)) => {
                Err(Error::from_errno("open a descriptor of the template thread (pidfd_open)", errno))
            }
            // Before Linux 6.9 (EINVAL), before 5.3 (ENOSYS), or under a filter, which may answer anything.
            Err(_) => {
                // None where the kernel lacks the kind.
                let open = |kind: Kind| match kind.open(ProcTask::Current) {
                    Err(Errno::ENOENT) if kind != Kind::Net => Ok(None),
                    opened => opened.map(Some).map_err(|errno| {
                        let operation = format!("open /proc/thread-self/ns/{} of the template thread", kind.file());
                        Error::from_errno(operation, errno)
                    }),
                };
                let mut handles = Vec::new();
                for kind in Kind::RESTORABLE {
                    match open(kind)? {
                        Some(handle) if kind == Kind::Net || may_return_to(&handle, kind)? => {
                            handles.push((kind, handle));
                        }
                        _ => refused.push(kind),
                    }
                }
                Ok((RestorePath::Individual { handles, ipc: open(Kind::Ipc)? }, refused))
            }
        }
    }
}
