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
}

impl Verdict {
    pub(crate) const ALL: [Self; 6] =
        [Self::Clean, Self::Spawn, Self::Handover, Self::Scoped, Self::Channel, Self::Unknown];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Clean => "CLEAN",
            Self::Spawn => "SPAWN",
            Self::Handover => "HANDOVER",
            Self::Scoped => "SCOPED",
            Self::Channel => "CHANNEL",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// The page of `--explain`.
    pub(crate) fn explanation(self) -> &'static str {
        match self {
            Self::Clean => {
                "CLEAN: nothing in the table of sinks can be reached from the body.

Every function, vtable and static that the body refers to was followed, through the standard library and through C
that is linked in. What this cannot see: a value that somebody else put into a static (a logger, a hook), code behind
`dlopen`, a system call made by its number, and a pool whose name the table does not have."
            }
            Self::Spawn => {
                "SPAWN: the body can start a thread that may outlive the call.

On Linux the new thread inherits the namespace of the one that starts it: it is inside. It stays there after the call
returned, and keeps the namespace alive. If it belongs to a pool that is started once and for all, everybody's later
work runs in the namespace of the first caller.

Ways out: start the pool or the client at home, before the first call; use `thread::scope`, which joins; give the thread
an end that the body waits for, and allow it with a reason (`[package.metadata.netns-check]`)."
            }
            Self::Handover => {
                "HANDOVER: the body can give work to threads that exist already: it runs wherever those are, not in the namespace.

Nothing at run time can see this: no thread is made. tokio's workers and its pool for blocking calls (which name look-ups
and `tokio::fs` use behind your back), rayon's pool, smol's, async-std's are such threads.

Ways out: do the work in the body itself; make the body an `async fn`, which gets a runtime of its own inside; build a
runtime or a pool inside the body and drop it there. `local runtime?` means that the body builds a runtime: if the work
goes to that one, it is inside, and the entry can be allowed with that reason."
            }
            Self::Scoped => {
                "SCOPED: the body starts a thread that is joined before the body returns. This is a note: the thread is inside, and gone
in time.

What the scope's own threads do is searched like the body: a plain `thread::spawn` in one of them is SPAWN."
            }
            Self::Channel => {
                "CHANNEL: the body sends a boxed closure over a channel. Whoever receives a closure mostly calls it: then it runs on the
receiver's thread, not in the namespace. This goes by the channel's type, and may be wrong.

Ways out: send data, not code; or allow it with a reason, if the receiver is a thread of the body's own."
            }
            Self::Unknown => {
                "UNKNOWN: the body calls code that cannot be found in the program by looking at the body: a trait object or a function
pointer that its caller supplies, or a function of a shared object that is not known to be safe.

Ways out: make the argument generic (`impl Fn()`), and each caller's is looked at; name the foreign function in a table of
your own (`[foreign] symbols`, see --print-sinks); or allow it with a reason."
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
            format!("`{text}` is no verdict: {names}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_read_in_either_case_and_explains_itself() {
        for verdict in Verdict::ALL {
            assert_eq!(verdict.name().to_lowercase().parse(), Ok(verdict));
            assert!(verdict.explanation().starts_with(verdict.name()));
        }
        assert!("threads".parse::<Verdict>().unwrap_err().contains("handover"));
    }
}
