//! The attributes of the template that Linux shows only to their own thread: it inherits them from the first caller.
//!
//! They cannot be compared with those of the main thread before that thread makes a call. Then a thread that the main
//! thread starts reads them. No thread of the program reads them, because a request for the session keyring gives one
//! to a thread that has none.

use nix::errno::Errno;

use crate::sys::readings::{self, Keyring};
use crate::sys::{Optional, OptionalCalls};

/// Each attribute, or the error of reading it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ThreadPrivate {
    securebits: nix::Result<i32>,
    /// The session keyring, the process keyring, the keyring for requested keys, and whether there is a thread keyring:
    /// where the first caller has one, each thread that is started gets one.
    keyrings: Option<[nix::Result<i32>; 4]>,
    /// Whether reading the time stamp counter, and `cpuid`, is a fault.
    faulting: [nix::Result<i32>; 2],
}

impl ThreadPrivate {
    /// Those of the calling thread, which is a template.
    pub(super) fn of_current_thread() -> ThreadPrivate {
        let has_keyrings = OptionalCalls::of_current_thread().has(Optional::Keyctl);
        let keyrings = || {
            [
                readings::keyring(Keyring::Session),
                readings::keyring(Keyring::Process),
                readings::requested_keys(),
                readings::keyring(Keyring::Thread).map(|_| 0),
            ]
        };
        ThreadPrivate {
            securebits: readings::securebits(),
            keyrings: has_keyrings.then(keyrings),
            faulting: if readings::is_filtered() { [Err(Errno::ENOSYS); 2] } else { readings::faulting() },
        }
    }

    /// Whether both are the same, as far as both could be read: a seccomp filter of the main thread may refuse it.
    pub(super) fn is_like(&self, other: &ThreadPrivate) -> bool {
        // `ENOKEY`: there is no such keyring.
        let is_read = |reading: nix::Result<i32>| !matches!(reading, Err(errno) if errno != Errno::ENOKEY);
        let alike = |(mine, its)| mine == its || !is_read(mine) || !is_read(its);
        let keyrings = self.keyrings.into_iter().flatten().zip(other.keyrings.into_iter().flatten());
        let others = self.faulting.into_iter().zip(other.faulting);
        [(self.securebits, other.securebits)].into_iter().chain(keyrings).chain(others).all(alike)
    }
}
