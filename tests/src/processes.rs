//! Running programs, as oneself and as an ordinary user.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The kinds of namespace that [`print_namespaces`] tells.
pub const KINDS: [&str; 7] = ["user", "net", "mnt", "uts", "ipc", "cgroup", "pid"];

/// Prints `KIND=KIND:[INODE]` for each kind of namespace, and `uid=UID` and `gid=GID`, of the calling process.
pub fn print_namespaces() {
    for kind in KINDS {
        println!("{kind}={}", namespace(kind));
    }
    println!("uid={} gid={}", nix::unistd::geteuid(), nix::unistd::getegid());
}

/// The namespace of a kind that the process's leader is in, as `readlink(1)` shows it.
///
/// # Panics
///
/// Without `/proc`.
#[must_use]
pub fn namespace(kind: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{kind}")).expect("/proc is mounted").display().to_string()
}

/// The lines `KEY=VALUE` of an output.
#[must_use]
pub fn facts(output: &str) -> HashMap<&str, &str> {
    output.lines().filter_map(|line| line.split_once('=')).collect()
}

/// A directory that vanishes with this value, open to every user.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one in the directory for temporary files.
    ///
    /// # Panics
    ///
    /// Where it cannot be made.
    #[must_use]
    pub fn new() -> Scratch {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("in-netns-tests-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("a directory for temporary files");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own directory");
        Scratch(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Copies a program here, where any user can run it: a target directory may lie in a home that is closed to others.
    ///
    /// # Panics
    ///
    /// Where that fails.
    #[must_use]
    pub fn program(&self, original: &str) -> PathBuf {
        let copy = self.0.join(Path::new(original).file_name().expect("a program has a name"));
        // By another process: a file that is open for writing here would be so in a program that another test is starting at
        // this moment, and could not be run (ETXTBSY).
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
        // A leftover in the directory for temporary files fails no test.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Has a command run as an ordinary user without capabilities: as `nobody` where this is root, as this user otherwise.
pub fn as_ordinary_user(command: &mut Command) -> &mut Command {
    if nix::unistd::geteuid().is_root() {
        // With the user id, `std` also lets go of the supplementary groups, and the kernel of the capabilities.
        command.gid(65534).uid(65534);
    }
    command.current_dir("/")
}

/// Runs a command to its end, and returns what it printed.
///
/// # Panics
///
/// Where it fails, with all that it printed.
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
/// Where the command cannot be started, or ends before.
#[must_use]
#[allow(clippy::zombie_processes)] // It is the caller's to end; where this panics, it has ended.
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

/// How many processes and threads, of those that this process may look at, are in a namespace (`net:[4026531840]`).
#[must_use]
pub fn tasks_in(kind: &str, namespace: &str) -> usize {
    let entries = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    entries("/proc".into())
        .filter(|process| process.file_name().is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit()))
        .flat_map(|process| entries(process.join("task")))
        .filter(|task| fs::read_link(task.join("ns").join(kind)).is_ok_and(|link| link.as_os_str() == namespace))
        .count()
}
