//! The table of file descriptors that the threads of the process share, unless one has called `unshare(2)` with
//! `CLONE_FILES`.

use std::cell::Cell;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::{Resource, Tid, current_tid, directory_of_thread, identity, identity_of, process_id, restarted, share};

/// The thread whose table it is. 0 stands for the main thread.
static OWNER: AtomicI32 = AtomicI32::new(0);

thread_local! {
    /// Whether the calling thread had the table at the last check. It is not cached before the owner is known.
    static SHARES: Cell<bool> = const { Cell::new(false) };
}

/// Closes a file, with this identity, on a thread that has the table of the process.
type CloseElsewhere = fn(OwnedFd, (u64, u64));

static CLOSE_ELSEWHERE: OnceLock<CloseElsewhere> = OnceLock::new();

/// Records that the calling thread's table is that of the process.
pub(crate) fn is_that_of_current_thread(close_elsewhere: CloseElsewhere) {
    let _ = CLOSE_ELSEWHERE.set(close_elsewhere);
    OWNER.store(current_tid().as_raw(), Ordering::Relaxed);
}

/// Closes a file of the table of the process, which the calling thread does not have. Where no thread that has it is
/// known, the file stays open.
pub(crate) fn close_in_that_of_process(fd: OwnedFd, identity: (u64, u64)) {
    match CLOSE_ELSEWHERE.get() {
        Some(close) => close(fd, identity),
        None => forget(fd),
    }
}

/// Leaves a file open.
pub(crate) fn forget(fd: OwnedFd) {
    let _ = fd.into_raw_fd();
}

/// Whether the calling thread has the table of the process. The kernel is asked once for a thread that has it.
pub(crate) fn is_shared() -> nix::Result<bool> {
    if SHARES.get() {
        return Ok(true);
    }
    let owner = OWNER.load(Ordering::Relaxed);
    let shares = is_shared_with(if owner == 0 { process_id() } else { Tid::from_raw(owner) })?;
    SHARES.set(shares && owner != 0);
    Ok(shares)
}

/// Whether the calling thread has the table of file descriptors that another thread of the process has. Where `kcmp(2)`
/// is refused, a new descriptor of the one is looked for in the table of the other (`proc_pid_fd(5)`).
pub(crate) fn is_shared_with(thread: Tid) -> nix::Result<bool> {
    share(Resource::Files, thread, current_tid()).or_else(|_| {
        // No other file has its inode number.
        let (new, _) = restarted(|| nix::unistd::pipe2(OFlag::O_CLOEXEC))?;
        let table = directory_of_thread(thread)?.join("fd");
        match identity_of(&table.join(new.as_raw_fd().to_string())) {
            Ok(found) => Ok(found == identity(&new)?),
            // An error where the table cannot be seen either.
            Err(Errno::ENOENT) => identity_of(&table).map(|_| false),
            Err(errno) => Err(errno),
        }
    })
}
