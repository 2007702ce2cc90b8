//! Callers with a table of file descriptors of their own (`unshare(2)` with `CLONE_FILES`).
//!
//! A namespace is entered by the number of a descriptor, and the number is of the caller's table. On a pooled thread,
//! which has the table that threads share, it is another file, or none, or worst of all another namespace. So the calls
//! of such a caller run on threads that the caller starts.
//!
//! It is looked up once for each calling thread, at its first call: the answer costs a microsecond. A thread that
//! unshares its table later uses `Call::fresh`, as the page `inheritance` says.

use std::sync::Arc;

use super::home::{Home, RestorePath};
use crate::error::Error;
use crate::sys;

/// Whether the calling thread had a table of its own at its first call. `false` where the kernel does not tell. Home is
/// known, and with it the thread whose table is that of the process.
pub(crate) fn are_apart(_home: &Home) -> bool {
    sys::descriptor_table::is_shared() == Ok(false)
}

/// On the caller's thread: the way home for a thread that it is about to start, if the table is not home's. The caller
/// keeps its share until the thread is gone, so that the descriptors are closed in the table that they are open in,
/// even if the body unshares it.
pub(crate) fn restore_path(home: &Home) -> Result<Option<Arc<RestorePath>>, Error> {
    if !are_apart(home) {
        return Ok(None);
    }
    let path = home.restore_path_for_current().map_err(|errno| {
        Error::from_errno("open the way home for a thread with a table of file descriptors of its own", errno)
    })?;
    Ok(Some(Arc::new(path)))
}
