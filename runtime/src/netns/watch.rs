//! Names that come and go.
//!
//! **Promised:** the events, applied in order to the list that [`NetNs::watch`] returns, give the names that exist: no
//! change between the list and the watch is missed, and a name is reported when its namespace can be opened, not when
//! its empty file appears.
//!
//! **How:** a poll of `mountinfo` reports each change of the mount table. The names are then listed again and compared
//! with the previous list. However many changes there are, none is lost: the file records that there was one. A name
//! that is a link to a namespace makes no mount, so the directories are watched too (`inotify(7)`). An event of
//! `inotify` only causes a new list: the file of a name exists, and is empty, before the mount.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::{NetNs, NetNsId, explain_thread_self};
use crate::error::{Error, ErrorKind};
use crate::netns::names::DIRECTORIES;
use crate::sys::changes::Changes;
#[cfg(feature = "tokio")]
use crate::sys::process_local::DroppedInProcess;

/// A change of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchEvent {
    /// A namespace has got a name.
    #[non_exhaustive]
    Created {
        /// As in `ip netns list`.
        name: String,
        /// The namespace, open.
        netns: NetNs,
    },
    /// A name is gone, or is now another namespace's: an event that gives it the name follows.
    #[non_exhaustive]
    Deleted {
        /// As in `ip netns list`.
        name: String,
    },
    /// A namespace has lost a name, which is gone, and got another.
    #[non_exhaustive]
    Renamed {
        /// The name that is gone.
        from: String,
        /// The new one.
        to: String,
        /// The namespace, open.
        netns: NetNs,
    },
}

/// The changes of the names that `ip netns` knows, as the mount namespace of the thread that called [`NetNs::watch`]
/// shows them. It must be polled in that mount namespace: a watch that was made in a [`View`](crate::View) is polled
/// there.
///
/// It is an iterator that waits for the next change, and does not end. A name that came and went between two looks is
/// not reported, nor is one that is not UTF-8.
///
/// The namespace of an event is opened when the event is taken. Where no descriptor is left, that is an error, and the
/// event is still there for the next try.
///
/// A name may be a link, such as `ln -s /proc/PID/ns/net /run/netns/NAME`. Its removal is noticed at once, the end of
/// its process at the next change. A link to the namespace of a process that may not be examined is passed over. A
/// directory of names that did not exist is noticed with the next mount, such as that of `ip netns add`.
///
/// To wait for several things, wait until its descriptor has an exceptional condition (`POLLPRI`; `EPOLLPRI`), and
/// then take what there is with [`try_next`](Watch::try_next). That descriptor reports mounts, as `ip netns add` makes
/// them. It does not report changes of names that are links.
///
/// In a child process that is forked and does not exec, the copy reports to the child, from the names that were known
/// at the fork. It has another descriptor there after its first look.
///
/// With feature `tokio` it is a `Stream` as well, and has `Watch::next_async`. Where both traits are in scope, as with
/// `futures::StreamExt`, say which `next` is meant: `StreamExt::next(&mut watch)`.
#[derive(Debug)]
#[must_use = "a watch reports changes only when it is polled"]
pub struct Watch {
    pub(crate) changes: Changes,
    known: BTreeMap<String, Identity>,
    pending: VecDeque<NameChange>,
    /// The registration with the runtime in which the stream was polled. A forked child shares the runtime's epoll
    /// instance with its parent, whose registration the destructor would remove.
    #[cfg(feature = "tokio")]
    pub(crate) registration: Option<DroppedInProcess<tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>>>,
}

/// A difference between two lists of names. Its namespace is opened when the caller takes it, so that what is pending
/// needs no descriptors.
#[derive(Debug)]
enum NameChange {
    Deleted(String),
    /// `from` is a name that the namespace has lost.
    Created {
        from: Option<String>,
        to: String,
        id: Identity,
    },
}

/// The identity of a namespace that nothing may hold: the inode number alone may be reused.
type Identity = (NetNsId, Option<u64>);

impl NetNs {
    /// Lists the names that `ip netns` knows, each with its namespace, and watches for changes from there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] where `/proc` is not mounted; [`ErrorKind::PermissionDenied`] where the directory may
    /// not be read or searched; [`ErrorKind::LimitReached`] where no descriptor is left, or the user has as many
    /// instances of `inotify(7)` as are allowed.
    ///
    /// # Examples
    ///
    /// ```
    /// # in_netns::rootless!();
    /// use in_netns::{NetNs, WatchEvent};
    ///
    /// let (names, mut watch) = NetNs::watch()?;
    /// for (name, netns) in &names {
    ///     println!("{name} is {netns}");
    /// }
    /// # let blue = &format!("in-netns-doc-watch-{}", std::process::id());
    /// let created = NetNs::create_named(blue)?;
    /// # NetNs::delete_named(blue)?;
    /// # let _ = created;
    /// # let blue = &format!("in-netns-doc-watch-again-{}", std::process::id());
    /// # let created = NetNs::create_named(blue)?;
    /// for event in watch {
    ///     match event? {
    ///         WatchEvent::Created { name, netns, .. } if name == *blue => {
    ///             assert_eq!(netns, created);
    ///             break;
    ///         }
    ///         other => println!("{other:?}"),
    ///     }
    /// }
    /// NetNs::delete_named(blue)?;
    /// # Ok::<(), in_netns::Error>(())
    /// ```
    ///
    /// # References
    ///
    /// `proc_pid_mountinfo(5)`, `inotify(7)`, `ip-netns(8)` (`ip netns monitor`).
    pub fn watch() -> Result<(Vec<(String, NetNs)>, Watch), Error> {
        // Opened before the names are listed: the first poll reports a change in between.
        let changes = changes_from_now()?;
        let names = list_with(|netns| netns)?;
        let known = names.iter().map(|(name, netns)| (name.clone(), identity(netns))).collect();
        let watch = Watch {
            changes,
            known,
            pending: VecDeque::new(),
            #[cfg(feature = "tokio")]
            registration: None,
        };
        Ok((names, watch))
    }
}

impl Watch {
    /// The next change, if there has been one. Does not wait.
    ///
    /// # Errors
    ///
    /// As [`NetNs::watch`]. A later call then reports the changes.
    pub fn try_next(&mut self) -> Result<Option<WatchEvent>, Error> {
        self.next_within(Duration::ZERO)
    }

    /// The next change, or `None` where there is none within `timeout`.
    ///
    /// # Errors
    ///
    /// As [`Watch::try_next`].
    pub fn next_within(&mut self, timeout: Duration) -> Result<Option<WatchEvent>, Error> {
        self.next_until(Instant::now().checked_add(timeout))
    }

    /// Without a deadline it waits forever.
    fn next_until(&mut self, deadline: Option<Instant>) -> Result<Option<WatchEvent>, Error> {
        loop {
            if let Some(event) = self.look()? {
                return Ok(Some(event));
            }
            if !self.wait(deadline)? {
                return Ok(None);
            }
        }
    }

    /// The next change, without waiting for it.
    pub(crate) fn look(&mut self) -> Result<Option<WatchEvent>, Error> {
        loop {
            if self.pending.is_empty() {
                if !self.changes.are_of_this_process() {
                    self.changes = changes_from_now()?;
                }
                // The kernel reports a change once, and the caller may have consumed that report by waiting for the
                // descriptor. So the names are compared in any case, and the reports consumed before: the next wait
                // reports a change that comes during the comparison.
                self.changes.watch_entries(&DIRECTORIES).map_err(failed)?;
                self.changes.take_reports().map_err(failed)?;
                self.wait(Some(Instant::now()))?;
                self.compare()?;
            }
            let Some(change) = self.pending.pop_front() else { return Ok(None) };
            if let Some(event) = self.event_of(change)? {
                return Ok(Some(event));
            }
        }
    }

    /// Opens the namespace of a change. `None` where its name is not that namespace's any more, which the next
    /// comparison finds. On an error the change is still pending.
    fn event_of(&mut self, change: NameChange) -> Result<Option<WatchEvent>, Error> {
        let (from, to, id) = match change {
            NameChange::Deleted(name) => return Ok(Some(WatchEvent::Deleted { name })),
            NameChange::Created { from, to, id } => (from, to, id),
        };
        match open(&to) {
            Err(error) => {
                self.pending.push_front(NameChange::Created { from, to, id });
                Err(error)
            }
            Ok(Some(netns)) if identity(&netns) == id => Ok(Some(match from {
                Some(from) => WatchEvent::Renamed { from, to, netns },
                None => WatchEvent::Created { name: to, netns },
            })),
            Ok(_) => {
                self.known.remove(&to);
                Ok(from.map(|name| WatchEvent::Deleted { name }))
            }
        }
    }

    /// Waits until something has changed since the last wait. `false` where the deadline came first.
    fn wait(&mut self, deadline: Option<Instant>) -> Result<bool, Error> {
        self.changes
            .wait(deadline)
            .map_err(|errno| Error::from_errno("wait for changes of the names of network namespaces (poll)", errno))
    }

    /// Lists the names again, and queues each difference. Only one namespace is open at a time: there may be more names
    /// than descriptors.
    fn compare(&mut self) -> Result<(), Error> {
        let now: BTreeMap<_, _> = list_with(|netns| identity(&netns))?.into_iter().collect();
        let before = std::mem::take(&mut self.known);
        // The names that are gone, by identity.
        let mut lost: BTreeMap<Identity, VecDeque<String>> = BTreeMap::new();
        let mut deleted = Vec::new();
        for (name, was) in &before {
            match now.get(name) {
                None => lost.entry(*was).or_default().push_back(name.clone()),
                // A name that another namespace has now is deleted, before all else. If it were renamed instead, the
                // events would contradict each other where names change places.
                Some(is) if is != was => deleted.push(name.clone()),
                Some(_) => {}
            }
        }
        let is_new = |(name, id): &(&String, &Identity)| before.get(*name) != Some(*id);
        let mut created = Vec::new();
        for (to, id) in now.iter().filter(is_new) {
            let from = lost.get_mut(id).and_then(VecDeque::pop_front);
            created.push(NameChange::Created { from, to: to.clone(), id: *id });
        }
        deleted.extend(lost.into_values().flatten());
        deleted.sort_unstable();
        self.pending.extend(deleted.into_iter().map(NameChange::Deleted));
        self.pending.extend(created);
        self.known = now;
        Ok(())
    }
}

impl Iterator for Watch {
    type Item = Result<WatchEvent, Error>;

    /// Waits for the next change.
    fn next(&mut self) -> Option<Self::Item> {
        self.next_until(None).transpose()
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.changes.mount_table()
    }
}

/// Watches the mount table and the directories of names.
fn changes_from_now() -> Result<Changes, Error> {
    let mount_table = File::open("/proc/thread-self/mountinfo")
        .map_err(|error| Error::from_std("watch the names of network namespaces (mountinfo)", error))
        .map_err(explain_thread_self)?;
    let mut changes = Changes::of_mounts(mount_table).map_err(failed)?;
    changes.watch_entries(&DIRECTORIES).map_err(failed)?;
    Ok(changes)
}

fn failed(errno: Errno) -> Error {
    Error::from_errno("watch the names of network namespaces (inotify)", errno).explain(|_| {
        let why = "no descriptor, no instance or watch of inotify(7), or no watch of epoll(7) is left: see \
                   `ulimit -n`, /proc/sys/fs/inotify and /proc/sys/fs/epoll";
        matches!(errno, Errno::EMFILE | Errno::ENOSPC).then(|| why.into())
    })
}

fn identity(netns: &NetNs) -> Identity {
    (netns.id(), netns.cookie())
}

/// The names that lead to a namespace now, each with what `read` makes of that namespace.
fn list_with<T>(read: impl Fn(NetNs) -> T) -> Result<Vec<(String, T)>, Error> {
    let mut names = Vec::new();
    for name in NetNs::list_named()? {
        if let Some(netns) = open(&name)? {
            names.push((name, read(netns)));
        }
    }
    Ok(names)
}

/// The namespace of a name. `None` where its mount is not there yet or is gone, or the file is no name or is gone, or
/// it is a link to the namespace of a process that may not be examined.
fn open(name: &str) -> Result<Option<NetNs>, Error> {
    match NetNs::from_name(name) {
        Ok(netns) => Ok(Some(netns)),
        Err(error) if matches!(error.kind(), ErrorKind::NotANetNs | ErrorKind::NotFound | ErrorKind::InvalidName) => {
            Ok(None)
        }
        // One link must not keep the others from being reported.
        Err(error) if error.kind() == ErrorKind::PermissionDenied && is_link(name) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_link(name: &str) -> bool {
    DIRECTORIES.iter().any(|directory| Path::new(directory).join(name).is_symlink())
}
