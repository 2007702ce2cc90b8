//! What tokio creates with the first runtime of the process and keeps forever: a pair of sockets that reports signals.
//!
//! **Promised:** it is created at home, before this crate builds a runtime in a namespace. If the runtime of a call
//! created it, it would keep the call's namespace forever.
//!
//! **How:** the template makes tokio create it. Where descriptors or watches of `epoll(7)` are short at that moment,
//! the next call does so, on a thread at home. Where it is refused, by a seccomp filter, no later call tries. Until it
//! is made, each call that needs a runtime is an error.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::unwind::contain;

/// A forked child has what was made.
static IS_MADE: AtomicBool = AtomicBool::new(false);

/// Why it was not made. A shortage may pass.
static REFUSED: AtomicI32 = AtomicI32::new(Errno::EMFILE as i32);

/// On a thread at home.
pub(super) fn settle() {
    contain(|| {
        let built = try_out().and_then(|()| tokio::runtime::Builder::new_current_thread().enable_io().build());
        match built {
            Ok(_runtime) => IS_MADE.store(true, Ordering::Release),
            Err(error) => REFUSED.store(error.raw_os_error().unwrap_or(Errno::EMFILE as i32), Ordering::Relaxed),
        }
    });
}

/// Makes a pair of sockets, and as many descriptors as it takes, six or seven. Where tokio gets none it panics, which a
/// program may not survive.
fn try_out() -> io::Result<()> {
    let _sockets = UnixStream::pair()?;
    let pairs: nix::Result<Vec<(OwnedFd, OwnedFd)>> = (0..3).map(|_| nix::unistd::pipe2(OFlag::O_CLOEXEC)).collect();
    pairs.map(drop).map_err(io::Error::from)
}

/// Whether it was made.
pub(super) fn is_made() -> bool {
    IS_MADE.load(Ordering::Acquire)
}

/// Whether it was refused for a reason that may pass, and has passed.
pub(super) fn can_be_made_now() -> bool {
    let refused = Errno::from_raw(REFUSED.load(Ordering::Relaxed));
    matches!(refused, Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS | Errno::ENOSPC)
        && try_out().is_ok()
}

/// An error where it was not made at home.
pub(crate) fn check() -> io::Result<()> {
    if is_made() {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(REFUSED.load(Ordering::Relaxed)))
}
