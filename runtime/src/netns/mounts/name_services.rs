//! Fixes where the C library looks up names, before code of this process runs with the files of another process.
//!
//! **Promised:** after [`fix`], no look-up of a name reads an `nsswitch.conf(5)`, and none loads a module that is not
//! home's. This holds on every thread, in every view.
//!
//! **What breaks otherwise:** glibc reads `nsswitch.conf` when the first name is looked up, and again when the file has
//! changed, with the root of the thread that asks. It loads the modules that are named there (`libnss_NAME.so.2`) in
//! the same way. The files of a container would decide which code runs in this process, also for later look-ups at
//! home.
//!
//! **Why this mechanism:** `__nss_configure_lookup` sets the services of a database and ends the reading of the file,
//! in every version of glibc. A mount over the container's `nsswitch.conf` would not be safe: the container can remove
//! it by renaming another file to that path. Loading the modules beforehand is not enough: glibc would look in the
//! container for a module that home's file names and that is not installed at home.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs;
use std::io;

use nix::errno::Errno;

use crate::error::Error;
use crate::sys;

const FILE: &str = "/etc/nsswitch.conf";

/// The services that need no module, or one that every glibc has.
const BUILT_IN: [&[u8]; 2] = [b"files", b"dns"];

/// The databases of glibc, with their services where the file has none. `None`: glibc's own default, which names no
/// other services than those that are built in.
const DATABASES: [(&CStr, Option<&CStr>); 17] = [
    (c"aliases", Some(c"files")),
    (c"ethers", Some(c"files")),
    (c"group", Some(c"files")),
    (c"group_compat", Some(c"files")),
    (c"gshadow", Some(c"files")),
    (c"hosts", None),
    (c"initgroups", None),
    (c"netgroup", Some(c"files")),
    (c"networks", None),
    (c"passwd", Some(c"files")),
    (c"passwd_compat", Some(c"files")),
    (c"protocols", Some(c"files")),
    (c"publickey", Some(c"files")),
    (c"rpc", Some(c"files")),
    (c"services", Some(c"files")),
    (c"shadow", Some(c"files")),
    (c"shadow_compat", Some(c"files")),
];

/// Makes the C library look up names as home's `nsswitch.conf` says at this moment, for the whole process, with modules
/// that are loaded here. To be called on a thread at home.
pub(super) fn fix() -> Result<(), Error> {
    if !sys::LOADS_NAME_MODULES {
        return Ok(());
    }
    let text = match fs::read(FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read.map_err(|error| {
            let why = "with the files of another process, look-ups of names would load modules from there; make the \
                       file readable, or remove it";
            Error::from_std(format!("make a view of a process: read {FILE}"), error).explained(why)
        })?,
    };
    let mut modules = Modules(HashMap::new());
    for service in BUILT_IN {
        modules.has(service);
    }
    let mut wanted = Vec::new();
    for (database, default) in DATABASES {
        let services = services_of(database.to_bytes(), &text);
        let services = services.map(|services| with_modules(services, |service| modules.has(service)));
        match services.and_then(|services| CString::new(services).ok()) {
            Some(services) if !services.is_empty() => wanted.push((database, services)),
            Some(_) => wanted.push((database, no_service(database).into())),
            None => wanted.extend(default.map(|default| (database, default.into()))),
        }
    }
    // Set twice: another thread that was reading the file when the first database was set may have undone that.
    for (database, services) in wanted.iter().chain(&wanted) {
        let set = match sys::configure_name_services(database, services) {
            // glibc cannot parse the services, or does not have the database.
            Err(Errno::EINVAL) => sys::configure_name_services(database, c"files"),
            set => set,
        };
        match set {
            // This version does not have the database.
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(errno) => {
                let operation = format!("set how names are looked up ({})", database.to_string_lossy());
                return Err(Error::from_errno(operation, errno));
            }
        }
    }
    Ok(())
}

/// A service that finds nothing, for a database none of whose modules exists: some versions of glibc read past the end
/// of an empty list. `dns` answers for hosts and networks only, so `files` stands for these two.
fn no_service(database: &CStr) -> &'static CStr {
    if [c"hosts", c"networks"].contains(&database) { c"files" } else { c"dns" }
}

/// The modules that were asked for, and whether home has them. Those that it has are loaded.
struct Modules<'t>(HashMap<&'t [u8], bool>);

impl<'t> Modules<'t> {
    fn has(&mut self, service: &'t [u8]) -> bool {
        *self.0.entry(service).or_insert_with(|| {
            let name = CString::new([b"libnss_", service, b".so.2"].concat());
            let is_loaded = name.is_ok_and(|name| sys::keep_library_loaded(&name));
            is_loaded || BUILT_IN.contains(&service)
        })
    }
}

/// The services of a database in the text of an `nsswitch.conf`, as the C library reads it: the name of a database ends
/// at the first colon or white space, which may repeat, and of several lines the last one counts.
pub(super) fn services_of<'t>(database: &[u8], text: &'t [u8]) -> Option<&'t [u8]> {
    let ends_name = |byte: &u8| *byte == b':' || byte.is_ascii_whitespace();
    let mut lines = text.split(|byte| *byte == b'\n').filter_map(|line| {
        let line = line.split(|byte| matches!(byte, b'#' | 0)).next()?.trim_ascii();
        let services = line.strip_prefix(database)?;
        let start = services.iter().position(|byte| !ends_name(byte)).unwrap_or(services.len());
        services.first().is_some_and(ends_name).then(|| &services[start..])
    });
    lines.next_back()
}

/// The services of a line whose modules are there, with their actions.
///
/// A service whose module cannot be loaded is `UNAVAIL` to glibc, which then asks the next one, or ends the look-up if
/// an action says so.
fn with_modules<'t>(services: &'t [u8], mut is_there: impl FnMut(&'t [u8]) -> bool) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut rest = services;
    let mut keeps = true;
    while let Some(first) = rest.first() {
        let is_action = *first == b'[';
        let end = if is_action {
            rest.iter().position(|byte| *byte == b']').map(|end| end + 1)
        } else {
            rest.iter().position(|byte| *byte == b'[' || byte.is_ascii_whitespace())
        };
        let (word, others) = rest.split_at(end.unwrap_or(rest.len()));
        if !is_action {
            keeps = is_there(word);
        } else if !keeps && returns_when_unavailable(word) {
            break;
        }
        if keeps {
            kept.extend_from_slice(word);
            kept.push(b' ');
        }
        rest = others.trim_ascii_start();
    }
    kept
}

/// Whether an action such as `[!UNAVAIL=return]` ends the look-up where a module cannot be loaded.
fn returns_when_unavailable(action: &[u8]) -> bool {
    let mut returns = false;
    for item in action.split(|byte| matches!(byte, b'[' | b']') || byte.is_ascii_whitespace()) {
        let (negated, item) = item.strip_prefix(b"!").map_or((false, item), |item| (true, item));
        let Some(at) = item.iter().position(|byte| *byte == b'=') else { continue };
        if item[..at].eq_ignore_ascii_case(b"unavail") != negated {
            returns = item[at + 1..].eq_ignore_ascii_case(b"return");
        }
    }
    returns
}

#[cfg(test)]
mod tests {
    use super::services_of;

    /// Seen with glibc: each of these lines has it find a name that only `/etc/hosts` has.
    #[test]
    fn services_are_read_as_the_c_library_reads_them() {
        let lines =
            ["hosts: files", "hosts\t:files", " hosts : files ", "hosts files", "hosts:: files", "hosts:files # dns"];
        for line in lines {
            assert_eq!(services_of(b"hosts", line.as_bytes()), Some(&b"files"[..]), "{line}");
        }
        assert_eq!(services_of(b"hosts", b"hosts:"), Some(&b""[..]));
        for line in ["hosts", "host: files", "hostsx: files", "#hosts: files", "passwd: hosts files"] {
            assert_eq!(services_of(b"hosts", line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn of_several_lines_the_last_one_counts() {
        assert_eq!(services_of(b"hosts", b"hosts: dns\npasswd: files\nhosts: files\n"), Some(&b"files"[..]));
    }
}
