//! The namespaces of a process, opened in its directory in `/proc`, which stays that process's if the id is reused.

use std::os::fd::{BorrowedFd, OwnedFd};

use super::{Mounts, name_services};
use crate::error::{Error, ErrorKind};
use crate::netns::NetNs;
use crate::netns::pidfd;
use crate::sys::descriptor_table::TableBound;
use crate::sys::{self, Kind, ProcTask};

/// What `nsenter --target PID --net --mount --uts --ipc --cgroup` enters.
pub struct ProcessNamespaces {
    net: NetNs,
    mount: OwnedFd,
    others: Vec<(Kind, OwnedFd)>,
}

impl ProcessNamespaces {
    /// Opens those of the process that has this id now.
    pub(crate) fn of_pid(pid: u32) -> Result<ProcessNamespaces, Error> {
        let operation = || format!("open the namespaces of process {pid}");
        let task = pidfd::task_of_pid(pid, &operation)?;
        ProcessNamespaces::open(&task, &operation)
    }

    /// Opens those of the process, or thread, of a descriptor.
    pub(crate) fn of_pidfd(process: BorrowedFd<'_>) -> Result<ProcessNamespaces, Error> {
        let operation = || "open the namespaces of a process by its descriptor".to_owned();
        pidfd::check_pidfd(process, &operation)?;
        let task = pidfd::task_of_pidfd(process, &operation)?;
        ProcessNamespaces::open(&task, &operation)
    }

    fn open(task: &pidfd::Task, operation: &dyn Fn() -> String) -> Result<ProcessNamespaces, Error> {
        let net = NetNs::checked(task.open(Kind::Net, operation)?, operation)?;
        let mount = task.open(Kind::Mount, operation)?;
        let mut others = Vec::new();
        for kind in [Kind::Uts, Kind::Ipc, Kind::Cgroup] {
            match task.open(kind, operation) {
                Ok(namespace) => others.push((kind, namespace)),
                // A kernel without this kind.
                Err(error) if error.kind() == ErrorKind::NotFound && !kind.exists() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(ProcessNamespaces { net, mount, others })
    }

    pub(crate) fn netns(&self) -> &NetNs {
        &self.net
    }

    /// What a thread enters from home. To be called on a thread at home.
    pub(crate) fn into_mounts(self) -> Result<Mounts, Error> {
        let ProcessNamespaces { net, mount, others } = self;
        let failed =
            |errno| Error::from_errno(format!("compare the namespaces of a process with home's ({net})"), errno);
        name_services::fix()?;
        let mut elsewhere = Vec::new();
        for (kind, namespace) in others {
            let home = sys::identity_of(&kind.file_in(ProcTask::Current.proc_path())).map_err(failed)?;
            // Entering a namespace that the thread is in already may be refused: a parent user namespace may own it.
            let namespace = TableBound::new(namespace).map_err(failed)?;
            if namespace.identity() != home {
                elsewhere.push((kind, namespace));
            }
        }
        let namespace = TableBound::new(mount).map_err(failed)?;
        let umask = sys::files::umask_of_process().map_err(|errno| {
            Error::from_errno(format!("make a view of {net}: read the umask of the process"), errno)
        })?;
        Ok(Mounts { namespace, root: None, umask, others: elsewhere, expected: Vec::new() })
    }
}
