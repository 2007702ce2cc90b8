//! The files of `/etc` that a view has for itself, and how names are looked up in it.
//!
//! **Why the services for names are limited:** the C library asks programs on the machine for names over Unix sockets:
//! nscd, systemd-resolved, avahi, sssd. They answer from the network in which they run, which is home's. So a view has
//! an `nsswitch.conf(5)` of its own, and covers the paths of those sockets.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::resource::{Resource, getrlimit, rlim_t};

use super::{Expected, Found, mount_step, name_services, step};
use crate::error::{Error, ErrorKind};
use crate::netns::NetNs;
use crate::sys;

/// The files that a view shows in place of home's.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    /// Each entry is shown over the entry of `/etc` of the same name.
    pub(crate) directory: Option<PathBuf>,
    /// The directories of the names of the namespace in `/etc/netns`. The one that is there is shown, where no other
    /// directory is given.
    pub(crate) directories_of_names: Vec<PathBuf>,
    pub(crate) resolv_conf: Option<String>,
    pub(crate) hosts: Option<String>,
    /// The services for names of hosts, as `nsswitch.conf` has them. `None`: as at home.
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

/// The services for names of hosts where an `nsswitch.conf` names none: those of the C library (`nss/nss_database.c` in
/// glibc). Older ones take the same two in the other order.
const DEFAULT_SERVICES: &str = "files dns";

/// What is to be shown over an entry of `/etc`, opened before anything is mounted.
struct Entry {
    name: OsString,
    path: PathBuf,
    source: OwnedFd,
    /// Whether the path also leads to the source inside the view, when everything is mounted.
    is_visible: bool,
}

impl Files {
    /// Mounts the files, and returns what must be found in the view from then on. To be called on a thread in the mount
    /// namespace of the view, none of whose mounts propagates.
    pub(super) fn mount(&self, netns: &NetNs) -> Result<Vec<Expected>, Error> {
        let mut expected = Vec::new();
        // Before the first mount, which may cover what is looked up.
        let directory = match &self.directory {
            Some(directory) => Some(directory),
            None => self.directory_of_name(netns, &mut expected)?,
        };
        let entries = match directory {
            Some(directory) => self.entries(netns, directory, &mut expected)?,
            None => Vec::new(),
        };
        let mut texts: Vec<_> = self.texts().map(|(name, text)| (name, text.to_owned().into_bytes())).collect();
        let (nsswitch, covers) = self.name_services(netns, &entries, &mut expected)?;
        texts.extend(nsswitch.map(|text| (NSSWITCH, text)));
        let scratch = if texts.is_empty() && covers.is_empty() { None } else { Some(Scratch::mount(netns)?) };
        let over = |name: &OsStr| Path::new(ETC).join(name);
        let entries = in_order(netns, entries, &texts)?;
        for Entry { name, path, source, is_visible } in entries {
            expected.extend(bind(netns, source, &path, &path.display(), &over(&name), is_visible)?);
        }
        if let Some(scratch) = scratch {
            for (name, text) in texts {
                let written = scratch.file(name, &text);
                let path = written.map_err(io_step(netns, format!("write a {name} of its own")))?;
                let what = format!("the text for {name}");
                expected.extend(bind(netns, open(netns, &path)?, &path, &what, &over(name.as_ref()), false)?);
            }
            for (path, cover) in covers {
                let cover = match cover {
                    Cover::Socket => &scratch.no_socket,
                    Cover::Directory => &scratch.empty,
                };
                let what = "an empty file or directory";
                expected.extend(bind(netns, open(netns, cover)?, cover, &what, Path::new(path), false)?);
            }
            scratch.detach().map_err(step(netns, "take its scratch directory off"))?;
        }
        Ok(expected)
    }

    /// The texts that are shown in place of files of `/etc`, each with the name of its file.
    fn texts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let texts = [("resolv.conf", &self.resolv_conf), ("hosts", &self.hosts)];
        texts.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?)))
    }

    /// How names are looked up in the view: the text of an `nsswitch.conf`, if it needs one of its own, and what is
    /// covered.
    fn name_services(&self, netns: &NetNs, entries: &[Entry], expected: &mut Vec<Expected>) -> Result<Lookups, Error> {
        let Some(services) = &self.services else { return Ok((None, Vec::new())) };
        let own = entries.iter().find(|entry| entry.name == NSSWITCH).map(|entry| entry.path.as_path());
        let home = Path::new(ETC).join(NSSWITCH);
        let path = own.unwrap_or(&home);
        let text = match read_regular(path) {
            // Without the file, the C library asks none of those programs but nscd. It takes its default then, so
            // other services cannot be set.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if own.is_none() && !is_default(services) {
                    return Err(no_target(netns, &"the text for nsswitch.conf", &home, Errno::ENOENT));
                }
                expected.push(Expected { path: path.into(), found: None });
                None
            }
            read => Some(read.map_err(io_step(netns, format!("read {}", path.display())))?),
        };
        let of_file = text.as_ref().filter(|_| own.is_some());
        let services = match of_file.map(|text| services_of_hosts(text)) {
            Some(listed) => listed.unwrap_or_else(|| DEFAULT_SERVICES.to_owned()),
            None => services.clone(),
        };
        let text = text.filter(|_| own.is_none()).map(|text| with_services(&text, &services));
        Ok((text, places_to_cover(&services, expected)))
    }

    /// The directory of a name that exists. Where none exists, the view expects from then on that none does.
    fn directory_of_name(&self, netns: &NetNs, expected: &mut Vec<Expected>) -> Result<Option<&PathBuf>, Error> {
        for directory in &self.directories_of_names {
            let error = fs::metadata(directory).err().filter(|error| {
                let errno = sys::errno_of(error);
                !leads_nowhere(errno) && errno != Errno::ENOTDIR
            });
            // Home's files must not stand for some that cannot be told.
            if let Some(error) = error {
                let error = io_step(netns, format!("look for {}", directory.display()))(error);
                return Err(error.explain_opening(directory));
            }
        }
        let is_directory = |now: &Expected| now.found.as_ref().is_some_and(Found::is_directory);
        let now: Vec<_> = self.directories_of_names.iter().map(Expected::now).collect();
        let mut found = self.directories_of_names.iter().zip(&now).filter(|(_, now)| is_directory(now));
        match (found.next(), found.next()) {
            (Some((one, _)), Some((other, _))) => {
                let why = format!(
                    "it has several names, with {} and {}; choose one with `View::builder(&ns).etc(…)`",
                    one.display(),
                    other.display()
                );
                Err(Error::new(ErrorKind::Unsupported, format!("make a view of {netns}"), why))
            }
            (Some((one, _)), None) => Ok(Some(one)),
            (None, _) => {
                expected.extend(now);
                Ok(None)
            }
        }
    }

    /// The entries of the directory that the view shows. What must not change about the directory is added to
    /// `expected`.
    fn entries(&self, netns: &NetNs, directory: &Path, expected: &mut Vec<Expected>) -> Result<Vec<Entry>, Error> {
        /// Programs replace a file by a temporary one with another name, which exists for a moment.
        const TRIES: u32 = 50;
        const PAUSE: Duration = Duration::from_millis(1);
        let before = expected.len();
        for _ in 1..TRIES {
            match self.look_at(netns, directory, expected) {
                Err(error) if error.kind() == ErrorKind::NotFound => expected.truncate(before),
                found => return found,
            }
            thread::sleep(PAUSE);
        }
        self.look_at(netns, directory, expected)
    }

    fn look_at(&self, netns: &NetNs, directory: &Path, expected: &mut Vec<Expected>) -> Result<Vec<Entry>, Error> {
        // This precedes the listing, so that later changes of the directory are noticed.
        expected.push(Expected::now(directory));
        let names = names_in(directory).map_err(io_step(netns, format!("list {}", directory.display())))?;
        let mut entries = Vec::new();
        for name in names {
            if self.texts().any(|(text, _)| name == text) {
                continue;
            }
            let (path, target) = (directory.join(&name), Path::new(ETC).join(&name));
            if !leads_somewhere(&target) {
                if is_left_by_editor(&name) {
                    expected.push(Expected { path: target, found: None });
                    continue;
                }
                return Err(no_target(netns, &path.display(), &target, Errno::ENOENT));
            }
            let source = open(netns, &path)?;
            entries.push(Entry { name, path, source, is_visible: true });
        }
        self.find_covered(netns, directory, &mut entries)?;
        Ok(entries)
    }

    /// Finds the entries whose path leads elsewhere when the others are mounted. The directory itself must stay.
    fn find_covered(&self, netns: &NetNs, directory: &Path, entries: &mut [Entry]) -> Result<(), Error> {
        let resolved = |path: PathBuf| fs::canonicalize(&path).unwrap_or(path);
        let own = fs::canonicalize(directory).map_err(io_step(netns, format!("find {}", directory.display())))?;
        let mut names: BTreeSet<OsString> = entries.iter().map(|entry| entry.name.clone()).collect();
        names.extend(self.texts().map(|(name, _)| name).chain([NSSWITCH]).map(OsString::from));
        let targets: Vec<_> = names
            .into_iter()
            .map(|name| {
                let target = resolved(Path::new(ETC).join(&name));
                (name, target)
            })
            .collect();
        if let Some((name, target)) = targets.iter().find(|(_, target)| own.starts_with(target)) {
            let what = format!("mount {} over {}", directory.join(name).display(), target.display());
            let why = format!(
                "it would cover {} itself, whose changes the view has to notice: take this entry out of it, or choose \
                 another directory with `View::builder(&ns).etc(…)`",
                directory.display()
            );
            return Err(Error::new(ErrorKind::Unsupported, format!("make a view of {netns}: {what}"), why));
        }
        for Entry { name, path, is_visible, .. } in entries {
            let source = resolved(path.clone());
            *is_visible = !targets.iter().any(|(other, target)| other != name && source.starts_with(target));
        }
        Ok(())
    }
}

/// The names in a directory, in order.
fn names_in(directory: &Path) -> io::Result<Vec<OsString>> {
    let mut names = fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    Ok(names)
}

/// Whether a name is one that editors and other programs give to files of their own beside the file that they change.
/// `ip netns exec` warns of those, as of each entry that `/etc` lacks, and goes on.
fn is_left_by_editor(name: &OsStr) -> bool {
    matches!(name.as_bytes(), [b'.' | b'#', ..] | [.., b'~'])
}

/// Whether there is something to mount over. An error other than that there is not shows when it is mounted over.
fn leads_somewhere(target: &Path) -> bool {
    !fs::metadata(target).is_err_and(|error| leads_nowhere(sys::errno_of(&error)))
}

/// Whether an errno tells that a path, or a link on it, leads to nothing: also links that lead to each other.
fn leads_nowhere(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ELOOP)
}

/// Names the step of making a view that failed.
fn io_step(netns: &NetNs, what: String) -> impl FnOnce(io::Error) -> Error {
    move |error| match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EFBIG) => step(netns, what)(Errno::EFBIG)
            .with_kind(ErrorKind::LimitReached)
            .explained("see `ulimit -f` (RLIMIT_FSIZE, `LimitFSIZE=` of a unit)"),
        Some(errno) => step(netns, what)(errno),
        None => Error::new(ErrorKind::Unsupported, format!("make a view of {netns}: {what}"), error.to_string()),
    }
}

fn no_target(netns: &NetNs, what: &dyn Display, target: &Path, errno: Errno) -> Error {
    let error = step(netns, format!("mount {what} over {}", target.display()))(errno);
    error.with_kind(ErrorKind::NotFound).explained(format!(
        "there is no {} to mount it over, or it is a link that leads nowhere: make it, empty, or leave it out of the \
         view",
        target.display()
    ))
}

/// Opens what is to be mounted, links followed.
fn open(netns: &NetNs, source: &Path) -> Result<OwnedFd, Error> {
    sys::files::open_for_lookup(source).map_err(|errno| {
        let error = step(netns, format!("open {}", source.display()))(errno);
        if !leads_nowhere(errno) {
            return error;
        }
        error.with_kind(ErrorKind::NotFound).explained(if source.is_symlink() {
            "it is a link that leads nowhere: make the file, or take the link out of the directory"
        } else {
            "it was removed while the view was made; call again"
        })
    })
}

/// Reads a small file of text. Never waits for another program, as the opening of a FIFO does.
fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    const LARGEST: u64 = 1 << 20;
    let file = fs::File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let (mut text, mut file) = (Vec::new(), file.take(LARGEST));
    file.read_to_end(&mut text)?;
    if file.limit() == 0 { Err(io::Error::other("it is as large as 1 MiB, or larger")) } else { Ok(text) }
}

/// See [`Files::name_services`].
type Lookups = (Option<Vec<u8>>, Vec<(&'static str, Cover)>);

/// What covers a socket, or a directory of sockets.
#[derive(PartialEq, Eq)]
enum Cover {
    Socket,
    Directory,
}

/// The sockets to cover: those of programs that answer for names and that `services` does not list. nscd is never
/// listed. A place that cannot be covered is expected to stay as it is, also where nothing is there.
fn places_to_cover(services: &str, expected: &mut Vec<Expected>) -> Vec<(&'static str, Cover)> {
    let listed = |service: &str| services.split_ascii_whitespace().any(|listed| listed.starts_with(service));
    let sockets = SOCKETS.into_iter().filter(|(service, _)| !listed(service)).map(|(_, path)| (path, Cover::Socket));
    let nscd = if fs::canonicalize("/var/run").is_ok_and(|run| run == Path::new("/run")) { 1 } else { 2 };
    let directories = NSCD.into_iter().take(nscd).map(|path| (path, Cover::Directory));
    let mut places = Vec::new();
    for (path, cover) in sockets.chain(directories) {
        let now = Expected::now(path);
        if now.found.as_ref().is_some_and(|found| found.is_directory() == (cover == Cover::Directory)) {
            places.push((path, cover));
        } else if !expected.contains(&now) {
            expected.push(now);
        }
    }
    places
}

/// The entries in the order in which they are mounted: a directory before what is shown over a file in it. To be called
/// before the first mount. An error where two names lead to one file, which cannot show both.
fn in_order(netns: &NetNs, entries: Vec<Entry>, texts: &[(&str, Vec<u8>)]) -> Result<Vec<Entry>, Error> {
    let target = |name: &OsStr| {
        let target = Path::new(ETC).join(name);
        fs::canonicalize(&target).unwrap_or(target)
    };
    let mut entries: Vec<_> = entries.into_iter().map(|entry| (target(&entry.name), entry)).collect();
    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
    let of_entries = entries.iter().map(|(target, entry)| {
        let identity = sys::identity(&entry.source).ok();
        (target.clone(), entry.name.clone(), identity)
    });
    let of_texts = texts.iter().map(|(name, _)| (target(name.as_ref()), OsString::from(name), None));
    let mut all: Vec<_> = of_entries.chain(of_texts).collect();
    all.sort_unstable();
    for pair in all.windows(2) {
        let [(one, name, source), (other, other_name, other_source)] = pair else { continue };
        if one == other && (source != other_source || source.is_none()) {
            let (name, other_name) = (name.to_string_lossy(), other_name.to_string_lossy());
            let what = format!("make a view of {netns}: mount over {name} and {other_name} in {ETC}");
            let why = format!("both lead to {}, which cannot show two files: leave one of them out", one.display());
            return Err(Error::new(ErrorKind::Unsupported, what, why));
        }
    }
    Ok(entries.into_iter().map(|(_, entry)| entry).collect())
}

/// Mounts one file or directory over another, following links. Returns what must be found in the view: at the target,
/// and at the path of the source where the view shows that too.
fn bind(
    netns: &NetNs,
    mut source: OwnedFd,
    path: &Path,
    what: &dyn Display,
    target: &Path,
    is_visible: bool,
) -> Result<impl Iterator<Item = Expected>, Error> {
    /// A second try is needed only if a file is replaced meanwhile. Where many threads mount at once, a mount takes
    /// milliseconds, so a few tries may all fail. And for some time the path leads to the old file, from which the
    /// kernel has dropped the mounts already, and which takes no other.
    const TRIES: u32 = 256;
    let failed = |errno| mount_step(netns, format!("mount {what} over {}", target.display()))(errno);
    // Whether each mount so far was dropped at once, from a file that was not replaced.
    let mut keeps_no_mount = true;
    for _ in 0..TRIES {
        let onto = sys::files::open_for_lookup(target).map_err(|errno| match errno {
            errno if leads_nowhere(errno) => no_target(netns, what, target, errno),
            errno => failed(errno),
        })?;
        let mounted = match sys::bind_mount(&source, &onto) {
            // One of them was replaced after it was opened.
            Err(Errno::ENOENT) => match sys::files::open_for_lookup(path) {
                Ok(new) => {
                    source = new;
                    keeps_no_mount = false;
                    continue;
                }
                // It was removed: nothing is mounted. What is expected of its path has the view made again.
                Err(Errno::ENOENT) => false,
                Err(errno) => return Err(failed(errno)),
            },
            mounted => mounted.map(|()| true).map_err(failed)?,
        };
        let at_target = if mounted { Some(Expected::file(target, &source).map_err(failed)?) } else { None };
        // The same file is there as before.
        if at_target.as_ref().is_some_and(|shown| !shown.is_met())
            && Expected::file(target, &onto).map_err(failed)?.is_met()
        {
            continue;
        }
        let at_source = if is_visible { Some(Expected::file(path, &source).map_err(failed)?) } else { None };
        return Ok(at_target.into_iter().chain(at_source));
    }
    if keeps_no_mount {
        let file = fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
        let operation = format!("make a view of {netns}: mount {what} over {}", target.display());
        let why = format!(
            "it leads to {}, and the kernel drops each mount on that file, as on those of /proc/net: make {} a file, \
             or leave it out of the view",
            file.display(),
            target.display()
        );
        return Err(Error::new(ErrorKind::Unsupported, operation, why));
    }
    Err(failed(Errno::EBUSY))
}

/// The text of an `nsswitch.conf` with these services for names of hosts. It may have bytes that are not UTF-8.
fn with_services(text: &[u8], services: &str) -> Vec<u8> {
    let others = text.split_inclusive(|byte| *byte == b'\n');
    let mut new = others.filter(|line| services_of_hosts(line).is_none()).collect::<Vec<_>>().concat();
    if new.last().is_some_and(|byte| *byte != b'\n') {
        new.push(b'\n');
    }
    new.extend_from_slice(format!("hosts: {services}\n").as_bytes());
    new
}

/// Whether these are the services that the C library takes where there is no `nsswitch.conf`. Always true
/// with a C library other than glibc, which never reads that file.
fn is_default(services: &str) -> bool {
    !cfg!(target_env = "gnu") || services.split_ascii_whitespace().eq(DEFAULT_SERVICES.split_ascii_whitespace())
}

/// The services for names of hosts in the text of an `nsswitch.conf`.
fn services_of_hosts(text: &[u8]) -> Option<String> {
    name_services::services_of(b"hosts", text).map(|services| String::from_utf8_lossy(services).into_owned())
}

/// A modification time that no other file of a view has.
///
/// The C library caches one `resolv.conf` for the whole process, and reads the file again if its inode number, size or
/// times differ, but not if its device does. Two views made in the same clock tick would get the same name servers.
fn unique_time() -> SystemTime {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(since.as_nanos()).unwrap_or(0);
    let after = |last: u64| now.max(last.saturating_add(1));
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(after(last)));
    SystemTime::UNIX_EPOCH + Duration::from_nanos(after(last.unwrap_or_else(|last| last)))
}

/// A filesystem in memory, for files that are bind-mounted elsewhere. It lives as long as one of these mounts.
struct Scratch {
    root: OwnedFd,
    path: &'static Path,
    /// An ordinary file that covers a socket: connections to it are refused.
    no_socket: PathBuf,
    /// An empty directory that covers a directory of sockets.
    empty: PathBuf,
}

impl Scratch {
    /// Mounts it over a directory that nothing here uses meanwhile.
    fn mount(netns: &NetNs) -> Result<Scratch, Error> {
        const PLACES: [&str; 4] = ["/sys", "/mnt", "/media", "/opt"];
        let path = PLACES.into_iter().map(Path::new).find(|path| path.is_dir()).ok_or(Errno::ENOENT);
        let path = path.map_err(step(netns, "find a directory to work in (/sys, /mnt, /media, /opt)"))?;
        let what = format!("mount a filesystem in memory over {}", path.display());
        let mounted = sys::files::mount_virtual("tmpfs", path, false, Some("mode=0755"));
        mounted.map_err(mount_step(netns, what.as_str()))?;
        let make = || {
            let root = sys::files::open_for_lookup(path)?;
            let empty = path.join("empty");
            fs::create_dir(&empty)?;
            fs::set_permissions(&empty, fs::Permissions::from_mode(0o755))?;
            let scratch = Scratch { root, path, no_socket: path.join("no_socket"), empty };
            scratch.file("no_socket", b"")?;
            Ok(scratch)
        };
        make().map_err(io_step(netns, what))
    }

    fn file(&self, name: &str, text: &[u8]) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        // The kernel would end the process (`SIGXFSZ`).
        let (limit, _) = getrlimit(Resource::RLIMIT_FSIZE)?;
        if rlim_t::try_from(text.len()).is_ok_and(|length| length > limit) {
            return Err(Errno::EFBIG.into());
        }
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        fs::File::options().write(true).open(&path)?.set_modified(unique_time())?;
        Ok(path)
    }

    /// Unmounts it. The files that are bind-mounted from it stay.
    fn detach(self) -> nix::Result<()> {
        sys::detach_mount(&self.root)
    }
}
