//! Every network namespace of the host that can be seen, with or without a name.
//!
//! It uses the search for holders, for all namespaces at once: each thread, descriptor, socket and mount leads to one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

use super::holders::{Collect, Holder, search};
use super::{NetNs, NetNsId, explain_thread_self};
use crate::error::{Error, ErrorKind};
use crate::sys;

/// The network namespaces that can be seen: see [`NetNs::all`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Inventory {
    /// The namespaces, in the order of their ids.
    pub namespaces: Vec<Found>,
    /// What could not be looked at, and may hold more namespaces: each mount that could not be opened, because another
    /// mount covers it for instance, and the first other error of each process.
    pub unseen: Vec<Unseen>,
}

/// A namespace of an [`Inventory`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Found {
    /// The namespace.
    pub netns: NetNs,
    /// Its number, which is not reused: see [`NetNs::cookie`].
    pub cookie: Option<u64>,
    /// The paths that it is mounted on, as this process sees them, sorted: names in `/run/netns`, and others.
    pub names: Vec<PathBuf>,
    /// The processes that have a thread in it, sorted.
    pub processes: Vec<u32>,
    /// All that keeps it alive, as [`NetNs::holders`] lists it, apart from this inventory.
    pub holders: Vec<Holder>,
}

/// Something of a process that could not be looked at.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Unseen {
    /// The id of the process, as `/proc` has it.
    pub process: u32,
    /// Why it could not be looked at.
    pub error: Error,
}

impl NetNs {
    /// Lists every network namespace of the host that can be seen, also those without a name: by the threads that are
    /// in it, and by descriptors, sockets and mounts that keep it alive.
    ///
    /// It is a snapshot, made by reading all of `/proc`: what comes or goes meanwhile may be missing or listed. Each
    /// namespace is opened, so the limit on descriptors (`ulimit -n`) must have room for all of them. What cannot be
    /// seen at all is described at [`NetNs::holders`]. A namespace that only mounts keep is not listed where another
    /// mount covers each of them: no path leads to it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] where `/proc` is not mounted, [`ErrorKind::LimitReached`] where the descriptors are
    /// used up.
    ///
    /// # Examples
    ///
    /// ```
    /// # in_netns::rootless!();
    /// use in_netns::NetNs;
    ///
    /// let hidden = NetNs::new()?;
    /// let socket = hidden.run(|| std::net::UdpSocket::bind("127.0.0.1:0"))??;
    /// let id = hidden.id();
    /// drop(hidden); // Now only a socket keeps it.
    ///
    /// let inventory = NetNs::all()?;
    /// for found in &inventory.namespaces {
    ///     println!("{}: {} processes, names {:?}", found.netns, found.processes.len(), found.names);
    /// }
    /// assert!(inventory.namespaces.iter().any(|found| found.netns.id() == id));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # References
    ///
    /// `lsns(8)`, `namespaces(7)`, `proc(5)`.
    pub fn all() -> Result<Inventory, Error> {
        let operation = || "list all network namespaces (/proc)";
        let mut all = All::default();
        let searched = search(&mut all);
        if let Some(error) = all.limit {
            return Err(error);
        }
        let failed = |source| explain_thread_self(Error::from_std(operation(), source));
        searched.map_err(failed)?;
        let me = sys::number_in_proc().map_err(failed)?;
        let namespaces = all.found.into_values().map(|(netns, holders)| Found::new(netns, holders, me)).collect();
        let unseen = all.unseen.into_iter().map(|((process, _), error)| Unseen { process, error }).collect();
        Ok(Inventory { namespaces, unseen })
    }
}

impl Found {
    /// `me` is the number of this process in `/proc`.
    fn new(netns: NetNs, holders: BTreeSet<Holder>, me: u32) -> Found {
        let names = holders.iter().filter_map(|holder| match holder {
            Holder::Name { path, .. } => Some(path.clone()),
            Holder::Mount { process, path } if *process == me => Some(path.clone()),
            _ => None,
        });
        let processes = holders.iter().filter_map(|holder| match holder {
            Holder::Thread { process, .. } => Some(*process),
            _ => None,
        });
        let (names, processes) = (names.collect::<BTreeSet<_>>(), processes.collect::<BTreeSet<_>>());
        Found {
            cookie: netns.cookie(),
            names: names.into_iter().collect(),
            processes: processes.into_iter().collect(),
            holders: holders.into_iter().collect(),
            netns,
        }
    }
}

/// What a search for all namespaces has found.
#[derive(Default)]
struct All {
    found: BTreeMap<NetNsId, (NetNs, BTreeSet<Holder>)>,
    /// The descriptors in `found`.
    own: BTreeSet<u32>,
    /// The ids by the text of links in `/proc`. The namespaces in `found` are held, so their inode numbers are not
    /// reused.
    by_link: BTreeMap<String, NetNsId>,
    /// The error of each mount that could not be opened, and the first other error of each process.
    unseen: BTreeMap<(u32, Option<PathBuf>), Error>,
    /// The error after which no descriptors are left: no further namespace can be opened.
    limit: Option<Error>,
}

impl Collect for All {
    fn wants(&self, namespace: &str) -> bool {
        namespace.starts_with("net:[") && self.limit.is_none()
    }

    fn found(&mut self, namespace: &str, holder: Holder, open: impl FnOnce() -> Result<NetNs, Error>) {
        let known = self.by_link.get(namespace).and_then(|id| self.found.get_mut(id));
        if let Some((_, holders)) = known {
            holders.insert(holder);
            return;
        }
        match open() {
            // The holder has moved to another namespace meanwhile, which the search finds by its other holders.
            Ok(netns) if netns.to_string() != namespace => {}
            Ok(netns) => {
                self.by_link.insert(namespace.to_owned(), netns.id());
                let (_, holders) = self.found.entry(netns.id()).or_insert_with(|| {
                    self.own.insert(netns.as_fd().as_raw_fd().unsigned_abs());
                    (netns, BTreeSet::new())
                });
                holders.insert(holder);
            }
            Err(error) if error.kind() == ErrorKind::LimitReached => {
                let why = "there are more namespaces than descriptors (`ulimit -n`)";
                self.limit = Some(error.explained(why));
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => {
                let of = match holder {
                    Holder::Mount { process, path } => (process, Some(path)),
                    Holder::Thread { process, .. }
                    | Holder::Descriptor { process, .. }
                    | Holder::Socket { process, .. } => (process, None),
                    Holder::Name { path, .. } => (sys::number_in_proc().unwrap_or_default(), Some(path)),
                };
                self.unseen.entry(of).or_insert(error);
            }
        }
    }

    fn unseen(&mut self, process: u32, error: io::Error) {
        let operation = || format!("look for network namespaces in process {process} (/proc/{process})");
        self.unseen
            .entry((process, None))
            .or_insert_with(|| Error::from_std(operation(), error).explain_looking_at_process(Some(process)));
    }

    /// A number that the listing's own descriptor had may be that of a descriptor in `found` by now.
    fn is_own(&self, fd: u32) -> bool {
        self.own.contains(&fd)
    }
}
