//! Processes that are started in a namespace.
//!
//! **Promised:** the process is in the namespace from its first instruction: it inherits the network namespace of the
//! thread that starts it. The caller's thread does not move. A signal that the process asked for on the exit of its
//! parent (`PR_SET_PDEATHSIG(2const)`) comes when this process ends, and not before.
//!
//! **Why this mechanism:** `std` starts a process by `posix_spawn(3)`, which shares the memory of the parent until the
//! program is loaded, unless code runs between `fork(2)` and `execve(2)`. Entering the namespace there is the usual
//! way, and copies the page tables of the parent: 47 ms more with 400 MB resident (measured on Linux 6.18).
//!
//! **Why spawners:** the parent-death signal is sent when the parent *thread* exits. A pinned thread that runs bodies
//! may have to exit at the end of any of them. A spawner runs no user code, so only a failed restore makes it exit; and
//! even then it exits after the processes that it has started. Until then it does no work, and is in no namespace that
//! they are not in.

use std::ffi::{OsStr, c_int};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::panic;
use std::path::Path;
use std::process::{self, Child, CommandArgs, CommandEnvs, ExitStatus, Output, Stdio};
use std::sync::Arc;

use nix::errno::Errno;

use crate::call::context::Context;
use crate::call::view::View;
use crate::error::{Error, ErrorKind};
use crate::netns::{NetNs, Place};
use crate::sys::ParentDeathSignal;
use crate::thread::{Allowance, Inspect, LeaseEnd, Pool, Role, descriptors, start_pending};
use crate::unwind::catch;

impl Place {
    /// Runs `start` inside, on a spawner. `id` returns the id of the process that was started.
    fn start<C: Send>(
        &self,
        start: impl FnOnce() -> io::Result<C> + Send,
        id: impl Fn(&C) -> Option<u32> + Sync,
    ) -> Result<io::Result<C>, Error> {
        let mut place = self.clone();
        place.prepare();
        start_pending();
        let pool = Pool::of_process();
        if descriptors::are_apart(pool.home_or_init()?) {
            let why = "the calling thread has a table of file descriptors of its own (unshare(2) with CLONE_FILES), \
                       and the thread that starts processes shares that of the process; use `std::process::Command` in \
                       a `Call::fresh`";
            return Err(Error::new(ErrorKind::Unsupported, format!("start a process in {self}"), why));
        }
        place.as_target().check_process_table()?;
        let context = Context::of_caller();
        let allowance = Allowance::of_caller();
        let (mut start, mut ended) = (Some(start), None);
        let lease = pool.run_admitted(Role::for_processes_in(&place), allowance, |thread| {
            let Some(entered) = thread.admit(Some(place.as_target()), || allowance) else { return false };
            ended = Some(match entered {
                Ok(()) => {
                    // tokio panics without the drivers that it needs.
                    let started = catch(|| start.take().map(|start| context.within(start)));
                    let child = started.as_ref().ok().and_then(|started| started.as_ref()?.as_ref().ok());
                    if let Some(id) = child.and_then(&id) {
                        thread.has_started(id);
                    }
                    (Ok(started), LeaseEnd::restore(&pool.roster, thread, Inspect::Later, None))
                }
                Err(error) => (Err(error), LeaseEnd::not_entered(&pool.roster, thread)),
            });
            true
        })?;
        let Some((started, lease_end)) = ended else { unreachable!("a job that was admitted has ended") };
        lease_end.return_lease(lease).report();
        let started = started?.unwrap_or_else(|payload| panic::resume_unwind(payload));
        Ok(started.unwrap_or_else(|| unreachable!("a process is started once")))
    }
}

/// A process builder: [`std::process::Command`], for processes in a namespace.
///
/// [`NetNs::command`] returns it. The process is in the namespace from its first instruction. It is a child process of
/// this one, with the standard streams, the environment and the working directory that `std` would give it, and is
/// waited for as usual.
///
/// ```
/// # in_netns::rootless!();
/// use in_netns::NetNs;
///
/// let ns = NetNs::new()?;
/// let output = ns.command("readlink").arg("/proc/self/ns/net").output()?;
/// assert!(output.status.success());
/// assert_eq!(String::from_utf8(output.stdout)?.trim_end(), ns.to_string());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # How it is started
///
/// A *spawner* starts it: a pinned thread that does nothing else. The new process inherits from the spawner what a
/// process inherits from the thread that starts it: other namespaces, capabilities, scheduling, resource controls. A
/// spawner has these from this process, as [`inheritance`](crate::inheritance) says. What belongs to the process as a
/// whole (working directory, umask, environment, open descriptors, limits) is as the caller has it. Where the caller
/// has stopped sharing its working directory (`CLONE_FS`), the new process gets that of this process.
///
/// `std` uses `posix_spawn(3)`, which does not copy the page tables of this process, so that its time does not depend
/// on the memory in use. Each of these makes `std` use `fork(2)`, whose time grows with the memory: [`Command::uid`],
/// [`Command::gid`], [`Command::parent_death_signal`], the variable `PATH` together with a program that is looked up in
/// it, and everything that is done between `fork` and `exec`
/// ([`pre_exec`](std::os::unix::process::CommandExt::pre_exec), by [`Command::as_std_mut`]).
///
/// # The parent-death signal
///
/// A process that asks for a signal on the exit of its parent (`PR_SET_PDEATHSIG`, `setpriv --pdeathsig`, bubblewrap's
/// `--die-with-parent`) gets it when this process ends. The kernel sends it when the parent *thread* exits; so a
/// spawner stays as long as one of its processes runs, also when the caller's thread has exited.
///
/// A spawner that could not return home is poisoned: it starts no more processes. It sleeps in the namespace until the
/// processes that it started have ended, and exits.
///
/// # References
///
/// `posix_spawn(3)`, `fork(2)`, `PR_SET_PDEATHSIG(2const)`.
#[must_use = "a command does nothing until `spawn`, `status` or `output`"]
pub struct Command {
    place: Place,
    std: process::Command,
    streams: SetStreams,
    parent_death_signal: Option<Arc<ParentDeathSignal>>,
    #[cfg(feature = "tokio")]
    pub(crate) kill_on_drop: bool,
}

/// Which standard streams the caller has set. (`std` has no getter for them.)
#[derive(Clone, Copy, Debug, Default)]
struct SetStreams {
    input: bool,
    output: bool,
    error: bool,
}

impl NetNs {
    /// A command that starts a program in this network namespace, as [`std::process::Command::new`] does in the
    /// caller's.
    ///
    /// Everything else is as in this process: mounts, user, working directory. In particular `/sys` and `/etc` are not
    /// those that `ip netns exec` shows; [`View::command`] has them.
    ///
    /// Nothing happens until the command is started: see [`Command`].
    ///
    /// # Examples
    ///
    /// ```
    /// # in_netns::rootless!();
    /// use in_netns::NetNs;
    ///
    /// let ns = NetNs::new()?;
    /// let script = "wc -l < /proc/net/dev";
    /// let output = ns.command("sh").args(["-c", script]).output()?;
    /// assert_eq!(output.stdout, b"3\n"); // two lines of headings, and loopback
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        Command::new(self.clone().into(), program.as_ref())
    }
}

impl View {
    /// A command that starts a program in this view, as `ip netns exec` does: [`NetNs::command`], with a view.
    ///
    /// The program is looked up in the view. It begins in the working directory of the caller, or in `/` where there is
    /// no such directory in the view, and with the umask of the view.
    ///
    /// # Examples
    ///
    /// ```
    /// # in_netns::rootless!();
    /// use in_netns::NetNs;
    ///
    /// let view = NetNs::new()?.view()?;
    /// let output = view.command("ls").arg("/sys/class/net").output()?;
    /// assert_eq!(output.stdout, b"lo\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        Command::new(self.place(), program.as_ref())
    }
}

impl Command {
    pub(crate) fn new(place: Place, program: &OsStr) -> Command {
        Command {
            place,
            std: process::Command::new(program),
            streams: SetStreams::default(),
            parent_death_signal: None,
            #[cfg(feature = "tokio")]
            kill_on_drop: false,
        }
    }

    /// Adds an argument: [`std::process::Command::arg`].
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Command {
        self.std.arg(arg);
        self
    }

    /// Adds arguments: [`std::process::Command::args`].
    pub fn args<I, S>(&mut self, args: I) -> &mut Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.std.args(args);
        self
    }

    /// Sets an environment variable: [`std::process::Command::env`].
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Command {
        self.std.env(key, value);
        self
    }

    /// Sets environment variables: [`std::process::Command::envs`].
    pub fn envs<I, K, V>(&mut self, variables: I) -> &mut Command
    where
        I: IntoIterator<Item = (K, V)>,
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        self.std.envs(variables);
        self
    }

    /// Removes an environment variable: [`std::process::Command::env_remove`].
    pub fn env_remove(&mut self, key: impl AsRef<OsStr>) -> &mut Command {
        self.std.env_remove(key);
        self
    }

    /// Clears the environment: [`std::process::Command::env_clear`].
    pub fn env_clear(&mut self) -> &mut Command {
        self.std.env_clear();
        self
    }

    /// Sets the working directory: [`std::process::Command::current_dir`].
    pub fn current_dir(&mut self, directory: impl AsRef<Path>) -> &mut Command {
        self.std.current_dir(directory);
        self
    }

    /// Sets the standard input: [`std::process::Command::stdin`].
    pub fn stdin(&mut self, stream: impl Into<Stdio>) -> &mut Command {
        self.streams.input = true;
        self.std.stdin(stream);
        self
    }

    /// Sets the standard output: [`std::process::Command::stdout`].
    pub fn stdout(&mut self, stream: impl Into<Stdio>) -> &mut Command {
        self.streams.output = true;
        self.std.stdout(stream);
        self
    }

    /// Sets the standard error: [`std::process::Command::stderr`].
    pub fn stderr(&mut self, stream: impl Into<Stdio>) -> &mut Command {
        self.streams.error = true;
        self.std.stderr(stream);
        self
    }

    /// Sets the user id of the process, and drops its supplementary groups if this process is root:
    /// [`CommandExt::uid`].
    pub fn uid(&mut self, id: u32) -> &mut Command {
        self.std.uid(id);
        self
    }

    /// Sets the group id of the process: [`CommandExt::gid`].
    pub fn gid(&mut self, id: u32) -> &mut Command {
        self.std.gid(id);
        self
    }

    /// Sets the zeroth argument: [`CommandExt::arg0`].
    pub fn arg0(&mut self, arg: impl AsRef<OsStr>) -> &mut Command {
        self.std.arg0(arg);
        self
    }

    /// Sets the process group; 0 makes a new one: [`CommandExt::process_group`].
    pub fn process_group(&mut self, group: i32) -> &mut Command {
        self.std.process_group(group);
        self
    }

    /// Requests a signal for the new process when this process ends, however it ends; 0 cancels the request.
    ///
    /// The number is one of `signal(7)`, such as 9 for `SIGKILL`. The end of the calling thread does not count. The
    /// kernel drops the request when the program that is executed has the set-user-ID bit, or file capabilities. This
    /// makes `std` use `fork(2)`: see [`Command`].
    ///
    /// # Examples
    ///
    /// ```
    /// # in_netns::rootless!();
    /// let ns = in_netns::NetNs::new()?;
    /// let mut child = ns.command("sleep").arg("1000").parent_death_signal(9).spawn()?;
    /// # child.kill()?;
    /// # child.wait()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # References
    ///
    /// `PR_SET_PDEATHSIG(2const)`.
    pub fn parent_death_signal(&mut self, signal: c_int) -> &mut Command {
        match &self.parent_death_signal {
            Some(asked) => asked.set(signal),
            None if signal == 0 => {}
            None => self.parent_death_signal = Some(ParentDeathSignal::add_to(&mut self.std, signal)),
        }
        self
    }

    /// The underlying command, for settings that have no method here.
    ///
    /// Do not start it: the process would be in the namespace of the calling thread. Standard streams that are set here
    /// are replaced by [`Command::output`].
    pub fn as_std_mut(&mut self) -> &mut process::Command {
        &mut self.std
    }

    /// The program: [`std::process::Command::get_program`].
    #[must_use]
    pub fn get_program(&self) -> &OsStr {
        self.std.get_program()
    }

    /// The arguments: [`std::process::Command::get_args`].
    pub fn get_args(&self) -> CommandArgs<'_> {
        self.std.get_args()
    }

    /// The environment variables that were set or removed: [`std::process::Command::get_envs`].
    pub fn get_envs(&self) -> CommandEnvs<'_> {
        self.std.get_envs()
    }

    /// The working directory that was set: [`std::process::Command::get_current_dir`].
    #[must_use]
    pub fn get_current_dir(&self) -> Option<&Path> {
        self.std.get_current_dir()
    }

    /// Starts the process, and returns it: [`std::process::Command::spawn`].
    ///
    /// # Errors
    ///
    /// As [`with_netns`](crate::with_netns), where the namespace cannot be entered, and as
    /// [`std::process::Command::spawn`]. The message names the program and the namespace, and no process is left.
    /// [`Unsupported`](io::ErrorKind::Unsupported) where the calling thread has a table of file descriptors of its own
    /// (`unshare(2)` with `CLONE_FILES`).
    pub fn spawn(&mut self) -> io::Result<Child> {
        self.start(process::Command::spawn, |child| Some(child.id()))
    }

    /// Runs the process to its end, and returns its status: [`std::process::Command::status`].
    ///
    /// # Errors
    ///
    /// As [`Command::spawn`], and `ECHILD` where the process ignores `SIGCHLD` or waits for all children elsewhere.
    pub fn status(&mut self) -> io::Result<ExitStatus> {
        self.spawn()?.wait().map_err(|source| self.not_waited(source))
    }

    /// Runs the process to its end, and returns its status and output: [`std::process::Command::output`].
    ///
    /// Standard output and standard error are captured, and standard input is empty, where they were not set.
    ///
    /// # Errors
    ///
    /// As [`Command::spawn`], and `ECHILD` where the process ignores `SIGCHLD` or waits for all children elsewhere.
    pub fn output(&mut self) -> io::Result<Output> {
        let child = self.with_captured_streams(Command::spawn)?;
        child.wait_with_output().map_err(|source| self.not_waited(source))
    }

    /// Starts the process with the streams of [`Command::output`].
    pub(crate) fn with_captured_streams<C>(
        &mut self,
        start: impl FnOnce(&mut Command) -> io::Result<C>,
    ) -> io::Result<C> {
        let set = self.streams;
        // `Stdio::null` opens the file on the spawner: the files of a process that a view shows may lack it.
        let empty = || File::open(NULL).map_or_else(|_| Stdio::null(), Stdio::from);
        self.set_other_streams(set, empty, Stdio::piped);
        // tokio panics without a runtime, and the command can be started again.
        let mut command =
            scopeguard::guard(self, |command| command.set_other_streams(set, Stdio::inherit, Stdio::inherit));
        start(&mut command)
    }

    fn set_other_streams(&mut self, set: SetStreams, input: fn() -> Stdio, outputs: fn() -> Stdio) {
        let SetStreams { input: input_set, output: output_set, error: error_set } = set;
        if !input_set {
            self.std.stdin(input());
        }
        if !output_set {
            self.std.stdout(outputs());
        }
        if !error_set {
            self.std.stderr(outputs());
        }
    }

    /// Starts the process on a spawner.
    pub(crate) fn start<C: Send>(
        &mut self,
        start: impl FnOnce(&mut process::Command) -> io::Result<C> + Send,
        id: impl Fn(&C) -> Option<u32> + Sync,
    ) -> io::Result<C> {
        if let Some(asked) = &self.parent_death_signal {
            asked.parent_is_this_process();
        }
        let std = &mut self.std;
        let mut missing = Missing::default();
        let start = || {
            let started = start(std);
            let kind = started.as_ref().err().map(io::Error::kind);
            if matches!(kind, Some(io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)) {
                // The spawner looks for it: a view has other files than home.
                missing.directory = std.get_current_dir().is_some_and(|directory| !directory.is_dir());
                missing.null = !Path::new(NULL).exists();
            }
            started
        };
        let started = self.place.start(start, id)?;
        started.map_err(|source| self.not_started(source, missing).into())
    }

    /// The error where the caller's tokio runtime cannot wait for a process. None was started.
    #[cfg(feature = "tokio")]
    pub(crate) fn not_registered(&self, source: io::Error) -> Error {
        let program = Path::new(self.get_program()).display();
        let operation = format!("register the program {program} in {} with the tokio runtime", self.place);
        Error::from_std(operation, source).explain_no_watch()
    }

    /// A process whose end cannot be waited for.
    pub(crate) fn not_waited(&self, source: io::Error) -> io::Error {
        if source.raw_os_error() != Some(Errno::ECHILD as i32) {
            return source;
        }
        let operation = format!("wait for the program {} in {}", Path::new(self.get_program()).display(), self.place);
        let why = "it was started, and something else has waited for it: the kernel, where the process ignores SIGCHLD \
                   (SIG_IGN, or SA_NOCLDWAIT), or other code that waits for all children (wait(2), waitpid(2) with -1)";
        Error::from_errno(operation, Errno::ECHILD).explained(why).into()
    }

    fn not_started(&self, source: io::Error, missing: Missing) -> Error {
        let operation = format!("start the program {} in {}", Path::new(self.get_program()).display(), self.place);
        let Some(errno) = source.raw_os_error().map(Errno::from_raw) else {
            return Error::from_std(operation, source);
        };
        let cause = match errno {
            Errno::ENOENT => match self.get_current_dir() {
                Some(directory) if missing.directory => {
                    let why = format!("the working directory {} does not exist", directory.display());
                    return Error::from_errno(operation, errno).explained(why);
                }
                _ if missing.null => {
                    "there is no /dev/null, which `Stdio::null` opens, or no such program, or the interpreter or \
                     dynamic loader that it needs does not exist"
                }
                _ => "no such program, or the interpreter or dynamic loader that it needs does not exist",
            },
            Errno::ENOTDIR => match self.get_current_dir() {
                Some(directory) if missing.directory => {
                    let why = format!(
                        "the working directory {} is a file, or a part of its path is, where a directory is expected",
                        directory.display()
                    );
                    return Error::from_errno(operation, errno).explained(why);
                }
                _ => "a part of the path of the program is a file where a directory is expected",
            },
            Errno::EINVAL => {
                "the process group, the signal, or the id of the user or group that was asked for is not valid, or \
                 this user namespace does not map the id (/proc/self/uid_map, /proc/self/gid_map)"
            }
            Errno::EACCES | Errno::EPERM => {
                let why = "the file or the working directory is not executable for this user, is on a mount that \
                           allows no programs (noexec), a user, group or limit was asked for that this process may \
                           not set, or a process group that this session does not have";
                return Error::from_errno(operation, errno).explained(why);
            }
            Errno::ENOEXEC => {
                "the file is neither a program for this machine nor a script whose first line names its interpreter \
                 (`#!/bin/sh`)"
            }
            Errno::E2BIG => {
                "the arguments and the environment variables are too long (execve(2)): one of them may have 128 KiB, \
                 and all together a quarter of `ulimit -s`"
            }
            Errno::ETXTBSY => "the file is open for writing",
            Errno::EAGAIN => "see `ulimit -u` (RLIMIT_NPROC), and the pids limit of the cgroup",
            _ => return Error::from_errno(operation, errno),
        };
        let why = format!("{cause}, unless a closure given to `pre_exec` failed with this error");
        Error::from_errno(operation, errno).explained(why)
    }
}

/// The file that `Stdio::null` opens.
const NULL: &str = "/dev/null";

/// What the spawner does not find, where `std` reports that a file is missing.
#[derive(Clone, Copy, Debug, Default)]
struct Missing {
    directory: bool,
    null: bool,
}

impl fmt::Debug for Command {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Command").field("place", &self.place).field("command", &self.std).finish_non_exhaustive()
    }
}
