//! How the mounts of a view are made, on a thread that goes home afterwards.

use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::sched::CloneFlags;

use super::{Expected, Files, Mounts, mount_step, step};
use crate::error::{Error, ErrorKind};
use crate::netns::NetNs;
use crate::privileges::MAX_MNT;
use crate::sys::descriptor_table::TableBound;
use crate::sys::{self, Kind, ProcTask};

/// What a view of a network namespace is made from, the first time and again.
pub(crate) struct Recipe {
    pub(crate) net: NetNs,
    pub(crate) files: Files,
    /// Whether `/sys` is to be that of the network namespace.
    pub(crate) sys: bool,
}

const SYS: &str = "/sys";

impl Recipe {
    /// Makes the mounts. To be called on a thread at home that has root and working directory of its own. The thread is
    /// not at home afterwards.
    pub(crate) fn make(&self) -> Result<Mounts, Error> {
        let net = &self.net;
        let umask = sys::files::umask_of_process().map_err(step(net, "read the umask of the process"))?;
        sys::unshare(CloneFlags::CLONE_NEWNS)
            .map_err(|errno| step(net, "copy the mounts of this process (unshare)")(errno).explain_unshare(MAX_MNT))?;
        let namespace = Kind::Mount.open(ProcTask::Current).map_err(step(net, "open /proc/thread-self/ns/mnt"))?;
        // This precedes every mount, so that none propagates.
        let root = sys::files::at_root_of_mounts(&namespace, sys::files::make_mounts_slaves).map_err(|errno| {
            step(net, "keep its mounts to itself (mount, MS_SLAVE)")(errno).explain_entering_mounts(namespace.as_fd())
        })?;
        let namespace = TableBound::new(namespace).map_err(step(net, "identify its mount namespace"))?;
        let root = root.map(TableBound::new).transpose().map_err(step(net, "identify its root"))?;
        let mut expected = self.files.mount(net)?;
        if self.sys {
            net.as_target().setns()?;
            expected.push(self.mount_sys()?);
        }
        Ok(Mounts { namespace, root, umask, others: Vec::new(), expected })
    }

    /// Mounts the sysfs of the network namespace, which the thread is in, on `/sys`, with the mounts that were below
    /// `/sys`, except those that cover interfaces of home. Returns what must be found there from then on: a body can
    /// unmount it.
    fn mount_sys(&self) -> Result<Expected, Error> {
        let net = &self.net;
        let path = Path::new(SYS);
        let failed = |errno| {
            let error = mount_step(net, format!("mount sysfs on {SYS}"))(errno);
            let kind = match errno {
                // The capabilities were enough for the mount namespace, and for the network namespace.
                Errno::EPERM | Errno::ENODEV => ErrorKind::Unsupported,
                _ => error.kind(),
            };
            error.with_kind(kind).explain(|_| explain_sys(errno))
        };
        let old = sys::files::open_for_lookup(path).map_err(failed)?;
        let read_only = sys::files::is_read_only(path).map_err(failed)?;
        let submounts = sys::files::submounts(&old).map_err(|error| failed(sys::errno_of(&error)))?;
        match sys::files::mount_virtual("sysfs", path, read_only, None) {
            // The sysfs that is there is that of the network namespace, as in a view of home: the kernel mounts no
            // filesystem on itself.
            Err(Errno::EBUSY) => return Expected::file(path, &old).map_err(failed),
            mounted => mounted.map_err(failed)?,
        }
        for (path, mount) in submounts.into_iter().filter(|(path, _)| !is_of_interfaces(path)) {
            let failed = |errno| mount_step(net, format!("show {} there as at home", path.display()))(errno);
            let target = match sys::files::open_for_lookup(&path) {
                // It belongs to something that the network namespace does not have.
                Err(Errno::ENOENT) => continue,
                target => target.map_err(failed)?,
            };
            match sys::bind_mount(&mount, &target) {
                // It was unmounted at home meanwhile, and so here.
                Err(_) if sys::files::is_mounted(&mount).is_ok_and(|mounted| !mounted) => {}
                mounted => mounted.map_err(failed)?,
            }
        }
        let new = sys::files::open_for_lookup(path).map_err(failed)?;
        Expected::file(path, &new).map_err(failed)
    }
}

/// Whether a path, without links, is in a directory of `/sys` that shows interfaces, or is such a directory:
/// `/sys/class/net`, and the directories `net` of devices. Each network namespace has its own.
fn is_of_interfaces(path: &Path) -> bool {
    path.starts_with("/sys/class/net") || (path.starts_with("/sys/devices") && path.iter().any(|part| part == "net"))
}

fn explain_sys(errno: Errno) -> Option<String> {
    let what = match errno {
        Errno::EPERM => {
            "the kernel refuses it where parts of /sys are covered or read-only, as in a container, or where the \
             network namespace belongs to another user namespace"
        }
        Errno::ENOENT => "there is no /sys",
        Errno::ENODEV => "this kernel has no sysfs",
        _ => return None,
    };
    Some(format!("{what}; `View::builder(&ns).without_sys()` makes a view that shows home's devices there"))
}
