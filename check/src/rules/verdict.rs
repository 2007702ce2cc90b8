//! The verdicts, and what each means.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What is said of one body. More than one may hold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Verdict {
    Clean,
    Spawn,
    Handover,
    Scoped,
    Channel,
    Unknown,
    Process,
    Await,
    Nss,
    Local,
}

/// How serious a verdict is. Reports use it for order and for levels.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Severity {
    /// Nothing was found.
    None,
    /// Worth knowing, and mostly right as it is.
    Note,
    /// The check could not decide, or guesses.
    Unsure,
    /// Work or data is in the wrong namespace, or a namespace is kept.
    Defect,
}

impl Verdict {
    pub(crate) const ALL: [Self; 10] = [
        Self::Clean,
        Self::Spawn,
        Self::Handover,
        Self::Scoped,
        Self::Channel,
        Self::Unknown,
        Self::Process,
        Self::Await,
        Self::Nss,
        Self::Local,
    ];

    /// From the worst to the best.
    pub(crate) const WORST_FIRST: [Self; 10] = [
        Self::Handover,
        Self::Await,
        Self::Process,
        Self::Spawn,
        Self::Channel,
        Self::Unknown,
        Self::Scoped,
        Self::Local,
        Self::Nss,
        Self::Clean,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Clean => "CLEAN",
            Self::Spawn => "SPAWN",
            Self::Handover => "HANDOVER",
            Self::Scoped => "SCOPED",
            Self::Channel => "CHANNEL",
            Self::Unknown => "UNKNOWN",
            Self::Process => "PROCESS",
            Self::Await => "AWAIT",
            Self::Nss => "NSS",
            Self::Local => "LOCAL",
        }
    }

    pub(crate) fn severity(self) -> Severity {
        match self {
            Self::Clean => Severity::None,
            Self::Scoped | Self::Local | Self::Nss => Severity::Note,
            Self::Channel | Self::Unknown => Severity::Unsure,
            Self::Spawn | Self::Handover | Self::Process | Self::Await => Severity::Defect,
        }
    }

    /// Whether it is said beside the verdicts: a body with notes alone is clean.
    pub(crate) fn is_note(self) -> bool {
        matches!(self, Self::Nss | Self::Local)
    }

    /// The position among [`Self::WORST_FIRST`].
    pub(crate) fn rank(self) -> usize {
        Self::WORST_FIRST.iter().position(|verdict| *verdict == self).unwrap_or(usize::MAX)
    }

    /// The page of `--explain`.
    pub(crate) fn explanation(self) -> &'static str {
        match self {
            Self::Clean => {
                "CLEAN: the body reaches nothing that the table of sinks lists.

Every function, vtable and static that the body refers to was followed, through the standard library and through C
that is linked in. The check cannot see: a value that other code stored in a static (a logger, a hook), what a
function behind `dlsym` does if other code loaded it, a system call made by number, and a pool whose name the table
does not have."
            }
            Self::Spawn => {
                "SPAWN: the body can start a thread that may outlive the call.

On Linux a new thread inherits the namespace of the thread that starts it: it is inside. It stays there after the call
returned, and keeps the namespace alive. If it belongs to a pool that is started once per process, all later work of
that pool runs in the namespace of the first caller.

Ways out: start the pool or the client before the first call, in the home namespace; use `thread::scope`, which joins;
make the body wait for the thread's end, and allow the finding with a reason (`[package.metadata.netns-check]`)."
            }
            Self::Handover => {
                "HANDOVER: the body can give work to threads that exist already. The work runs in the namespace of
those threads.

No check at run time can see this, because no thread is created. tokio's workers and its pool for blocking calls
(which name lookups and `tokio::fs` use), rayon's pool, smol's and async-std's are such threads.

Ways out: do the work in the body itself; make the body an `async fn`, which gets a runtime of its own inside; build a
runtime or a pool inside the body and drop it there. `local runtime?` means that the body builds a runtime: if the
work goes to that runtime, it is inside, and the finding can be allowed with that reason."
            }
            Self::Scoped => {
                "SCOPED: the body starts a thread that is joined before the body returns. This is a note: the thread
is inside, and it ends in time.

The threads of the scope are searched like the body: a plain `thread::spawn` in one of them is SPAWN."
            }
            Self::Channel => {
                "CHANNEL: the body sends a closure over a channel. The receiver of a closure mostly calls it: then it
runs on the receiver's thread, not in the namespace. This goes by the channel's type, and may be
wrong.

Ways out: send data, not code; or allow it with a reason, if the receiver is a thread of the body's own."
            }
            Self::Unknown => {
                "UNKNOWN: the body calls code that cannot be found in the program by looking at the body: a trait
object or a function pointer that its caller supplies, or a function of a shared object that is not
known to be safe. Or it loads a shared object, and may call what is in it.

Ways out: make the argument generic (`impl Fn()`), so that each caller's argument is searched; name the foreign
function in a table of your own (`[foreign] symbols`, see --print-sinks); or allow it with a reason."
            }
            Self::Process => {
                "PROCESS: the body reads the network of the process, not that of the thread.

`/proc/net` and `/proc/self/net` belong to the main thread of the process, which is not in the namespace.
`/sys/class/net` shows the namespace that sysfs was mounted from. The crate `procfs` reads these paths. The kernel
reports no error: the body silently gets the data of the home namespace.

Ways out: read `/proc/thread-self/net/...`; use netlink or ioctls on a socket that was opened inside; mount a sysfs
inside and read that one."
            }
            Self::Await => {
                "AWAIT: a future holds a namespace guard across an `.await`, or calls `setns` before one and after it.

While the future is suspended, its thread stays in the other namespace and polls other tasks there. A runtime with
more than one thread may resume the future on a thread that never entered; the guard then restores the wrong thread,
and the first one stays in the namespace for good.

Ways out: enter and restore between two awaits, in a block without `.await`; run the whole future on a thread of its
own (`in_netns::with_netns_async`, `#[in_netns] async fn`). For guards that are held directly, clippy finds this while
you type: list their types in `await-holding-invalid-types` in clippy.toml."
            }
            Self::Nss => {
                "NSS: the body resolves a name through the C library. This is a note.

DNS itself goes through sockets of the calling thread, inside. But the modules of /etc/nsswitch.conf may ask a daemon
(nscd, systemd-resolved, sssd) over a socket in the file system, which no network namespace confines: that daemon
answers from its own namespace. `/etc/resolv.conf` and `/etc/hosts` are those of the mount namespace.

Ways out: use a resolver in Rust with explicit servers; run with a mount namespace and its own /etc (`ip netns exec`
binds /etc/netns/NAME); or accept it, where no such daemon is in use."
            }
            Self::Local => {
                "LOCAL: the body uses a thread-local that holds a socket. This is a note.

A socket stays in the namespace that it was opened in. If the thread is used again for another namespace, the
thread-local still holds the socket of the first one.

Ways out: open the socket in the body; keep one socket per namespace; clear the thread-local before the body returns;
use a thread of its own for the call (`Call::fresh`)."
            }
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Verdict {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|verdict| verdict.name().eq_ignore_ascii_case(text)).ok_or_else(|| {
            let names = Self::ALL.map(|verdict| verdict.name().to_ascii_lowercase()).join(", ");
            format!("`{text}` is not a verdict. The verdicts are: {names}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verdict_has_one_rank() {
        for verdict in Verdict::ALL {
            assert!(verdict.rank() < Verdict::ALL.len(), "{verdict}");
        }
        let by_severity = Verdict::WORST_FIRST.map(Verdict::severity);
        assert!(by_severity.is_sorted_by(|a, b| a >= b), "{by_severity:?}");
    }

    #[test]
    fn a_verdict_is_read_in_either_case_and_explains_itself() {
        for verdict in Verdict::ALL {
            assert_eq!(verdict.name().to_lowercase().parse(), Ok(verdict));
            assert!(verdict.explanation().starts_with(verdict.name()));
        }
        assert!("threads".parse::<Verdict>().unwrap_err().contains("handover"));
    }
}
