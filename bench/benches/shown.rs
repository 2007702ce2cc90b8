//! The table of what is shown: its rows, what a thread or another process sees of each, and the comparison with the
//! README. Each program that makes columns of the table includes this file.

use std::fs;
use std::net::ToSocketAddrs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Output};

/// The name that is looked up. Where the namespace has a name, it is this one.
pub const NAME: &str = "in-netns-view-table";
pub const INTERFACE: &str = "shown0";
/// The address of the name server and of the name. patchbay's own name server always has it.
pub const ADDRESS: &str = "198.18.0.1";
const NSCD: &str = "/run/nscd/socket";

const ROWS: [&str; 7] = [
    "`/sys/class/net`",
    "`/proc/net/dev`",
    "`/proc/thread-self/net/dev`",
    "`/etc/resolv.conf`",
    "`/etc/hosts`",
    "a name of that `hosts`, looked up",
    "the socket of nscd",
];

/// A word for each row.
pub type Column = [String; ROWS.len()];

/// What the calling thread is shown.
pub fn look() -> Column {
    let whose = |is_inside: bool| if is_inside { "the namespace's" } else { "home's" };
    let file = |path: &str, what: &str| whose(fs::read_to_string(path).is_ok_and(|text| text.contains(what)));
    let looked_up = (NAME, 1).to_socket_addrs().is_ok_and(|mut found| found.any(|it| it.ip().to_string() == ADDRESS));
    let words = [
        whose(fs::exists(format!("/sys/class/net/{INTERFACE}")).unwrap_or(false)),
        file("/proc/net/dev", INTERFACE),
        file("/proc/thread-self/net/dev", INTERFACE),
        file("/etc/resolv.conf", ADDRESS),
        file("/etc/hosts", ADDRESS),
        if looked_up { "found" } else { "not found" },
        if UnixStream::connect(NSCD).is_ok() { "answers from home" } else { "not there" },
    ];
    words.map(str::to_owned)
}

/// What this program is shown in another process, which `run` starts.
pub fn of_child(run: impl FnOnce(Command) -> Output) -> Column {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg("look");
    let output = String::from_utf8(run(command).stdout).expect("text");
    let mut lines = output.lines().map(str::to_owned);
    std::array::from_fn(|_| lines.next().expect("a line for each row"))
}

/// Prints what this process is shown, if [`of_child`] started it. Returns whether that is so.
pub fn look_for_parent() -> bool {
    let is_child = std::env::args().nth(1).as_deref() == Some("look");
    if is_child {
        look().iter().for_each(|line| println!("{line}"));
    }
    is_child
}

/// Listens at the socket of nscd until it is dropped, if there is no nscd. It does not answer: glibc waits ten seconds
/// in each process that looks up a name, and then reads the files.
pub struct Nscd(Option<UnixListener>);

impl Nscd {
    pub fn listen() -> Self {
        let _ = fs::create_dir_all("/run/nscd");
        Self(UnixListener::bind(NSCD).ok())
    }
}

impl Drop for Nscd {
    fn drop(&mut self) {
        if self.0.is_some() {
            let _ = fs::remove_file(NSCD);
        }
    }
}

/// Prints the columns, and panics if the README says something else.
pub fn report(columns: &[(&str, Column)]) {
    let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
    println!("| | {} |\n|---|{}", names.join(" | "), "---|".repeat(columns.len()));
    for (at, row) in ROWS.iter().enumerate() {
        let words: Vec<_> = columns.iter().map(|(_, shown)| shown[at].as_str()).collect();
        println!("| {row} | {} |", words.join(" | "));
    }

    let header = cells_of_readme("| | `ip netns exec` |");
    for (name, shown) in columns {
        let at = header.iter().position(|it| it == name).unwrap_or_else(|| panic!("README.md has no column {name}"));
        for (row, word) in ROWS.iter().zip(shown) {
            assert_eq!(word, cells_of_readme(&format!("| {row} |"))[at], "{name}, {row}: what README.md says");
        }
    }
}

/// The cells of the first line that starts with `start`.
fn cells_of_readme(start: &str) -> Vec<&'static str> {
    let line = include_str!("../README.md").lines().find(|line| line.starts_with(start));
    line.unwrap_or_else(|| panic!("README.md has no line {start}")).split('|').map(str::trim).collect()
}
