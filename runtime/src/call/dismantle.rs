//! Waiting for the end of a namespace.
//!
//! When its last user is gone, the kernel dismantles a namespace in the background, tens of milliseconds later: until
//! then the other ends of its links, and its place below `user.max_net_namespaces`, are taken.
//!
//! **How:** a file below `/proc/sys/net`, opened inside, does not keep the namespace. Reading it fails with `ENOENT`
//! once the namespace's sysctls are gone, which the kernel removes after its devices.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::error::{Error, ErrorKind};
use crate::netns::NetNs;
use crate::sys;

/// Files that every network namespace has, if the kernel was built with the protocol; `net/core` goes last.
const SENTINELS: [&str; 3] =
    ["/proc/sys/net/core/somaxconn", "/proc/sys/net/unix/max_dgram_qlen", "/proc/sys/net/ipv4/ip_forward"];

impl NetNs {
    /// Lets go of the namespace, and waits until the kernel has dismantled it. Then the names of devices that were
    /// linked with it are free again.
    ///
    /// Returns `false` where that takes longer than `timeout`: something else may hold the namespace, such as another
    /// handle ([`NetNs::holders`] tells), or the kernel is busy. It looks every half a millisecond, and takes some 10
    /// to 40 ms as a rule.
    ///
    /// # Errors
    ///
    /// Those of entering the namespace, which it enters once for a moment; [`ErrorKind::Unsupported`] where
    /// `/proc/sys/net` cannot be read. The handle is dropped in each case.
    ///
    /// # Examples
    ///
    /// ```
    /// # in_netns::rootless!();
    /// use std::time::Duration;
    /// use in_netns::NetNs;
    ///
    /// let ns = NetNs::new()?;
    /// let handle = ns.clone();
    /// assert!(!ns.wait_until_gone(Duration::from_millis(5))?);
    /// assert!(handle.wait_until_gone(Duration::from_secs(10))?);
    /// # Ok::<(), in_netns::Error>(())
    /// ```
    ///
    /// # References
    ///
    /// `network_namespaces(7)`.
    pub fn wait_until_gone(self, timeout: Duration) -> Result<bool, Error> {
        /// Between two looks.
        const INTERVAL: Duration = Duration::from_micros(500);
        let deadline = Instant::now().checked_add(timeout);
        let operation = format!("wait until {self} is gone");
        let sentinel = self.run(open_sentinel)?;
        drop(self);
        let sentinel = sentinel.map_err(|error| {
            let is_missing = matches!(sys::errno_of(&error), Errno::ENOENT | Errno::ENOTDIR);
            let error = Error::from_std(operation.clone(), error);
            if !is_missing {
                return error;
            }
            error
                .with_kind(ErrorKind::Unsupported)
                .explained("/proc/sys/net is not there: is /proc mounted, and without `subset=pid`?")
        })?;
        loop {
            if is_gone(&sentinel).map_err(|error| Error::from_io(ErrorKind::Other, operation.clone(), error))? {
                return Ok(true);
            }
            let left = deadline.map_or(INTERVAL, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(false);
            }
            thread::sleep(left.min(INTERVAL));
        }
    }
}

/// On a thread in the namespace: these files are those of the namespace of the thread that opens them.
pub(super) fn open_sentinel() -> io::Result<File> {
    let mut result = Err(io::ErrorKind::NotFound.into());
    for path in SENTINELS {
        result = File::open(path);
        if !matches!(&result, Err(error) if error.kind() == io::ErrorKind::NotFound) {
            break;
        }
    }
    result
}

/// Whether the namespace that the sentinel was opened in is dismantled.
pub(super) fn is_gone(sentinel: &File) -> io::Result<bool> {
    match sentinel.read_at(&mut [0; 1], 0) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(false),
    }
}
