//! Waits for changes of the mount table and of directories on one descriptor: an `epoll(7)` of a `mountinfo` file
//! (`proc_pid_mountinfo(5)`) and of an `inotify(7)` instance.
//!
//! A poll of `mountinfo` reports a change once, so any poll of this descriptor consumes the report. The reader
//! therefore lists the names again after each poll, and before the first wait.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::process_local::ProcessMark;
use super::{restarted, timeout_until};

/// **In a forked child** the reports are shared with the parent, and who looks first takes them. So each process
/// must make one of its own ([`Changes::are_of_this_process`]).
#[derive(Debug)]
pub(crate) struct Changes {
    process: ProcessMark,
    /// Readable after a change of either.
    any: Epoll,
    mount_table: File,
    entries: Inotify,
    watched: Vec<WatchDescriptor>,
}

impl Changes {
    /// Watches a `mountinfo` file, and no directory yet. The mark is that of the calling process.
    pub(crate) fn of_mounts(mount_table: File) -> nix::Result<Changes> {
        let any = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let entries = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        any.add(&mount_table, EpollEvent::new(EpollFlags::EPOLLPRI, 0))?;
        any.add(&entries, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        Ok(Changes { process: ProcessMark::current(), any, mount_table, entries, watched: Vec::new() })
    }

    /// Whether this process made it, and no process from which this one was forked.
    pub(crate) fn are_of_this_process(&self) -> bool {
        self.process.is_current()
    }

    /// The descriptor that has an exceptional condition (`POLLPRI`) after a change of the mount table.
    pub(crate) fn mount_table(&self) -> BorrowedFd<'_> {
        self.mount_table.as_fd()
    }

    /// Watches the directories that these paths lead to now, in place of the previous ones. A path may lead to none:
    /// the mount table reports what is mounted there later.
    pub(crate) fn watch_entries(&mut self, directories: &[&str]) -> nix::Result<()> {
        let changes = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_ONLYDIR;
        let mut watched = Vec::with_capacity(directories.len());
        for directory in directories {
            // The same directory has the same descriptor, and no event is lost.
            match restarted(|| self.entries.add_watch(Path::new(directory), changes)) {
                Ok(descriptor) => watched.push(descriptor),
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
                Err(errno) => return Err(errno),
            }
        }
        for before in &self.watched {
            if !watched.contains(before) {
                // It fails for a directory that is gone: the kernel has removed that watch.
                let _ = self.entries.rm_watch(*before);
            }
        }
        self.watched = watched;
        Ok(())
    }

    /// Consumes the reports of the directories. The caller must list the directories afterwards. An overflow of the
    /// queue is a report too.
    pub(crate) fn take_reports(&self) -> nix::Result<()> {
        loop {
            match restarted(|| self.entries.read_events()) {
                Ok(_) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Waits until something has changed. `false` where the deadline came first; without a deadline it waits forever.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> nix::Result<bool> {
        loop {
            match poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], timeout_until(deadline)) {
                Ok(0) if deadline.is_none_or(|deadline| Instant::now() < deadline) => {}
                Err(Errno::EINTR) => {}
                result => return result.map(|ready| ready > 0),
            }
        }
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.any.0.as_fd()
    }
}
