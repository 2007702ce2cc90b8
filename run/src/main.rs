//! Runs a command in a network namespace of its own: a runner for cargo and nextest.
//!
//! **Promised:** the command runs in a new network namespace with its loopback up, or not at all. It has the same user,
//! process id and streams; signals reach it, and its exit status is that of the process.
//!
//! **How:** the process moves, and then becomes the command (`execve(2)`). It does not use [`std::process::Command`],
//! which resets `SIGPIPE` and the signal mask, and it closes the streams for which std has opened `/dev/null`. Without
//! `CAP_SYS_ADMIN`, it becomes root of a user namespace first, which has a `/run/netns` of its own, and then the same
//! user again in one below that. The capabilities there stay with the command (`capabilities(7)`, ambient set), so that
//! it may set its network up.

use std::env;
use std::ffi::{CString, OsString};
use std::fmt::Display;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::ExitCode;

use caps::CapSet;
use in_netns::NetNs;
use in_netns::rootless::{self, Entry};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, execvp};

in_netns::note_inherited!();

/// The exit statuses that `env(1)` and `nohup(1)` use.
const FAILED: u8 = 125;
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

const USAGE: &str = "\
Runs a command in a network namespace of its own, with the loopback up.

Usage: in-netns-run [--] COMMAND [ARGUMENT]...
       in-netns-run --help | --version

Without CAP_SYS_ADMIN, the command runs in user, mount, UTS, IPC and cgroup namespaces
of its own as well: as the same user, with all capabilities there, and with an
empty /run/netns.

The process becomes the command: its process id, signals, streams and exit status are
the command's. Exit status 125: wrong usage, or the namespace could not be made;
126: the command cannot be run; 127: there is no such command. A message on stderr
says why.

As a runner of cargo, in .cargo/config.toml:

    [target.'cfg(target_os = \"linux\")']
    runner = \"in-netns-run\"
";

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1).peekable();
    match arguments.peek().and_then(|first| first.to_str()) {
        Some("-h" | "--help") => {
            return print(USAGE);
        }
        Some("-V" | "--version") => {
            return print(concat!("in-netns-run ", env!("CARGO_PKG_VERSION"), "\n"));
        }
        Some("--") => {
            arguments.next();
        }
        Some(option) if option.starts_with('-') => {
            return failed(FAILED, &format!("there is no option {option}; see `in-netns-run --help`"));
        }
        _ => {}
    }
    let Some(command) = arguments.next() else {
        return failed(FAILED, &"which command? See `in-netns-run --help`");
    };
    if let Err(error) = move_process() {
        return failed(FAILED, &error);
    }
    become_command(&command, arguments)
}

/// Moves this process to a network namespace of its own.
fn move_process() -> Result<(), Box<dyn std::error::Error>> {
    // In a user namespace that does not own the network of the process, a thread that makes a namespace cannot go back.
    // No report of that is needed: the process becomes the command, and the report would go to the command's stream.
    in_netns::set_poison_hook(|_| {});
    let (user, group) = (Uid::effective(), Gid::effective());
    if rootless::enter()? == Entry::Entered {
        become_user(user, group).map_err(|error| {
            let what = "cannot become the same user again in a user namespace below the first";
            format!("{what}: {error}; see `sysctl user.max_user_namespaces`, which counts both")
        })?;
    }
    Ok(NetNs::new()?.join()?)
}

/// Makes root of a user namespace an ordinary user of a nested one, with all capabilities there.
fn become_user(user: Uid, group: Gid) -> io::Result<()> {
    let with_names = CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWCGROUP;
    let needed = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    // A kernel may lack the other kinds.
    unshare(needed | with_names).or_else(|_| unshare(needed))?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{user} 0 1"))?;
    fs::write("/proc/self/gid_map", format!("{group} 0 1"))?;
    let all = caps::read(None, CapSet::Permitted).map_err(io::Error::other)?;
    caps::set(None, CapSet::Inheritable, &all).map_err(io::Error::other)?;
    caps::set(None, CapSet::Ambient, &all).map_err(io::Error::other)
}

/// Executes the command. It returns only on a failure.
fn become_command(command: &OsString, arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let each = [command.clone()].into_iter().chain(arguments);
    let exec = |arguments: Vec<CString>| -> io::Error {
        in_netns::__private::with_inherited(|| match execvp(&arguments[0], &arguments) {
            Ok(never) => match never {},
            Err(errno) => errno.into(),
        })
    };
    // The system passes no argument that contains a zero.
    let error = each.map(|text| CString::new(text.into_vec())).collect::<Result<_, _>>().map_or_else(Into::into, exec);
    let status = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN };
    failed(status, &format!("cannot run {}: {error}", Path::new(command).display()))
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(FAILED, &format!("cannot write: {error}")),
    }
}

fn failed(status: u8, error: &dyn Display) -> ExitCode {
    // Where the message cannot be written, the exit status still says that it failed.
    let _ = writeln!(io::stderr(), "in-netns-run: {error}");
    ExitCode::from(status)
}
