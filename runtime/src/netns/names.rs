//! Named namespaces, as `ip-netns(8)` keeps them: a file in a directory such as `/run/netns`, with the namespace
//! bind-mounted on it. The directory is a shared mount, so that every mount namespace sees names come and go.
//!
//! **Promised:** a namespace is mounted on the file that was made for it, or nowhere; nothing but a network namespace
//! is unmounted; nothing outside of the directory is touched.
//!
//! **How:** other programs may rename, remove and link in the directory at the same time. So no path is looked up
//! twice: a file is opened once, relative to the directory's descriptor and without following a link, and everything
//! else is done to that descriptor (`/proc/thread-self/fd/N`).

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::mounts::explain_too_many_mounts;
use super::{NetNs, not_a_netns};
use crate::error::{Error, ErrorKind};
use crate::sys::{self, LockedDirectory};

/// Where `ip netns` keeps its names. The second is, as a rule, the first by another path; where `/var/run` is a
/// directory of its own, it is not.
pub(crate) const DIRECTORIES: [&str; 2] = ["/run/netns", "/var/run/netns"];

/// `NAME_MAX` of `limits.h`.
const LONGEST_NAME: usize = 255;

/// A directory of names, other than that of `ip netns`.
///
/// Each name is a file with a namespace mounted on it. The functions of [`NetNs`] that take a name, such as
/// [`NetNs::create_named`], do the same in the directory that `ip netns` uses.
///
/// # Examples
///
/// ```
/// # in_netns::rootless!();
/// use in_netns::{Names, NetNs};
///
/// # let directory = std::env::temp_dir().join(format!("in-netns-doc-{}", std::process::id()));
/// let sandboxes = Names::at(&directory); // such as /run/sandboxes
/// let blue = sandboxes.create("blue")?;
/// assert_eq!(sandboxes.list()?, ["blue"]);
/// assert_eq!(sandboxes.open("blue")?, blue);
/// assert_eq!(NetNs::from_path(directory.join("blue"))?, blue);
/// sandboxes.delete("blue")?;
/// # // The directory is a mount of its own.
/// # nix::mount::umount2(&directory, nix::mount::MntFlags::MNT_DETACH).unwrap();
/// # std::fs::remove_dir(&directory).unwrap();
/// # Ok::<(), in_netns::Error>(())
/// ```
///
/// # References
///
/// `ip-netns(8)`, `mount(2)`, `umount2(2)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    directory: PathBuf,
}

impl Names {
    /// The names in a directory. It need not exist: the first [`create`](Names::create) makes it, and makes it a
    /// shared mount. A relative path is looked up in the working directory at each use.
    #[must_use]
    pub fn at(directory: impl Into<PathBuf>) -> Names {
        Names { directory: directory.into() }
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The namespace of a name.
    ///
    /// # Errors
    ///
    /// As [`NetNs::from_name`].
    pub fn open(&self, name: &str) -> Result<NetNs, Error> {
        self.check(name, "open")?;
        let path = self.path_of(name);
        NetNs::open(&path, || format!("open the network namespace `{name}` ({})", path.display()))
            .map_err(|error| self.explain_no_such_name(error))
    }

    /// The names, sorted. No directory means no names.
    ///
    /// A name without a namespace behind it (its mount is gone) is listed too, as by `ip netns list`. A file whose
    /// name is not UTF-8 is left out.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PermissionDenied`], [`ErrorKind::LimitReached`]; [`ErrorKind::NotADirectory`] where the directory
    /// is a file; [`ErrorKind::InvalidName`] where its path contains a NUL byte.
    pub fn list(&self) -> Result<Vec<String>, Error> {
        let directory = self.location();
        check_path(&directory, || format!("list {}", directory.display()))?;
        let names = sys::restarted(|| match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            entries => {
                let entries: Result<Vec<_>, _> = entries.and_then(Iterator::collect);
                let entries = entries.map_err(|error| sys::errno_of(&error))?;
                Ok(entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok()).collect())
            }
        });
        let names = names.map_err(|errno| Error::from_errno(format!("list {}", directory.display()), errno))?;
        Ok(names.into_iter().collect())
    }

    /// Removes a name.
    ///
    /// # Errors
    ///
    /// As [`NetNs::delete_named`]; [`ErrorKind::NotADirectory`] where the directory is a file.
    pub fn delete(&self, name: &str) -> Result<(), Error> {
        self.check(name, "delete")?;
        let path = self.path_of(name);
        let operation = || format!("delete the network namespace `{name}` ({})", path.display());
        let failed = |errno| {
            let error = Error::from_errno(operation(), errno).explain_missing(&path).explain_making();
            self.explain_no_such_name(error)
        };
        let by_descriptor = |errno| explain_descriptor_files(Error::from_errno(operation(), errno)).explain_making();
        let unmounting = |errno| explain_descriptor_files(Error::from_errno(operation(), errno)).explain_unmounting();
        let refused = |what: &str| not_a_netns(operation(), &format!("{what}, which is left as it is"));

        let directory = sys::open_directory(&self.location()).map_err(failed)?;
        let mut found = false;
        loop {
            let entry = match sys::entry_at(&directory, Path::new(name)) {
                // Another program removed it meanwhile.
                Err(Errno::ENOENT) if found => return Ok(()),
                entry => entry.map_err(failed)?,
            };
            found = true;
            if sys::is_namespace_file(&entry).map_err(failed)? {
                // An entry is opened without access to it; to ask for its type takes an open file.
                let namespace = sys::open_namespace_file(&sys::path_of_descriptor(&entry)).map_err(by_descriptor)?;
                NetNs::checked(namespace, || format!("{} as a network namespace", operation()))?;
                match sys::detach_mount(&entry) {
                    // Another program has unmounted it meanwhile.
                    Err(Errno::EINVAL) if matches!(sys::line_of_mount(&entry), Ok(None)) => {}
                    unmounted => unmounted.map_err(unmounting)?,
                }
                continue;
            }
            match sys::remove_file_at(&directory, name) {
                Ok(()) | Err(Errno::ENOENT) => return Ok(()),
                // A namespace was mounted on it meanwhile, or something else is.
                Err(Errno::EBUSY) => match mounted_on(&directory, name) {
                    Mounted::Namespace => {}
                    Mounted::Other => return Err(refused("something else is mounted there")),
                    Mounted::Nothing => return Err(failed(Errno::EBUSY).explained(hidden(&self.location()))),
                },
                Err(Errno::EISDIR) => return Err(refused("a directory")),
                Err(errno) => return Err(failed(errno)),
            }
        }
    }

    /// Adds to a `NotFound` error what lists the names of this directory.
    fn explain_no_such_name(&self, error: Error) -> Error {
        error.explain(|kind| {
            let lists = if DIRECTORIES.iter().any(|directory| self.directory == Path::new(directory)) {
                "`ip netns list` and `NetNs::list_named` show what there is"
            } else {
                "`Names::list` shows what there is"
            };
            (kind == ErrorKind::NotFound).then(|| format!("no such name: {lists}"))
        })
    }

    /// Gives a namespace a name.
    pub(crate) fn bind(&self, netns: &NetNs, name: &str) -> Result<(), Error> {
        self.reserve(name)?.bind(netns)
    }

    /// Takes a name: makes the directory ready, and the file.
    pub(crate) fn reserve(&self, name: &str) -> Result<Reserved, Error> {
        self.check(name, "create")?;
        let path = self.path_of(name);
        let operation = format!("create the network namespace `{name}` ({})", path.display());
        let missing_parent = |kind| {
            let location = self.location();
            let parent = location.parent().filter(|parent| kind == ErrorKind::NotFound && !parent.exists())?;
            Some(if location.is_relative() {
                "it is relative, and the working directory does not exist".into()
            } else {
                format!("the directory {} does not exist", parent.display())
            })
        };
        let full = |errno| {
            let why = || "the file system of the directory has no space or no inodes left (`df`, `df -i`)".into();
            (errno == Errno::ENOSPC).then(why)
        };
        let explained = |error: Error| {
            let errno = error.errno();
            error.explain_missing(&path).explain(missing_parent).explain(|_| full(errno)).explain_making()
        };
        let failed = |errno| explained(Error::from_errno(operation.clone(), errno));
        let failed_to_mount = |errno| explained(explain_descriptor_files(Error::from_errno(operation.clone(), errno)));
        let locked = self.lock_directory().map_err(failed_to_mount)?;
        let directory = locked.open_again().map_err(failed)?;
        // It comes last: nothing can fail that would leave it.
        let file = sys::create_file_at(&directory, name).map_err(failed)?;
        Ok(Reserved { names: self.clone(), directory, name: name.to_owned(), file: Some(file), operation, path })
    }

    /// Refuses what cannot be a name here. Nothing has been touched when this fails.
    fn check(&self, name: &str, verb: &str) -> Result<(), Error> {
        check_name(name, verb)?;
        let directory = self.location();
        let operation = || format!("{verb} the network namespace `{name}` in {}", directory.display());
        if directory.as_os_str().is_empty() {
            // The name alone would be a path in the working directory.
            let operation = format!("{verb} the network namespace `{name}`");
            let why = "the path of the directory is empty";
            return Err(Error::from_errno(operation, Errno::ENOENT).explained(why));
        }
        check_path(&directory, operation)
    }

    /// The names that are links, such as `ln -s /proc/PID/ns/net /run/netns/NAME`, and lead to a namespace.
    fn links_to(&self, netns: &NetNs) -> Result<Vec<OsString>, Error> {
        let id = netns.id().device_and_inode();
        let links = sys::restarted(|| {
            let entries = fs::read_dir(&self.directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
            let entries = entries.map_err(|error| sys::errno_of(&error))?;
            let is_link = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_symlink());
            Ok(entries.into_iter().filter(is_link).map(|entry| entry.file_name()).collect::<Vec<_>>())
        });
        let links = links.map_err(|errno| Error::from_errno(format!("list {}", self.directory.display()), errno))?;
        Ok(links.into_iter().filter(|name| sys::identity_of(&self.directory.join(name)) == Ok(id)).collect())
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.location().join(name)
    }

    /// The absolute path of the directory. From a working directory that is the directory itself, a relative path leads
    /// below the mount that is made on it.
    fn location(&self) -> PathBuf {
        std::path::absolute(&self.directory).unwrap_or_else(|_| self.directory.clone())
    }

    /// Makes the directory where needed, and holds the lock that iproute2 takes to make a mount of it.
    fn lock_directory(&self) -> Result<LockedDirectory, Errno> {
        let location = self.location();
        match DirBuilder::new().mode(0o755).create(&location) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(sys::errno_of(&error)),
            _ => {}
        }
        self.lock_existing_directory()
    }

    fn lock_existing_directory(&self) -> Result<LockedDirectory, Errno> {
        LockedDirectory::lock(sys::open_directory(&self.location())?)
    }

    /// Makes a shared mount of the directory, where that is not done yet. Returns the directory on the new mount, where
    /// there is one.
    fn share_directory(&self, found: &LockedDirectory) -> Result<Option<OwnedFd>, Errno> {
        // For the descriptor that is opened below: its want would leave the mount.
        let spare = duplicate(found)?;
        match sys::share_mount(found) {
            // The directory is no mount of its own yet.
            Err(Errno::EINVAL) => sys::bind_mount(found, found)?,
            result => return result.map(|()| None),
        }
        drop(spare);
        // To be on the new mount takes another look-up, which must find the same directory.
        let mounted = sys::open_directory(&self.location())?;
        if sys::identity(&mounted)? != sys::identity(found)? {
            return Err(Errno::EBUSY);
        }
        if let Err(errno) = sys::share_mount(&mounted) {
            let _ = sys::detach_mount(&mounted);
            return Err(errno);
        }
        self.unmount_hidden(found);
        Ok(Some(mounted))
    }

    /// Unmounts the names that were there before the directory became a mount of its own. They have been copied to
    /// the new mount, and a file cannot be removed while a mount below is still on it. (Where the mount below is
    /// shared, what happens above happens below too.)
    fn unmount_hidden(&self, below: impl AsFd) {
        if sys::is_on_shared_mount(&below) {
            return;
        }
        for name in self.list().unwrap_or_default() {
            if let Ok(entry) = sys::entry_at(&below, Path::new(&name)) {
                if sys::is_namespace_file(&entry).unwrap_or(false) {
                    let _ = sys::detach_mount(&entry);
                }
            }
        }
    }
}

/// Refuses what cannot be a name. `verb` is for the message: nothing has been touched when this fails.
fn check_name(name: &str, verb: &str) -> Result<(), Error> {
    let refuse = |why: &str| {
        let operation = format!("{verb} the network namespace {name:?}");
        Err(Error::new(ErrorKind::InvalidName, operation, format!("{why} (a path works with `NetNs::from_path`)")))
    };
    match name {
        "" => refuse("the name is empty"),
        "." | ".." => refuse("the name is a directory's"),
        _ if name.contains('/') => refuse("the name contains a `/`"),
        _ if name.contains('\0') => refuse("the name contains a NUL byte"),
        _ if name.len() > LONGEST_NAME => refuse("the name is longer than 255 bytes"),
        _ => Ok(()),
    }
}

/// Refuses a path that the kernel cannot be asked about.
pub(super) fn check_path<O: Into<String>>(path: &Path, operation: impl FnOnce() -> O) -> Result<(), Error> {
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        let operation = operation().into().replace('\0', "\\0");
        return Err(Error::new(ErrorKind::InvalidName, operation, "a path cannot contain a NUL byte"));
    }
    Ok(())
}

/// The existing directories that `ip netns` may use, without duplicates.
fn existing_directories() -> Result<Vec<Names>, Error> {
    let mut found: Vec<(PathBuf, Names)> = Vec::new();
    for (canonical, names) in canonical_directories()? {
        if !found.iter().any(|(other, _)| *other == canonical) {
            found.push((canonical, names));
        }
    }
    Ok(found.into_iter().map(|(_, names)| names).collect())
}

/// The directories that exist and can be reached, each with the path that mount tables show.
///
/// Any other failure to find one is an error: its names are not gone.
pub(super) fn canonical_directories() -> Result<Vec<(PathBuf, Names)>, Error> {
    let mut found = Vec::with_capacity(DIRECTORIES.len());
    for directory in DIRECTORIES {
        match fs::canonicalize(directory) {
            Ok(canonical) => found.push((canonical, Names::at(directory))),
            Err(error) => match sys::errno_of(&error) {
                Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EACCES => {}
                errno => return Err(Error::from_errno(format!("find {directory}"), errno)),
            },
        }
    }
    Ok(found)
}

/// The names of a namespace in these directories, also those that are links.
pub(crate) fn names_for_ip(netns: &NetNs) -> Result<BTreeSet<OsString>, Error> {
    let mounted = netns.names()?;
    let mut names = BTreeSet::new();
    for (canonical, directory) in canonical_directories()? {
        let mounted_here = mounted.iter().filter(|path| path.parent() == Some(&canonical));
        names.extend(mounted_here.filter_map(|path| path.file_name().map(OsString::from)));
        names.extend(directory.links_to(netns)?);
    }
    Ok(names)
}

/// The directory for new names.
fn directory_for(name: &str) -> Result<Names, Error> {
    check_name(name, "create")?;
    let mut existing = existing_directories()?.into_iter();
    let first = existing.next().unwrap_or_else(|| Names::at(DIRECTORIES[0]));
    // In the first directory the file system refuses a name that exists.
    match existing.find(|names| names.path_of(name).symlink_metadata().is_ok()) {
        None => Ok(first),
        Some(other) => {
            let path = other.path_of(name);
            let operation = format!("create the network namespace `{name}` ({})", path.display());
            Err(Error::from_errno(operation, Errno::EEXIST))
        }
    }
}

/// Calls `act` for the first of the directories that has the name.
fn in_directory_of<T>(mut act: impl FnMut(&Names) -> Result<T, Error>) -> Result<T, Error> {
    let mut missing = None;
    for directory in DIRECTORIES {
        match act(&Names::at(directory)) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                missing = missing.or(Some(error));
            }
            result => return result,
        }
    }
    match missing {
        Some(error) => Err(error),
        None => unreachable!("there is a directory to look into"),
    }
}

impl NetNs {
    /// The namespace that `ip netns` knows by this name: `/run/netns/NAME`, or `/var/run/netns/NAME` where that is
    /// another directory.
    ///
    /// A name is 1 to 255 bytes, without `/` and NUL, and neither `.` nor `..`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`], before anything is looked at; [`ErrorKind::NotFound`]; [`ErrorKind::NotANetNs`]
    /// where the file is there and its mount is not: the namespace was deleted elsewhere, or this mount namespace
    /// does not show it.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use in_netns::{ErrorKind, NetNs};
    ///
    /// match NetNs::from_name("blue") {
    ///     Ok(blue) => println!("{blue}"), // net:[4026532313]
    ///     Err(error) if error.kind() == ErrorKind::NotFound => println!("there are {:?}", NetNs::list_named()?),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok::<(), in_netns::Error>(())
    /// ```
    ///
    /// # References
    ///
    /// `ip-netns(8)`.
    pub fn from_name(name: &str) -> Result<NetNs, Error> {
        in_directory_of(|names| names.open(name))
    }

    /// Gives this namespace a name, as `ip netns attach` does for that of a process: bound to `/run/netns/NAME`, in a
    /// shared mount.
    ///
    /// The namespace then stays until [`NetNs::delete_named`], even when the process has exited. A namespace may have
    /// several names.
    ///
    /// # Errors
    ///
    /// As [`NetNs::create_named`].
    ///
    /// # Examples
    ///
    /// ```
    /// # in_netns::rootless!();
    /// use in_netns::NetNs;
    ///
    /// let ns = NetNs::new()?;
    /// # let name = &format!("in-netns-doc-persist-{}", std::process::id());
    /// ns.persist(name)?;
    /// assert_eq!(NetNs::from_name(name)?, ns);
    /// NetNs::delete_named(name)?;
    /// # Ok::<(), in_netns::Error>(())
    /// ```
    ///
    /// # References
    ///
    /// `ip-netns(8)`, `mount(2)`.
    pub fn persist(&self, name: &str) -> Result<(), Error> {
        directory_for(name)?.bind(self, name)
    }

    /// Removes a name, as `ip netns del` does.
    ///
    /// The namespace itself goes with its last user: threads and processes in it, sockets and handles stay as they
    /// are. A name file that has lost its mount is removed too, and so is a link (not what it leads to). Where
    /// namespaces are mounted on one another, all of them are unmounted. (`ip netns del` unmounts the topmost one and
    /// then fails.)
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`]; [`ErrorKind::NotFound`]; [`ErrorKind::PermissionDenied`], also where the mount is
    /// locked, because it was copied here from another user namespace; [`ErrorKind::NotANetNs`] where the name is a
    /// directory, or something that is no network namespace is mounted on it: that stays as it is.
    ///
    /// # References
    ///
    /// `ip-netns(8)`, `umount2(2)` with `MNT_DETACH`.
    pub fn delete_named(name: &str) -> Result<(), Error> {
        in_directory_of(|names| names.delete(name))
    }

    /// The names in `/run/netns`, sorted: those that `ip netns list` prints. Those in `/var/run/netns` too, where
    /// that is another directory.
    ///
    /// A name without a namespace behind it (its mount is gone) is listed too, as there; [`NetNs::from_name`] tells.
    /// A file whose name is not UTF-8 is left out.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PermissionDenied`]. No directory means no names, not an error.
    pub fn list_named() -> Result<Vec<String>, Error> {
        let mut names = BTreeSet::new();
        for directory in existing_directories()? {
            names.extend(directory.list()?);
        }
        Ok(names.into_iter().collect())
    }
}

/// A name file that is ours, with no namespace on it yet. Dropping it gives the name back.
pub(crate) struct Reserved {
    names: Names,
    directory: OwnedFd,
    name: String,
    /// `None` when the namespace has been bound.
    file: Option<OwnedFd>,
    operation: String,
    path: PathBuf,
}

impl Reserved {
    /// Takes a name of `ip netns`.
    pub(crate) fn take(name: &str) -> Result<Reserved, Error> {
        directory_for(name)?.reserve(name)
    }

    /// Binds a namespace to the name.
    pub(crate) fn bind(mut self, netns: &NetNs) -> Result<(), Error> {
        let failed = |errno, reserved: &Reserved| {
            let error = explain_too_many_mounts(Error::from_errno(reserved.operation.clone(), errno));
            let error = explain_descriptor_files(error).explain_missing(&reserved.path).explain_making();
            error.explain(|kind| (kind == ErrorKind::Busy).then(|| REPLACED.into()))
        };
        // Until the end: a mount of the directory that is taken away again must have no other name yet.
        let locked = self.names.lock_existing_directory().map_err(|errno| failed(errno, &self))?;
        let is_mounted_here = self.move_to_shared(&locked).map_err(|errno| failed(errno, &self))?;
        let mount = scopeguard::guard(is_mounted_here.then(|| duplicate(&self.directory)), |mount| {
            // Of a name that was not bound, also the mount of its directory goes.
            if let Some(Ok(directory)) = mount {
                let _ = sys::detach_mount(&directory);
            }
        });
        self.mount(netns)?;
        drop(scopeguard::ScopeGuard::into_inner(mount));
        self.file = None;
        Ok(())
    }

    /// Makes the directory a shared mount where it is none, and takes the same file there. Returns whether it made one.
    fn move_to_shared(&mut self, locked: &LockedDirectory) -> Result<bool, Errno> {
        if sys::identity(locked)? != sys::identity(&self.directory)? {
            return Err(Errno::EBUSY);
        }
        // For the descriptors that are opened when the mount is made.
        let spares = [duplicate(locked)?, duplicate(locked)?];
        let mounted = self.names.share_directory(locked)?;
        drop(spares);
        let is_mounted_here = mounted.is_some();
        let directory = mounted.map_or_else(|| duplicate(locked), Ok)?;
        // What is open is below the mount, which shows the same file.
        self.move_to(directory)?;
        Ok(is_mounted_here)
    }

    fn mount(&self, netns: &NetNs) -> Result<(), Error> {
        let Some(file) = &self.file else { return Ok(()) };
        let replaced = || Error::from_errno(self.operation.clone(), Errno::EBUSY).explained(REPLACED);
        match sys::bind_mount(netns, file) {
            Ok(()) => {}
            // The file has no name any more.
            Err(Errno::ENOENT) if sys::has_descriptor_files() => return Err(replaced()),
            Err(errno) => {
                let error = explain_too_many_mounts(Error::from_errno(self.operation.clone(), errno));
                return Err(explain_descriptor_files(error).explain_making());
            }
        }
        if self.leads_to(netns) {
            return Ok(());
        }
        unmount_from_renamed(file, netns);
        Err(replaced())
    }

    /// Takes the same file on another mount of its directory.
    fn move_to(&mut self, directory: OwnedFd) -> Result<(), Errno> {
        let moved = sys::entry_at(&directory, Path::new(&self.name)).map_err(|errno| match errno {
            Errno::ENOENT => Errno::EBUSY,
            errno => errno,
        })?;
        let ours = self.file.as_ref().map_or(Err(Errno::ENOENT), sys::identity)?;
        if sys::identity(&moved)? != ours {
            return Err(Errno::EBUSY);
        }
        self.directory = directory;
        self.file = Some(moved);
        Ok(())
    }

    /// Whether the name shows the namespace. From now on it cannot be renamed: it is a mount point.
    fn leads_to(&self, netns: &NetNs) -> bool {
        sys::identity_at(&self.directory, &self.name) == Ok(netns.id().device_and_inode())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        // At worst an ordinary file stays, which `NetNs::delete_named` removes.
        if let Some(file) = &self.file {
            let ours = sys::identity(file);
            if ours.is_ok() && ours == sys::identity_at(&self.directory, &self.name) {
                let _ = sys::remove_file_at(&self.directory, &self.name);
            }
        }
    }
}

/// Takes a namespace off a file that was renamed before it was mounted there.
fn unmount_from_renamed(file: &OwnedFd, netns: &NetNs) {
    let Ok(path) = fs::read_link(sys::path_of_descriptor(file)) else { return };
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return };
    let entry = sys::open_directory(directory).and_then(|directory| sys::entry_at(directory, Path::new(name)));
    let Ok(entry) = entry else { return };
    if sys::identity(&entry) == Ok(netns.id().device_and_inode()) {
        let _ = sys::detach_mount(&entry);
    }
}

/// The topmost mount on an entry of a directory.
enum Mounted {
    Namespace,
    Other,
    Nothing,
}

fn mounted_on(directory: &OwnedFd, name: &str) -> Mounted {
    let Ok(entry) = sys::entry_at(directory, Path::new(name)) else { return Mounted::Nothing };
    if sys::is_namespace_file(&entry).unwrap_or(false) {
        return Mounted::Namespace;
    }
    match (sys::mount_of(&entry), sys::mount_of(directory)) {
        (Ok(of_entry), Ok(of_directory)) if of_entry == of_directory => Mounted::Nothing,
        _ => Mounted::Other,
    }
}

const REPLACED: &str = "another program removed or replaced the file or its directory meanwhile";

/// Adds to a `NotFound` error that descriptors cannot be reached by path, where that is the cause.
fn explain_descriptor_files(error: Error) -> Error {
    error.explain(|kind| {
        (kind == ErrorKind::NotFound && !sys::has_descriptor_files())
            .then(|| "/proc/thread-self/fd is not there: is /proc mounted, and is this its own pid namespace?".into())
    })
}

/// Why a file on which nothing is mounted is a mount point.
fn hidden(directory: &Path) -> String {
    format!("the mount on {} hides another one, where a namespace is mounted on the same file", directory.display())
}

fn duplicate(fd: impl AsFd) -> Result<OwnedFd, Errno> {
    fd.as_fd().try_clone_to_owned().map_err(|error| sys::errno_of(&error))
}
