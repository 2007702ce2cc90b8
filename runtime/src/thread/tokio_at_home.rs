//! What tokio creates with the first runtime of the process and keeps forever: a pair of sockets that reports signals.
//!
//! **Promised:** it is created at home, before this crate builds a runtime in a namespace. If the runtime of a call
//! created it, it would keep the call's namespace forever.
//!
//! **How:** the template makes tokio create it. Where descriptors are short at that moment, the next call does so, on a
//! thread at home. Until then, each call that needs a runtime is an error.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::pool::Pool;
use super::role::Role;
use crate::thread::Allowance;
use crate::unwind::contain;

/// A forked child has what was made.
static IS_MADE: AtomicBool = AtomicBool::new(false);

/// Why it was not made.
static REFUSED: AtomicI32 = AtomicI32::new(Errno::EMFILE as i32);

/// On a thread at home.
pub(super) fn settle() {
    if !has_room() {
        return;
    }
    contain(|| match tokio::runtime::Builder::new_current_thread().enable_io().build() {
        Ok(_runtime) => IS_MADE.store(true, Ordering::Release),
        Err(error) => REFUSED.store(error.raw_os_error().unwrap_or(Errno::EMFILE as i32), Ordering::Relaxed),
    });
}

/// Whether there are as many free descriptors as it takes, six or seven. Without them tokio panics, which a program may
/// not survive.
fn has_room() -> bool {
    let pairs: nix::Result<Vec<(OwnedFd, OwnedFd)>> = (0..4).map(|_| nix::unistd::pipe2(OFlag::O_CLOEXEC)).collect();
    pairs.is_ok()
}

/// For each call: tries again, where the template could not.
pub(super) fn settle_later() {
    if !IS_MADE.load(Ordering::Acquire) {
        retry();
    }
}

#[cold]
fn retry() {
    let pool = Pool::of_process();
    // Without a home this is the first call, which starts the template.
    if pool.roster.home().is_none() || !has_room() {
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
