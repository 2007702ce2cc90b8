//! Runs programs, as the current user and as an ordinary user.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The kinds of namespace that [`print_namespaces`] prints.
pub const KINDS: [&str; 7] = ["user", "net", "mnt", "uts", "ipc", "cgroup", "pid"];

/// Prints `KIND=KIND:[INODE]` for each kind of namespace, and `uid=UID` and `gid=GID`, of the calling process.
pub fn print_namespaces() {
    for kind in KINDS {
        println!("{kind}={}", namespace(kind));
    }
    println!("uid={} gid={}", nix::unistd::geteuid(), nix::unistd::getegid());
}

/// The namespace of the given kind of the process's leader, as `readlink(1)` prints it.
///
/// # Panics
///
/// If `/proc` is not mounted.
#[must_use]
pub fn namespace(kind: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{kind}")).expect("/proc is mounted").display().to_string()
}

/// Parses the lines `KEY=VALUE` of an output.
#[must_use]
pub fn facts(output: &str) -> HashMap<&str, &str> {
    output.lines().filter_map(|line| line.split_once('=')).collect()
}

/// A temporary directory, readable by every user, that is removed on drop.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Creates one in the directory for temporary files.
    ///
    /// # Panics
    ///
    /// If it cannot be created.
    #[must_use]
    pub fn new() -> Scratch {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let path = loop {
            let number = LAST.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("in-netns-tests-{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                // A process that had the same id was killed and left the directory.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                created => {
                    created.expect("a directory for temporary files");
                    break path;
                }
            }
        };
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own directory");
        Scratch(path)
    }

    /// The path of the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Copies a program into the directory, where any user can run it. The target directory may be inside a home
    /// directory that is closed to others.
    ///
    /// # Panics
    ///
    /// If the copy fails.
    #[must_use]
    pub fn program(&self, original: &str) -> PathBuf {
        let copy = self.0.join(Path::new(original).file_name().expect("a program has a name"));
        // Another process makes the copy. If this process had the file open for writing, a program that another test
        // starts at the same moment would inherit the descriptor, and running the copy would fail (ETXTBSY).
        output_of(Command::new("install").args(["-m", "755", original]).arg(&copy));
        copy
    }
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // `Names::at` makes the directory of names a mount of its own.
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
        // A directory that cannot be removed is no reason for a test to fail.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a closure on a thread with a working directory of its own.
///
/// # Panics
///
/// If the closure panics.
pub fn in_directory<R: Send>(directory: &Path, closure: impl FnOnce() -> R + Send) -> R {
    let run = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).expect("a thread may have a directory of its own");
        std::env::set_current_dir(directory).expect("the directory exists");
        closure()
    };
    std::thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|payload| std::panic::resume_unwind(payload))
}

/// A command that runs a module of `tests/src/bin/separate`, and takes the arguments of the module. Given a
/// [`Scratch`], it runs a copy there, which any user can run.
///
/// Cargo tells the tests alone where the program is, so this is no function.
#[macro_export]
macro_rules! separate {
    ($module:expr) => {
        $crate::command_with(env!("CARGO_BIN_EXE_separate"), $module)
    };
    ($module:expr, $scratch:expr) => {
        $crate::command_with($scratch.program(env!("CARGO_BIN_EXE_separate")), $module)
    };
}

/// A command with its first argument.
#[must_use]
pub fn command_with(program: impl AsRef<OsStr>, argument: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(argument);
    command
}

/// Makes a command run as an ordinary user without capabilities: as `nobody` if this process is root, and as the
/// current user otherwise.
pub fn as_ordinary_user(command: &mut Command) -> &mut Command {
    if nix::unistd::geteuid().is_root() {
        // With the user id, `std` also drops the supplementary groups, and the kernel drops the capabilities.
        command.gid(65534).uid(65534);
    }
    command.current_dir("/")
}

/// Runs a command to its end, and returns its output.
///
/// # Panics
///
/// If it fails; the message contains its whole output.
pub fn output_of(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{stdout}\n{stderr}", output.status);
    stdout
}

/// Starts a command, and reads its output up to the line that begins with `until`. Returns those lines.
///
/// # Panics
///
/// If the command cannot be started, or ends too early.
#[must_use]
#[allow(clippy::zombie_processes)] // The caller ends it. Where this panics, it has ended.
pub fn start_until(command: &mut Command, until: &str) -> (Child, String) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program starts");
    let mut output = String::new();
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped"));
    loop {
        let before = output.len();
        assert_ne!(lines.read_line(&mut output).expect("text"), 0, "it ended early: {output}");
        if output[before..].starts_with(until) {
            return (child, output);
        }
    }
}

/// Counts the processes and threads in a namespace (`net:[4026531840]`), as far as this process may see them.
#[must_use]
pub fn tasks_in(kind: &str, namespace: &str) -> usize {
    let entries = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    entries("/proc".into())
        .filter(|process| process.file_name().is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit()))
        .flat_map(|process| entries(process.join("task")))
        .filter(|task| fs::read_link(task.join("ns").join(kind)).is_ok_and(|link| link.as_os_str() == namespace))
        .count()
}
