//! Views: what `ip netns exec` and `nsenter` show, for code of this process.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;

use crate::call::{Call, Options, Outcome, execute};
use crate::error::{Error, ErrorKind};
use crate::netns::mounts::{Files, Mounts, ProcessNamespaces, Recipe, Surroundings};
use crate::netns::{IntoNetNs, NetNs, Place, names_for_ip};
use crate::thread::pinned::PinnedThread;
use crate::thread::{Inspect, Role};

/// A network namespace together with the files that go with it: what `ip netns exec NAME` shows a program, in this
/// process.
///
/// | path | what a body in a view sees |
/// |---|---|
/// | `/sys` | that of the namespace: `/sys/class/net` has its interfaces. What is mounted below `/sys` at home is there too, if the path exists and is not one of an interface |
/// | `/etc` | home's, and over it the files of `/etc/netns/NAME` for a namespace that has a name in `/run/netns`, also one that is a link, when the view is made, or those that [`View::builder`] was given |
/// | `/etc/nsswitch.conf` | names of hosts come from `files dns` alone, unless the process has made a [`View::of_process`]; the sockets of nscd, systemd-resolved, avahi and sssd are covered: those programs would answer from home's network |
/// | everything else | as at home: it is the same filesystem |
///
/// A view is given wherever a namespace is: to [`with_netns`](crate::with_netns), [`Call::new`], `with_netns_async`,
/// `#[in_netns(&view)]` and `#[in_netns(view = …)]`. Cloning is cheap, and clones share the mounts.
///
/// ```
/// # in_netns::rootless!();
/// use std::fs;
/// use in_netns::NetNs;
///
/// let ns = NetNs::new()?;
/// let view = ns.view()?;
/// let devices = view.run(|| fs::read_dir("/sys/class/net").map(Iterator::count))??;
/// assert_eq!(devices, 1); // loopback
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # How it works
///
/// The view has a mount namespace of its own, a copy of home's, which is made once (about a millisecond) and kept by a
/// descriptor. Its mounts never show at home. A later mount at home shows in the view if the parent mount at home is
/// shared (`MS_SHARED`, the default of systemd), and not if it is private, as in most containers. Bodies run on pinned
/// threads of a second kind, which have root, working directory and umask of their own.
///
/// - The **working directory** is the caller's, where the view has a directory of that path, and `/` otherwise.
/// - The **root** (`chroot(2)`) and the **umask** are those that the process has when the view is made, or when its
///   mounts are made again. A body may change them, and its working directory: they are restored.
/// - **Mounts** that a body makes stay in the view, for its later bodies.
/// - A **file that is replaced** at home (by renaming a new file to `/etc/resolv.conf`) loses the mount over it. So the
///   files are checked before each body, and if one is missing the mounts are made again. A body or a process that is
///   running at that moment sees home's file from then on, as under `ip netns exec`. The check also covers files
///   that are added to, removed from or replaced in the directory of the view, and the targets of links in it; an
///   `/etc/netns/NAME` that is made or removed; and an `nsswitch.conf`, or a socket of a program that answers for
///   names, that did not exist when the view was made.
/// - **A thread started inside** is in the view, and stays there.
/// - A **nested call** is a call of its own: `with_netns(&other, …)` in a body runs where `other` says, with home's
///   files.
/// - The view keeps its network namespace alive, as a [`NetNs`] does. Its mounts do not.
/// - It takes `CAP_SYS_CHROOT` besides `CAP_SYS_ADMIN`, and works in a user namespace that has a mount namespace of its
///   own, such as that of [`rootless!`](crate::rootless!).
///
/// `/proc/net` is a link to the network of the process's main thread, which is not in the view; the
/// thread's own is `/proc/thread-self/net`.
///
/// # References
///
/// `ip-netns(8)`, `nsenter(1)`, `mount_namespaces(7)`, `nsswitch.conf(5)`, `sysfs(5)`.
#[derive(Clone)]
pub struct View {
    net: NetNs,
    surroundings: Arc<Surroundings>,
}

impl NetNs {
    /// A view of this namespace, as `ip netns exec` has it: see [`View`].
    ///
    /// # Errors
    ///
    /// As [`ViewBuilder::build`].
    pub fn view(&self) -> Result<View, Error> {
        View::builder(self).build()
    }
}

impl View {
    /// Begins a view of a namespace, with files other than those of `/etc/netns/NAME`.
    ///
    /// ```
    /// # in_netns::rootless!();
    /// use std::net::ToSocketAddrs;
    /// use in_netns::{NetNs, View};
    ///
    /// let ns = NetNs::new()?;
    /// let view = View::builder(&ns).hosts("192.0.2.7 db.internal\n").build()?;
    /// let address = view.run(|| ("db.internal", 5432).to_socket_addrs())??.next().unwrap();
    /// assert_eq!(address.ip().to_string(), "192.0.2.7");
    /// assert!(("db.internal", 5432).to_socket_addrs().is_err()); // at home
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder(ns: &NetNs) -> ViewBuilder {
        ViewBuilder {
            net: ns.clone(),
            etc: Etc::OfName,
            resolv_conf: None,
            hosts: None,
            services: Some("files dns".to_owned()),
            sys: true,
        }
    }

    /// The view that a process has: its mounts, and its network, UTS, IPC and cgroup namespaces, as
    /// `nsenter --target PID --mount --net --uts --ipc --cgroup` enters them.
    ///
    /// The process is given by its id, by a process descriptor (`pidfd_open(2)`) or as a [`Child`]. The view has the
    /// namespaces that the process has at this moment, and keeps them if the process exits or enters others. An id is
    /// looked up once: it may have been reused since the caller learnt it, which a descriptor excludes.
    ///
    /// The root is that of the mount namespace, also where the process has called `chroot(2)`.
    ///
    /// # Look-ups of names
    ///
    /// The C library loads modules for look-ups of names (`libnss_NAME.so.2`), and runs their code in this process.
    /// With a view of a process these are home's. glibc takes the services of all databases of home's
    /// `nsswitch.conf(5)`, as that file is when the latest such view is made, and leaves out those whose module is not
    /// installed at home. The `nsswitch.conf` of the process is not read.
    ///
    /// This holds for the whole process, and for good: glibc reads no `nsswitch.conf` any more, also not one that
    /// changes at home, or that of another [`View`]. Names of hosts in other views then come from the services of home.
    /// The sockets that a view covers stay covered.
    ///
    /// # Security
    ///
    /// Other libraries that a body loads at run time are **not** home's: those of `dlopen(3)`, converters of
    /// `iconv(3)`, and libidn2, which `getaddrinfo(3)` loads for `AI_IDN`. Such a body runs code from the files of the
    /// process, with the privileges of this process. The same is true of look-ups of names in a program that is linked
    /// with glibc statically: it should look up no names in a view of a process that it does not trust.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] where there is no such process, or it has exited; [`ErrorKind::PermissionDenied`] where
    /// this process may not inspect it (`CAP_SYS_PTRACE`), or has no capabilities in its user namespace;
    /// [`ErrorKind::NotANetNs`] where the descriptor is not one of a process. An error of another kind where
    /// `/etc/nsswitch.conf` exists at home and cannot be read.
    ///
    /// # Examples
    ///
    /// ```
    /// # in_netns::rootless!();
    /// # use std::process::{Command, Stdio};
    /// use in_netns::View;
    ///
    /// # let script = "mount -t tmpfs tmpfs /mnt && echo here > /mnt/file && echo ready && cat";
    /// # let mut container = Command::new("unshare").args(["--mount", "--uts", "sh", "-c", script])
    /// #     .stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    /// # let mut ready = std::io::BufReader::new(container.stdout.as_mut().unwrap());
    /// # std::io::BufRead::read_line(&mut ready, &mut String::new())?;
    /// let view = View::of_process(container.id())?;
    /// assert_eq!(view.run(|| std::fs::read_to_string("/mnt/file"))??, "here\n");
    /// # container.kill()?;
    /// # container.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # References
    ///
    /// `nsenter(1)`, `setns(2)`.
    pub fn of_process(process: impl ProcessRef) -> Result<View, Error> {
        let namespaces = process.namespaces()?;
        let net = namespaces.netns().clone();
        let mounts = on_thread_for_views(|thread| thread.mounts_of_process(namespaces))?;
        Ok(View { net, surroundings: Arc::new(Surroundings::of_process(mounts)) })
    }

    /// The network namespace.
    #[must_use]
    pub fn netns(&self) -> &NetNs {
        &self.net
    }

    /// The place in which bodies of the view run.
    pub(crate) fn place(&self) -> Place {
        Place::with_surroundings(self.net.clone(), Arc::clone(&self.surroundings))
    }

    /// Runs a closure in the view: [`with_netns`](crate::with_netns), with a view.
    ///
    /// # Errors
    ///
    /// As [`with_netns`](crate::with_netns), and as [`ViewBuilder::build`] where the mounts are made again. In each
    /// case the closure was never called.
    ///
    /// # Panics
    ///
    /// As [`with_netns`](crate::with_netns).
    pub fn run<F, R>(&self, f: F) -> Result<R, Error>
    where
        F: FnOnce() -> R + Send,
        R: Send,
    {
        Call::new(self).run(f)
    }

    /// Like [`View::run`], for a closure that returns a `Result`: see [`try_with_netns`](crate::try_with_netns).
    ///
    /// # Errors
    ///
    /// The closure's error, or one as of [`View::run`].
    ///
    /// # Panics
    ///
    /// As [`with_netns`](crate::with_netns).
    pub fn try_run<F, T, E>(&self, f: F) -> Result<T, E>
    where
        F: FnOnce() -> Result<T, E> + Send,
        T: Send,
        E: From<Error> + Send, // An error crosses threads as `Box<dyn Error + Send + Sync>`.
    {
        Call::new(self).try_run(f)
    }
}

impl fmt::Debug for View {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "View({})", self.net)
    }
}

/// For calls, the view. [`IntoNetNs::into_netns`] returns the network namespace alone.
impl IntoNetNs for &View {
    fn into_netns(self) -> Result<NetNs, Error> {
        Ok(self.net.clone())
    }

    fn into_place(self) -> Result<Place, Error> {
        Ok(self.place())
    }
}

/// As `&View`.
impl IntoNetNs for View {
    fn into_netns(self) -> Result<NetNs, Error> {
        Ok(self.net)
    }

    fn into_place(self) -> Result<Place, Error> {
        Ok(Place::with_surroundings(self.net, self.surroundings))
    }
}

/// Makes mounts on a pinned thread, which goes home afterwards.
fn on_thread_for_views(make: impl FnOnce(&mut PinnedThread) -> Result<Mounts, Error> + Send) -> Result<Mounts, Error> {
    execute(None, Role::Views, &Options::default(), Inspect::Later, make).map(Outcome::into_value)?
}

/// How to make a [`View`]: see [`View::builder`].
#[derive(Clone, Debug)]
#[must_use = "a view is made by `build`"]
pub struct ViewBuilder {
    net: NetNs,
    etc: Etc,
    resolv_conf: Option<String>,
    hosts: Option<String>,
    services: Option<String>,
    sys: bool,
}

/// Which directory is shown over `/etc`.
#[derive(Clone, Debug)]
enum Etc {
    /// `/etc/netns/NAME`, if the namespace has such a name.
    OfName,
    At(PathBuf),
    None,
}

impl ViewBuilder {
    /// Shows each entry of a directory over the entry of `/etc` of the same name, in place of those of
    /// `/etc/netns/NAME`. Links are followed.
    ///
    /// An entry that `/etc` lacks is an error, where `ip netns exec` warns and goes on. Such an entry is left out if
    /// editors and other programs use its name while they change a file: it begins with `.` or `#`, or ends with `~`. A
    /// file under any other name may exist for a few milliseconds, until it is renamed to the file that it replaces.
    ///
    /// The texts of [`resolv_conf`](ViewBuilder::resolv_conf) and [`hosts`](ViewBuilder::hosts) are shown in place of
    /// the directory's entries of these names.
    pub fn etc(mut self, directory: impl Into<PathBuf>) -> ViewBuilder {
        self.etc = Etc::At(directory.into());
        self
    }

    /// Shows no directory over `/etc`, also where there is an `/etc/netns/NAME`.
    pub fn without_etc(mut self) -> ViewBuilder {
        self.etc = Etc::None;
        self
    }

    /// Shows a text as `/etc/resolv.conf`.
    ///
    /// Where that is a link, the file that it leads to is covered as well. If a body writes to the file, later bodies
    /// in the view read what it wrote.
    pub fn resolv_conf(mut self, text: impl Into<String>) -> ViewBuilder {
        self.resolv_conf = Some(text.into());
        self
    }

    /// Shows a text as `/etc/hosts`, as [`resolv_conf`](ViewBuilder::resolv_conf) does.
    pub fn hosts(mut self, text: impl Into<String>) -> ViewBuilder {
        self.hosts = Some(text.into());
        self
    }

    /// Sets where names of hosts are looked up, in the syntax of `nsswitch.conf(5)`: `files dns` unless set.
    ///
    /// The socket of a program that is named here (`resolve`, `mdns4_minimal`, `sss`) is not covered. nscd always is.
    /// An `nsswitch.conf` in the directory of the view overrides this; if it has no line for `hosts`, the default of
    /// the C library applies, `files dns`. With glibc, both are ignored once the process has made a
    /// [`View::of_process`]. Where home has no `nsswitch.conf`, glibc takes `files dns`, and other services are an
    /// error: [`ErrorKind::NotFound`].
    pub fn names(mut self, services: impl Into<String>) -> ViewBuilder {
        self.services = Some(services.into());
        self
    }

    /// Leaves `nsswitch.conf` and the sockets of programs that look up names as they are at home. Such a program
    /// answers from the network that *it* is in.
    pub fn names_as_at_home(mut self) -> ViewBuilder {
        self.services = None;
        self
    }

    /// Leaves `/sys` as it is at home: `/sys/class/net` shows home's interfaces. Use it where the kernel does not allow
    /// sysfs to be mounted.
    pub fn without_sys(mut self) -> ViewBuilder {
        self.sys = false;
        self
    }

    /// Makes the view.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::PermissionDenied`] without `CAP_SYS_ADMIN` and `CAP_SYS_CHROOT`, where home's mount namespace
    ///   belongs to a user namespace above, or where the namespace has a name and the user may not search `/etc/netns`
    ///   ([`without_etc`](ViewBuilder::without_etc) makes a view that needs no files from there).
    /// - [`ErrorKind::Unsupported`] where sysfs cannot be mounted, as in a container with parts of `/sys` covered; or
    ///   where the namespace has several names with a directory in `/etc/netns`, where an entry of the directory would
    ///   cover that directory, where two names in `/etc` lead to one file, where one leads to a file that keeps no
    ///   mount, such as those of `/proc/net`, or where `nsswitch.conf` is not a regular file of less than 1 MiB.
    /// - [`ErrorKind::NotFound`] where `/etc` lacks a file that the view would cover, where a link in the directory
    ///   leads nowhere, or where there is no such directory.
    /// - [`ErrorKind::NotADirectory`] where a file would cover a directory, or a directory a file.
    /// - [`ErrorKind::InvalidName`] where the path of the directory contains a NUL byte, or what was given to
    ///   [`names`](ViewBuilder::names) is more than one line, or contains a NUL byte.
    /// - [`ErrorKind::LimitReached`], [`ErrorKind::ThreadSpawn`].
    ///
    /// Nothing is left behind on an error.
    pub fn build(self) -> Result<View, Error> {
        let ViewBuilder { net, etc, resolv_conf, hosts, services, sys } = self;
        if let Some(lines) = services.as_deref().filter(|services| services.contains(['\n', '\0'])) {
            let operation = format!("make a view of {net}: look names of hosts up in {lines:?}");
            return Err(Error::new(
                ErrorKind::InvalidName,
                operation,
                "the services are one line, such as `files dns`",
            ));
        }
        let (directory, directories_of_names) = match etc {
            Etc::OfName => (None, directories_of_names(&net)?),
            Etc::At(directory) => (Some(absolute(&net, &directory)?), Vec::new()),
            Etc::None => (None, Vec::new()),
        };
        let files = Files { directory, directories_of_names, resolv_conf, hosts, services };
        let recipe = Recipe { net: net.clone(), files, sys };
        let mounts = on_thread_for_views(|thread| thread.make_mounts(&recipe))?;
        Ok(View { net, surroundings: Arc::new(Surroundings::of_network(recipe, mounts)) })
    }
}

/// The directories in `/etc/netns` for the names of a namespace. They need not exist.
fn directories_of_names(net: &NetNs) -> Result<Vec<PathBuf>, Error> {
    Ok(names_for_ip(net)?.into_iter().map(|name| Path::new("/etc/netns").join(name)).collect())
}

fn absolute(net: &NetNs, directory: &Path) -> Result<PathBuf, Error> {
    let operation = || format!("make a view of {net}: find the directory {:?}", directory.to_string_lossy());
    if directory.as_os_str().as_bytes().contains(&0) {
        return Err(Error::new(ErrorKind::InvalidName, operation(), "a path cannot contain a NUL byte"));
    }
    std::path::absolute(directory).map_err(|source| {
        let why = match source.raw_os_error() {
            Some(_) => "it is relative, and the path of the working directory cannot be determined".to_owned(),
            None => source.to_string(),
        };
        Error::from_io(ErrorKind::NotFound, operation(), source).explained(why)
    })
}

/// The types by which [`View::of_process`] takes a process: an id (`u32`), a process descriptor (`OwnedFd`, `&OwnedFd`,
/// `BorrowedFd`), or a `&Child`.
pub trait ProcessRef: sealed::Process {}

impl<P: sealed::Process> ProcessRef for P {}

mod sealed {
    use super::{AsFd, BorrowedFd, Child, Error, OwnedFd, ProcessNamespaces};

    pub trait Process {
        fn namespaces(self) -> Result<ProcessNamespaces, Error>;
    }

    impl Process for u32 {
        fn namespaces(self) -> Result<ProcessNamespaces, Error> {
            ProcessNamespaces::of_pid(self)
        }
    }

    impl Process for &Child {
        fn namespaces(self) -> Result<ProcessNamespaces, Error> {
            ProcessNamespaces::of_pid(self.id())
        }
    }

    impl Process for BorrowedFd<'_> {
        fn namespaces(self) -> Result<ProcessNamespaces, Error> {
            ProcessNamespaces::of_pidfd(self)
        }
    }

    impl Process for &OwnedFd {
        fn namespaces(self) -> Result<ProcessNamespaces, Error> {
            ProcessNamespaces::of_pidfd(self.as_fd())
        }
    }

    impl Process for OwnedFd {
        fn namespaces(self) -> Result<ProcessNamespaces, Error> {
            ProcessNamespaces::of_pidfd(self.as_fd())
        }
    }
}
