//! The files of `/etc` that a view has for itself, and how names are looked up in it.
//!
//! **Why the sources of names are limited:** the C library asks programs on the machine for names, by sockets with a
//! path: nscd, systemd-resolved, avahi, sssd. They answer from the network in which they run, which is home's. So a
//! view has an `nsswitch.conf(5)` of its own, and what is at those paths is covered.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;

use super::{Expected, step};
use crate::error::{Error, ErrorKind};
use crate::netns::NetNs;
use crate::sys;

/// The files that a view shows in place of home's.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    /// Each entry is shown over the entry of `/etc` of the same name.
    pub(crate) directory: Option<PathBuf>,
    pub(crate) resolv_conf: Option<String>,
    pub(crate) hosts: Option<String>,
    /// The sources of names of hosts, as `nsswitch.conf` has them. `None`: as at home.
    pub(crate) services: Option<String>,
}

const ETC: &str = "/etc";
const NSSWITCH: &str = "nsswitch.conf";

/// The sockets of programs that answer for names, by the beginning of their name in `nsswitch.conf`.
const SOCKETS: [(&str, &str); 4] = [
    ("resolve", "/run/systemd/resolve/io.systemd.Resolve"),
    ("mdns", "/run/avahi-daemon/socket"),
    ("sss", "/var/lib/sss/pipes/nss"),
    ("sss", "/var/lib/sss/pipes/private/nss"),
];

/// The directory of nscd, which the C library asks before it reads `nsswitch.conf`.
const NSCD: [&str; 2] = ["/run/nscd", "/var/run/nscd"];

impl Files {
    /// On a thread in the mount namespace of the view, none of whose mounts shows elsewhere: mounts the files. Returns
    /// what is to be found in the view from then on.
    pub(super) fn mount(&self, netns: &NetNs) -> Result<Vec<Expected>, Error> {
        let mut expected = Vec::new();
        let mut own = Vec::new();
        let mut services = self.services.clone();
        if let Some(directory) = &self.directory {
            // Before its entries: what changes from now on is noticed.
            expected.push(Expected::now(directory));
            for (name, path) in entries(directory).map_err(step(netns, format!("list {}", directory.display())))? {
                if (name == "resolv.conf" && self.resolv_conf.is_some()) || (name == "hosts" && self.hosts.is_some()) {
                    continue;
                }
                if name == NSSWITCH && services.is_some() {
                    services = services_of(&fs::read_to_string(&path).unwrap_or_default());
                }
                own.push((name, path));
            }
        }
        let scratch = Scratch::mount(netns)?;
        let mut texts = Vec::new();
        for (name, text) in [("resolv.conf", &self.resolv_conf), ("hosts", &self.hosts)] {
            texts.extend(text.as_ref().map(|text| (name, text.clone())));
        }
        let has_nsswitch = own.iter().any(|(name, _)| name == NSSWITCH);
        if let Some(services) = self.services.as_ref().filter(|_| !has_nsswitch) {
            // Without the file, the C library asks none of those programs but nscd.
            if let Ok(text) = fs::read_to_string(Path::new(ETC).join(NSSWITCH)) {
                texts.push((NSSWITCH, with_services(&text, services)));
            }
        }
        for (name, text) in texts {
            let path = scratch.file(name, &text).map_err(step(netns, format!("write a {name} of its own")))?;
            own.push((name.into(), path));
        }
        for (name, path) in own {
            let target = Path::new(ETC).join(&name);
            let bound = bind(&path, &target).map_err(|(what, errno)| {
                step(netns, what)(errno).explain(|kind| {
                    (kind == ErrorKind::NotFound && !target.exists()).then(|| {
                        format!(
                            "there is no {} to mount it over, or it is a link that leads nowhere: make it, empty, or \
                             leave it out of the view",
                            target.display()
                        )
                    })
                })
            })?;
            expected.push(bound);
        }
        if let Some(services) = services {
            let listed = |service: &str| services.split_ascii_whitespace().any(|listed| listed.starts_with(service));
            let covered =
                SOCKETS.into_iter().filter(|(service, _)| !listed(service)).map(|(_, path)| (path, &scratch.no_socket));
            let mut covered: Vec<_> = covered.filter(|(path, _)| Path::new(path).exists()).collect();
            let nscd = if fs::canonicalize("/var/run").is_ok_and(|run| run == Path::new("/run")) { 1 } else { 2 };
            for path in &NSCD[..nscd] {
                if Path::new(path).is_dir() {
                    covered.push((path, &scratch.empty));
                } else {
                    expected.push(Expected { path: path.into(), found: None });
                }
            }
            for (path, cover) in covered {
                expected.push(bind(cover, Path::new(path)).map_err(|(what, errno)| step(netns, what)(errno))?);
            }
        }
        scratch.detach().map_err(step(netns, "take its scratch directory off"))?;
        Ok(expected)
    }
}

/// The entries of a directory, by name.
fn entries(directory: &Path) -> nix::Result<Vec<(String, PathBuf)>> {
    let list = || {
        let mut found = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().into_string().map_err(|_| io::Error::from(Errno::EILSEQ))?;
            found.push((name, entry.path()));
        }
        found.sort_unstable();
        Ok(found)
    };
    list().map_err(|error| errno_of(&error))
}

fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// Mounts one file or directory over another, links followed. What failed is told with the error.
fn bind(source: &Path, target: &Path) -> Result<Expected, (String, Errno)> {
    /// More than one only where the target is replaced all the time.
    const TRIES: u32 = 16;
    let what = |errno| (format!("mount {} over {}", source.display(), target.display()), errno);
    let from = sys::files::open_for_lookup(source).map_err(what)?;
    for _ in 0..TRIES {
        let onto = sys::files::open_for_lookup(target).map_err(what)?;
        match sys::bind_mount(&from, &onto) {
            // It was replaced after it was opened.
            Err(Errno::ENOENT) => {}
            mounted => return mounted.and_then(|()| Expected::file(target, &from)).map_err(what),
        }
    }
    Err(what(Errno::EBUSY))
}

/// The text of an `nsswitch.conf` with these sources of names of hosts.
fn with_services(text: &str, services: &str) -> String {
    let mut lines: Vec<_> = text.lines().filter(|line| services_of(line).is_none()).map(str::to_owned).collect();
    lines.push(format!("hosts: {services}\n"));
    lines.join("\n")
}

/// The sources of names of hosts in the text of an `nsswitch.conf`.
pub(super) fn services_of(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.trim_start().strip_prefix("hosts:")).map(|services| services.trim().to_owned())
}

/// A time of last change that no other file of a view has.
///
/// The C library keeps one `resolv.conf` for the whole process, and reads the file anew where its inode number, size or
/// times differ: not where its device does. Two views made at the same tick of the clock would get the same name
/// servers.
fn unique_time() -> SystemTime {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(since.as_nanos()).unwrap_or(0);
    let after = |last: u64| now.max(last.saturating_add(1));
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(after(last)));
    SystemTime::UNIX_EPOCH + Duration::from_nanos(after(last.unwrap_or_else(|last| last)))
}

/// A filesystem in memory, for files that are mounted elsewhere. It lives for as long as one of these mounts.
struct Scratch {
    root: OwnedFd,
    path: &'static Path,
    /// What a connection to it is refused by.
    no_socket: PathBuf,
    /// A directory.
    empty: PathBuf,
}

impl Scratch {
    /// Mounts it over a directory that is not needed for the moment.
    fn mount(netns: &NetNs) -> Result<Scratch, Error> {
        const PLACES: [&str; 4] = ["/sys", "/mnt", "/media", "/opt"];
        let path = PLACES.into_iter().map(Path::new).find(|path| path.is_dir()).ok_or(Errno::ENOENT);
        let path = path.map_err(step(netns, "find a directory to work in (/sys, /mnt, /media, /opt)"))?;
        let make = || {
            sys::files::mount_virtual("tmpfs", path, false, Some("mode=0755"))?;
            let root = sys::files::open_for_lookup(path)?;
            let empty = path.join("empty");
            fs::create_dir(&empty).map_err(|error| errno_of(&error))?;
            fs::set_permissions(&empty, fs::Permissions::from_mode(0o755)).map_err(|error| errno_of(&error))?;
            let scratch = Scratch { root, path, no_socket: path.join("no_socket"), empty };
            scratch.file("no_socket", "")?;
            Ok(scratch)
        };
        make().map_err(step(netns, format!("mount a filesystem in memory over {}", path.display())))
    }

    fn file(&self, name: &str, text: &str) -> nix::Result<PathBuf> {
        let path = self.path.join(name);
        let write = || {
            fs::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
            fs::File::options().write(true).open(&path)?.set_modified(unique_time())
        };
        write().map_err(|error| errno_of(&error)).map(|()| path)
    }

    /// Takes it off. What is mounted from it stays.
    fn detach(self) -> nix::Result<()> {
        sys::detach_mount(&self.root)
    }
}
