//! Which operations this process may do, and the causes of refusals. Both are found by trying.
//!
//! The descriptions of causes and remedies are only here; the messages of [`Error`](crate::Error)s quote them.

pub(crate) mod explain;

use std::fmt;
use std::fs;
use std::os::fd::AsFd;
use std::thread::Builder;

use nix::errno::Errno;
use nix::sched::CloneFlags;

use crate::error::shortage;
use crate::sys::before_main::{self, Refusal, State, Step};
use crate::sys::inherited::Inherited;
use crate::sys::{self, Kind, ProcTask};

/// What the calling thread may do with network namespaces: see [`privileges`].
#[derive(Clone, Debug)]
pub struct Privileges {
    make: Result<(), Cause>,
    enter: Result<(), Cause>,
    go_back: Result<(), Cause>,
}

/// Finds out whether network namespaces can be made and entered here, and if not, why.
///
/// It makes one, enters it and goes back, on a thread of its own with the calling thread's capabilities; neither the
/// calling thread nor anything else moves. Where the capability is missing it also tries, in a child process that
/// exits at once, whether the process could enter a user namespace of its own. It takes about two milliseconds.
///
/// # Examples
///
/// ```
/// # in_netns::rootless!();
/// let privileges = in_netns::privileges();
/// println!("{privileges}");
/// if let Some(cause) = privileges.cause() {
///     println!("what to do: {}", cause.way_out());
/// }
/// # assert!(privileges.can_make() && privileges.can_enter() && privileges.can_go_back());
/// ```
#[must_use]
pub fn privileges() -> Privileges {
    let same = |cause: Cause| Privileges { make: Err(cause.clone()), enter: Err(cause.clone()), go_back: Err(cause) };
    match Builder::new().name("in-netns-probe".into()).spawn(probe).map(std::thread::JoinHandle::join) {
        Ok(Ok(found)) => found,
        Ok(Err(_)) => same(Cause::Other { os_error: None }),
        Err(error) => same(Cause::Other { os_error: error.raw_os_error() }),
    }
}

impl Privileges {
    /// Whether a network namespace can be made, with its loopback up.
    #[must_use]
    pub fn can_make(&self) -> bool {
        self.make.is_ok()
    }

    /// Whether a network namespace can be entered that belongs to the process's own user namespace.
    #[must_use]
    pub fn can_enter(&self) -> bool {
        self.enter.is_ok()
    }

    /// Whether a thread can go back home from there. Where it cannot, calls work, and each leaves a poisoned thread.
    #[must_use]
    pub fn can_go_back(&self) -> bool {
        self.go_back.is_ok()
    }

    /// Why one of these operations is not possible. `None` if all are.
    #[must_use]
    pub fn cause(&self) -> Option<&Cause> {
        let Privileges { make, enter, go_back } = self;
        [make, enter, go_back].into_iter().find_map(|can| can.as_ref().err())
    }
}

impl fmt::Display for Privileges {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(cause) = self.cause() else {
            return out.write_str("network namespaces can be made and entered");
        };
        let missing = match (self.can_make(), self.can_enter()) {
            (false, false) => "network namespaces can be neither made nor entered",
            (false, true) => "network namespaces can be entered, but not made",
            (true, false) => "network namespaces can be made, but not entered",
            (true, true) => "network namespaces can be made and entered, but not left for home",
        };
        write!(out, "{missing}: {cause}: {}", cause.way_out())
    }
}

/// Why the kernel refuses. The [`Display`](fmt::Display) form says what is wrong, [`Cause::way_out`] what to do about
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// `CAP_SYS_ADMIN` is missing. The process could enter a user namespace of its own, where it has that capability.
    NoCapability,
    /// `CAP_NET_ADMIN` is missing, without which the loopback of a new network namespace stays down.
    NoNetAdmin,
    /// `CAP_SYS_ADMIN` is missing, and a switch of the system forbids user namespaces.
    #[non_exhaustive]
    UserNamespacesDisabled {
        /// The switch: `user.max_user_namespaces`, or `kernel.unprivileged_userns_clone` of Debian and others.
        sysctl: &'static str,
    },
    /// `CAP_SYS_ADMIN` is missing, and `AppArmor` (Ubuntu since 23.10) makes a user namespace useless.
    AppArmor,
    /// A seccomp filter forbids it, such as that of a container.
    Seccomp,
    /// The limit of namespaces is reached.
    #[non_exhaustive]
    Limit {
        /// The limit: `user.max_net_namespaces`, `user.max_mnt_namespaces` or `user.max_user_namespaces`.
        sysctl: &'static str,
    },
    /// Uid 0 lacks `CAP_SYS_ADMIN`, and lacks `CAP_SETFCAP`, without which root may not be mapped into a user
    /// namespace (Linux 5.12).
    RootWithoutSetfcap,
    /// `CAP_SYS_ADMIN` is missing, and the process may not map itself into a user namespace, because it is not dumpable
    /// (`PR_SET_DUMPABLE(2const)`): it changed its user or group since it started, or its program file cannot be read.
    NotDumpable,
    /// `CAP_SYS_ADMIN` is missing, and the user or group of the process is not mapped in its user namespace, as in one
    /// without a map. Linux makes no user namespace for it.
    NotMapped,
    /// `CAP_SYS_ADMIN` is missing, and it was too late to enter a user namespace: there were threads already.
    Threads,
    /// The process has entered a user namespace and kept a network namespace that does not belong to it.
    HomeNotOwned,
    /// Something else: a lack of descriptors, memory or threads, a security module, a chroot, `/proc` that is not
    /// mounted, a kernel without namespaces.
    #[non_exhaustive]
    Other {
        /// What the kernel said, as `errno(3)` numbers it.
        os_error: Option<i32>,
    },
}

/// The consequence of a missing `CAP_NET_ADMIN`.
const LOOPBACK: &str = "without which the loopback of a new network namespace stays down";
const MAX_USER: &str = "user.max_user_namespaces";
/// The limit of network namespaces (`namespaces(7)`).
pub(crate) const MAX_NET: &str = "user.max_net_namespaces";
/// The limit of mount namespaces.
pub(crate) const MAX_MNT: &str = "user.max_mnt_namespaces";
const DEBIAN_CLONE: &str = "kernel.unprivileged_userns_clone";
const APPARMOR: &str = "kernel.apparmor_restrict_unprivileged_userns";

impl fmt::Display for Cause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_missing_capability() {
            out.write_str("CAP_SYS_ADMIN is missing")?;
        }
        if let Some(detail) = self.detail() {
            write!(out, "{}{detail}", if self.is_missing_capability() { ", and " } else { "" })?;
        }
        match self {
            Cause::Other { os_error: Some(os_error) } => write!(out, " (os error {os_error})"),
            _ => Ok(()),
        }
    }
}

impl Cause {
    /// Whether `CAP_SYS_ADMIN` is missing in the process's own user namespace.
    fn is_missing_capability(&self) -> bool {
        match self {
            Cause::NoCapability
            | Cause::UserNamespacesDisabled { .. }
            | Cause::AppArmor
            | Cause::RootWithoutSetfcap
            | Cause::NotDumpable
            | Cause::NotMapped
            | Cause::Threads => true,
            Cause::NoNetAdmin | Cause::Seccomp | Cause::Limit { .. } | Cause::HomeNotOwned | Cause::Other { .. } => {
                false
            }
        }
    }

    /// The cause, apart from a missing capability and from the errno.
    fn detail(&self) -> Option<String> {
        Some(match self {
            Cause::NoCapability => return None,
            Cause::NoNetAdmin => format!("CAP_NET_ADMIN is missing, {LOOPBACK}"),
            Cause::UserNamespacesDisabled { sysctl } => format!("user namespaces are disabled ({sysctl} is 0)"),
            Cause::AppArmor => format!("AppArmor restricts user namespaces ({APPARMOR})"),
            Cause::Seccomp => {
                "a seccomp filter forbids it, as in a container or in a systemd unit with `RestrictNamespaces=`".into()
            }
            Cause::Limit { sysctl } => match sys_value(sysctl) {
                Some(limit) => {
                    format!("no more namespaces are allowed ({sysctl} is {limit} here, and counts above it too)")
                }
                None => format!("no more namespaces are allowed ({sysctl})"),
            },
            Cause::RootWithoutSetfcap => {
                "uid 0 without CAP_SETFCAP may not map itself into a user namespace as others may".into()
            }
            Cause::NotDumpable => {
                "a process that has changed its user or group, or whose program file it cannot read, may not map \
                 itself into a user namespace (it is not dumpable)"
                    .into()
            }
            Cause::NotMapped => {
                "the user or group of this process is not mapped in its user namespace, and so may not make another \
                 user namespace"
                    .into()
            }
            Cause::Threads => {
                "the process had threads when it tried to enter a user namespace, which only a process with a single \
                 thread may do"
                    .into()
            }
            Cause::HomeNotOwned => {
                "home belongs to another user namespace than the process's own, and CAP_SYS_ADMIN is missing there"
                    .into()
            }
            // Only files of `/proc` are looked for.
            Cause::Other { os_error: Some(os_error) } if *os_error == Errno::ENOENT as i32 => {
                "/proc is not mounted, or is that of another pid namespace".into()
            }
            // Only the maps of ids are written.
            Cause::Other { os_error: Some(os_error) } if *os_error == Errno::EROFS as i32 => {
                "/proc is mounted read-only, and a new user namespace needs a map of ids, which is written there".into()
            }
            Cause::Other { os_error: Some(os_error) } => match shortage_and_remedy(*os_error) {
                Some((shortage, _)) => shortage.into(),
                None => format!("the kernel refused: {}", Errno::from_raw(*os_error).desc()),
            },
            Cause::Other { os_error: None } => "it could not be tried".into(),
        })
    }

    /// The one line that helps: a command, a line of code, an option.
    #[must_use]
    pub fn way_out(&self) -> String {
        let or_root = if nix::unistd::geteuid().is_root() {
            "or start the process with the capability (container: `--cap-add SYS_ADMIN`)"
        } else {
            "or run as root"
        };
        match self {
            Cause::NoCapability => {
                format!("write `in_netns::rootless!();` at the top of the test file or binary, {or_root}")
            }
            Cause::NoNetAdmin => "start the process with the capability too (container: `--cap-add NET_ADMIN`)".into(),
            Cause::UserNamespacesDisabled { sysctl: MAX_USER } | Cause::Limit { sysctl: MAX_USER } => {
                format!("`sudo sysctl {MAX_USER}=100000`, {or_root}")
            }
            Cause::UserNamespacesDisabled { sysctl } => format!("`sudo sysctl {sysctl}=1`, {or_root}"),
            Cause::AppArmor => format!("`sudo sysctl {APPARMOR}=0`, {or_root}"),
            Cause::Seccomp => {
                "start the container with `--cap-add SYS_ADMIN` or `--security-opt seccomp=unconfined`, or the unit \
                 with `RestrictNamespaces=no`"
                    .into()
            }
            Cause::Limit { sysctl } => {
                format!(
                    "`sysctl {sysctl}=100000` as root of each user namespace that sets a limit, or end some \
                     (`lsns` lists them)"
                )
            }
            Cause::RootWithoutSetfcap => {
                "run as an ordinary user, or keep CAP_SETFCAP (container: `--cap-add SETFCAP`, or `--cap-add \
                 SYS_ADMIN`)"
                    .into()
            }
            Cause::NotDumpable => {
                "keep the capability when the process changes its user (PR_SET_KEEPCAPS, `setpriv --ambient-caps \
                 +sys_admin`), or start the program as that user"
                    .into()
            }
            Cause::NotMapped => {
                "map both (/proc/self/uid_map, /proc/self/gid_map), as `unshare --map-current-user` and `unshare \
                 --map-root-user` do"
                    .into()
            }
            Cause::Threads => {
                "write `in_netns::rootless!();` at the top of the test file or binary, or call `rootless::enter()` \
                 first in `main`"
                    .into()
            }
            Cause::HomeNotOwned => {
                "enter both at once, as `unshare --map-root-user --net` does, and `in_netns::rootless!();` where \
                 CAP_SYS_ADMIN is missing altogether"
                    .into()
            }
            Cause::Other { os_error: Some(os_error) } if *os_error == Errno::ENOENT as i32 => {
                "mount it (`mount -t proc proc /proc`)".into()
            }
            Cause::Other { os_error: Some(os_error) } if *os_error == Errno::EROFS as i32 => {
                format!("mount it so that it can be written (`mount -o remount,bind,rw /proc`), {or_root}")
            }
            Cause::Other { os_error } => {
                let look_for = "look for a security module (`dmesg`), a chroot, or a kernel without CONFIG_NET_NS and \
                                CONFIG_USER_NS";
                os_error.and_then(shortage_and_remedy).map_or(look_for, |(_, remedy)| remedy).into()
            }
        }
    }

    /// What is wrong, and what to do: for the message of an error, which adds the errno.
    pub(crate) fn explanation(&self) -> String {
        match self {
            Cause::Other { .. } => format!("{}: {}", self.detail().unwrap_or_default(), self.way_out()),
            _ => format!("{self}: {}", self.way_out()),
        }
    }

    /// As [`Cause::explanation`], where the calling thread lacks `CAP_SYS_ADMIN` in the user namespace `own`.
    pub(crate) fn explanation_without_capability(&self, own: &str) -> String {
        let detail = self.detail().map_or_else(String::new, |detail| format!(", and {detail}"));
        format!("this thread lacks CAP_SYS_ADMIN in {own}{detail}: {}", self.way_out())
    }

    /// The explanation of a refusal to bring up the loopback of a namespace that the calling thread has made.
    pub(crate) fn explanation_of_loopback(errno: Errno, own: &str) -> String {
        match Cause::of_loopback(errno) {
            cause @ Cause::NoNetAdmin => {
                format!("this thread lacks CAP_NET_ADMIN in {own}, {LOOPBACK}: {}", cause.way_out())
            }
            cause => cause.explanation(),
        }
    }

    /// The cause of `errno`, which the calling thread got when it brought up the loopback of a namespace that it has
    /// made.
    fn of_loopback(errno: Errno) -> Cause {
        match errno {
            Errno::EPERM | Errno::EACCES if !has_capability(sys::CAP_NET_ADMIN) => Cause::NoNetAdmin,
            _ => Cause::of_errno(errno),
        }
    }

    /// The cause of `errno`, which the calling thread got when it made, entered or left a namespace that belongs to its
    /// own user namespace.
    pub(crate) fn of_errno(errno: Errno) -> Cause {
        let denied = matches!(errno, Errno::EPERM | Errno::EACCES);
        match errno {
            Errno::ENOSPC => Cause::Limit { sysctl: MAX_NET },
            _ if denied && !may_administer() => Cause::of_missing_capability(cached_probe()),
            Errno::EPERM | Errno::EACCES | Errno::ENOSYS if sys::readings::is_filtered() => Cause::Seccomp,
            _ => Cause::other(errno),
        }
    }

    /// The cause of a missing `CAP_SYS_ADMIN`, given the result of a probe for a user namespace.
    fn of_missing_capability(probed: Result<(), Refusal>) -> Cause {
        match (probed, before_main::state()) {
            // Where no process could be started for the probe, nothing is known but that the capability is missing.
            (Err(refusal), _) if refusal.step != Step::Probe => Cause::of_refusal(refusal),
            // The probe runs in a child process, which does not meet a refusal that only the process itself gets.
            (_, State::Refused(refusal)) if refusal.step == Step::Unshare => Cause::of_refusal(refusal),
            _ => Cause::NoCapability,
        }
    }

    /// The cause of a refusal of a step into a user namespace.
    pub(crate) fn of_refusal(refusal: Refusal) -> Cause {
        Facts::gather().cause_of(refusal)
    }

    fn other(errno: Errno) -> Cause {
        Cause::Other { os_error: Some(errno as i32) }
    }
}

/// What is short, where an errno says so, and what to do about it.
fn shortage_and_remedy(os_error: i32) -> Option<(&'static str, &'static str)> {
    match Errno::from_raw(os_error) {
        // Only the start of the thread or process in which it is tried fails with this errno.
        Errno::EAGAIN => Some((
            "no thread or process can be started",
            "see `ulimit -u` (RLIMIT_NPROC), the pids limit of the cgroup, free memory, and `ulimit -v`",
        )),
        errno => shortage(errno)?.split_once(": "),
    }
}

/// The facts by which the causes of a refusal are distinguished.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Facts {
    root_without_setfcap: bool,
    not_dumpable: bool,
    not_mapped: bool,
    filtered: bool,
    max_user_namespaces: Option<u64>,
    debian_clone: Option<u64>,
    apparmor: Option<u64>,
}

impl Facts {
    fn gather() -> Facts {
        let setfcap = has_capability(sys::CAP_SETFCAP);
        Facts {
            root_without_setfcap: nix::unistd::geteuid().is_root() && !setfcap,
            not_dumpable: !sys::is_dumpable(),
            not_mapped: lacks_mapping("uid_map", nix::unistd::geteuid().as_raw())
                || lacks_mapping("gid_map", nix::unistd::getegid().as_raw()),
            filtered: sys::readings::is_filtered(),
            max_user_namespaces: sys_value(MAX_USER),
            debian_clone: sys_value(DEBIAN_CLONE),
            apparmor: sys_value(APPARMOR),
        }
    }

    fn cause_of(self, Refusal { step, errno }: Refusal) -> Cause {
        let apparmor = self.apparmor.is_some_and(|restricted| restricted != 0);
        match (step, errno) {
            (Step::UserNamespace, Errno::ENOSPC | Errno::EUSERS) => match self.max_user_namespaces {
                Some(0) => Cause::UserNamespacesDisabled { sysctl: MAX_USER },
                _ => Cause::Limit { sysctl: MAX_USER },
            },
            (Step::Unshare, Errno::ENOSPC) => Cause::Limit { sysctl: MAX_NET },
            (Step::Unshare, Errno::EINVAL) => Cause::Threads,
            (Step::UserNamespace, Errno::EPERM) if self.debian_clone == Some(0) => {
                Cause::UserNamespacesDisabled { sysctl: DEBIAN_CLONE }
            }
            (Step::UserNamespace, Errno::EPERM) if self.not_mapped => Cause::NotMapped,
            (Step::Mapping, Errno::EPERM) if self.root_without_setfcap => Cause::RootWithoutSetfcap,
            // The files of such a process in `/proc` belong to root.
            (Step::Mapping, Errno::EACCES) if self.not_dumpable => Cause::NotDumpable,
            // AppArmor allows the namespace to be made and refuses its use; a filter refuses to make it.
            (Step::Mapping | Step::Capability, Errno::EPERM | Errno::EACCES) if apparmor => Cause::AppArmor,
            (_, Errno::EPERM | Errno::ENOSYS) if self.filtered => Cause::Seccomp,
            (_, Errno::EPERM | Errno::EACCES) if apparmor => Cause::AppArmor,
            _ => Cause::other(errno),
        }
    }
}

/// Tries the operations. To be called on a thread that does nothing else, because it changes namespaces.
fn probe() -> Privileges {
    let enter = |namespace: &std::os::fd::OwnedFd| sys::setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET);
    let here = Kind::Net.open(ProcTask::Current);
    let made = sys::unshare(CloneFlags::CLONE_NEWNET);
    let new = made.and_then(|()| Kind::Net.open(ProcTask::Current));
    let loopback = made.is_ok().then(sys::socket::loopback_up).transpose();
    // Where no namespace could be made, entering home from home is the test: the kernel checks the same capabilities.
    let back = here.and_then(|here| enter(&here));
    let forth = new.as_ref().map_or(back, enter);

    // Probed once, so that the three cannot contradict each other, and only where it matters.
    let probed = if may_administer() { Ok(()) } else { before_main::try_user_namespace() };
    let cause = |errno| match errno {
        Errno::EPERM | Errno::EACCES if !may_administer() => Cause::of_missing_capability(probed),
        _ => Cause::of_errno(errno),
    };
    Privileges {
        make: made
            .map_err(cause)
            .and_then(|()| loopback.map(drop).map_err(Cause::of_loopback))
            .and_then(|()| new.as_ref().map(drop).map_err(|errno| cause(*errno))),
        enter: forth.map_err(cause),
        go_back: back.map_err(|errno| match cause(errno) {
            Cause::Other { .. } | Cause::Seccomp if errno == Errno::EPERM && forth.is_ok() => Cause::HomeNotOwned,
            other => other,
        }),
    }
}

/// The result of one probe, for all messages: an error must not start a process each time.
fn cached_probe() -> Result<(), Refusal> {
    static PROBE: Inherited<Result<(), Refusal>> = Inherited::new();
    PROBE.get().unwrap_or_else(|| {
        let probed = before_main::try_user_namespace();
        if !probed.is_err_and(|refusal| refusal.step == Step::Probe) {
            PROBE.replace(probed);
        }
        probed
    })
}

/// Whether the calling thread has `CAP_SYS_ADMIN` in its user namespace.
pub(crate) fn may_administer() -> bool {
    has_capability(sys::CAP_SYS_ADMIN)
}

/// Whether the calling thread has a capability, by its number, in its user namespace.
pub(crate) fn has_capability(capability: u8) -> bool {
    sys::capabilities_of(sys::current_tid()).is_ok_and(|mine| mine.has(capability))
}

/// Whether this user namespace has no such id. The process reads an id that is not mapped as that of `nobody`. If
/// that one is mapped itself, the two cannot be told apart.
fn lacks_mapping(map: &str, id: u32) -> bool {
    fs::read_to_string(format!("/proc/thread-self/{map}")).is_ok_and(|text| !is_mapped(&text, id))
}

/// Whether an id is in a map of a user namespace (`user_namespaces(7)`): lines of first id, first id outside, length.
fn is_mapped(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let numbers: Vec<u32> = line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        matches!(numbers[..], [first, _, length] if id.checked_sub(first).is_some_and(|offset| offset < length))
    })
}

/// What `sysctl(8)` prints for a name, where this kernel has it and it is a number.
fn sys_value(name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    //! The causes that cannot be produced on every kernel. `tests/tests/users/privileges.rs` tests the others on the
    //! real one.

    use super::*;

    fn refused(step: Step, errno: Errno) -> Refusal {
        Refusal { step, errno }
    }

    #[test]
    fn debian_has_a_switch_of_its_own() {
        let facts = Facts { debian_clone: Some(0), ..Facts::default() };
        let cause = facts.cause_of(refused(Step::UserNamespace, Errno::EPERM));
        assert_eq!(cause, Cause::UserNamespacesDisabled { sysctl: DEBIAN_CLONE });
        assert!(cause.explanation().contains("`sudo sysctl kernel.unprivileged_userns_clone=1`"), "{cause}");
        let on = Facts { debian_clone: Some(1), ..facts };
        assert_eq!(on.cause_of(refused(Step::UserNamespace, Errno::EPERM)), Cause::other(Errno::EPERM));
    }

    #[test]
    fn an_id_is_mapped_within_a_line() {
        let map = "         0     100000       1000\n      5000          7          1\n";
        assert!([0, 999, 5000].iter().all(|id| is_mapped(map, *id)));
        assert!([1000, 4999, 5001, u32::MAX].iter().all(|id| !is_mapped(map, *id)));
        assert!(is_mapped("0 0 4294967295", 65534));
        assert!(!is_mapped("", 0));
    }

    #[test]
    fn apparmor_refuses_the_map_or_what_comes_after() {
        let facts = Facts { apparmor: Some(1), filtered: true, ..Facts::default() };
        for (step, errno) in
            [(Step::Mapping, Errno::EACCES), (Step::Mapping, Errno::EPERM), (Step::Capability, Errno::EPERM)]
        {
            assert_eq!(facts.cause_of(refused(step, errno)), Cause::AppArmor);
        }
        // A container on such a machine: the filter comes first.
        assert_eq!(facts.cause_of(refused(Step::UserNamespace, Errno::EPERM)), Cause::Seccomp);
        let way_out = Cause::AppArmor.way_out();
        assert!(way_out.contains("`sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`"), "{way_out}");
        let off = Facts { apparmor: Some(0), filtered: false, ..facts };
        assert_eq!(off.cause_of(refused(Step::Mapping, Errno::EACCES)), Cause::other(Errno::EACCES));
    }

    #[test]
    fn the_number_of_user_namespaces_is_a_limit_unless_it_is_none() {
        let full = refused(Step::UserNamespace, Errno::ENOSPC);
        let facts = |max| Facts { max_user_namespaces: Some(max), ..Facts::default() };
        assert_eq!(facts(0).cause_of(full), Cause::UserNamespacesDisabled { sysctl: MAX_USER });
        assert_eq!(facts(7).cause_of(full), Cause::Limit { sysctl: MAX_USER });
    }
}
