//! The attributes of the template that Linux shows only to their own thread: it inherits them from the first caller.
//!
//! They cannot be compared with those of the main thread before that thread makes a call. Then a thread that the main
//! thread starts reads them. No thread of the program reads them, because a request for the session keyring gives one
//! to a thread that has none.

use nix::errno::Errno;

use crate::sys::readings::{self, Keyring};
use crate::sys::{Optional, OptionalCalls};

/// Each attribute, or the error of reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}
