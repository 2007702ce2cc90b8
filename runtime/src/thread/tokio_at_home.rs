//! What tokio creates with the first runtime of the process and keeps forever: a pair of sockets that reports signals.
//!
//! **Promised:** it is created at home, before this crate builds a runtime in a namespace. If the runtime of a call
//! created it, it would keep the call's namespace forever.
//!
//! **How:** the template makes tokio create it. Where descriptors are short at that moment, the next call does so, on a
//! thread at home. Where it is refused, by a seccomp filter, no later call tries. Until it is made, each call that
//! needs a runtime is an error.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::pool::Pool;
use super::role::Role;
use crate::thread::Allowance;
use crate::unwind::contain;

/// A forked child has what was made.
static IS_MADE: AtomicBool = AtomicBool::new(false);

/// Why it was not made. A shortage of descriptors may pass.
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

/// For each call: tries again, where the template could not.
pub(super) fn settle_later() {
    if !IS_MADE.load(Ordering::Acquire) {
        retry();
    }
}

#[cold]
fn retry() {
    let refused = Errno::from_raw(REFUSED.load(Ordering::Relaxed));
    if !matches!(refused, Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS) {
        return;
    }
    let pool = Pool::of_process();
    // Without a home this is the first call, which starts the template.
    if pool.roster.home().is_none() || try_out().is_err() {
        return;
    }
    // The thread exits, as its lease is not ended.
    if let Ok(mut lease) = pool.lease(Role::Bodies).map(super::Lease::uncounted) {
        let _ = lease.run(Allowance::default(), |_, _| settle());
    }
}

/// An error where it was not made at home.
pub(crate) fn check() -> io::Result<()> {
    if IS_MADE.load(Ordering::Acquire) {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(REFUSED.load(Ordering::Relaxed)))
}
