//! Callers with a table of file descriptors of their own (`unshare(2)` with `CLONE_FILES`).
//!
//! A namespace is entered by the number of a descriptor, which is valid in the caller's table. On a pooled thread,
//! which has the table that threads share, the same number is another file, no file, or worst of all another namespace.
//! So the calls of such a caller run on threads that the caller starts.
//!
//! A thread's table is checked once, at its first call, because the check takes a microsecond. A thread that unshares
//! its table later uses `Call::fresh`, as the page `inheritance` says.

use std::sync::Arc;

use super::home::{Home, RestorePath};
use crate::error::Error;
use crate::sys;

/// Whether the calling thread had a table of its own at its first call. `false` if the kernel does not say. The
/// argument proves that home is known, and with it the thread whose table is that of the process.
pub(crate) fn are_apart(_home: &Home) -> bool {
    sys::descriptor_table::is_shared() == Ok(false)
}

/// The descriptors by which a thread that the caller is about to start goes home, if the caller's table is not home's.
/// To be called on the caller's thread. The caller keeps its reference until the thread has exited, so that the
/// descriptors are closed in the table in which they are open, even if the body unshares it.
pub(crate) fn restore_path(home: &Home) -> Result<Option<Arc<RestorePath>>, Error> {
    if !are_apart(home) {
        return Ok(None);
    }
    let path = home.restore_path_for_current().map_err(|errno| {
        Error::from_errno("open the way home for a thread with a table of file descriptors of its own", errno)
    })?;
    Ok(Some(Arc::new(path)))
}
