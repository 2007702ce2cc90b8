//! The tables of what is shown: their rows, what a thread or another process sees of each, and the comparison with the
//! README. Each program that makes columns of the tables includes this file.

use std::fmt::Display;
use std::fs::{self, Permissions};
use std::net::ToSocketAddrs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

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

/// What a way shows, or the error with which it ends.
pub type Shown = Result<Column, String>;

/// Commands that start this program as users with fewer privileges than root, by the headings of the README.
const USERS: [(&str, &str); 2] = [
    ("an ordinary user", "setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all"),
    (
        "the same, in `unshare -Urnm`",
        "setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all unshare -Urnm",
    ),
];

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
pub fn of_child<E: Display>(run: impl FnOnce(Command) -> Result<Output, E>) -> Shown {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg("look");
    let output = run(command).map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    let text = String::from_utf8(output.stdout).expect("text");
    Ok(column(&text, '\n'))
}

fn column(text: &str, separator: char) -> Column {
    let mut words = text.split(separator).map(str::to_owned);
    std::array::from_fn(|_| words.next().expect("a word for each row"))
}

/// How this program was started.
pub enum Role {
    /// As root: it makes all columns, and compares them with the README.
    Reporter,
    /// With the privileges of one of [`USERS`], in the given way.
    User(String),
}

/// The role of this process. Where [`of_child`] started it, it prints what it is shown, and exits.
pub fn role() -> Role {
    match std::env::args().nth(1).as_deref() {
        Some("look") => {
            println!("{}", look().join("\n"));
            std::process::exit(0);
        }
        Some("user") => Role::User(std::env::args().nth(2).expect("a way")),
        _ => Role::Reporter,
    }
}

/// Prints what [`OfUsers`] reads.
pub fn tell(shown: &Shown) {
    match shown {
        Ok(words) => println!("shown\t{}", words.join("\t")),
        Err(text) => println!("error\t{text}"),
    }
}

/// This program, started as each of [`USERS`] in each of some ways. All run at once, because of [`Nscd`].
pub struct OfUsers {
    copy: PathBuf,
    started: Vec<(String, [Child; USERS.len()])>,
}

impl OfUsers {
    pub fn start(ways: impl IntoIterator<Item = String>) -> Self {
        // A user may not be able to reach the program where it was built.
        let copy = std::env::temp_dir().join(format!("in-netns-view-table-{}", std::process::id()));
        fs::copy(std::env::current_exe().expect("this program"), &copy).expect("a copy");
        fs::set_permissions(&copy, Permissions::from_mode(0o755)).expect("a copy");
        let start = |way: &str, user: &str| {
            let mut words = user.split(' ');
            let mut command = Command::new(words.next().expect("a program"));
            command.args(words).arg(&copy).args(["user", way]).current_dir("/").stdout(Stdio::piped());
            command.spawn().expect("setpriv")
        };
        let started = ways.into_iter().map(|way| (USERS.map(|(_, user)| start(&way, user)), way));
        Self { started: started.map(|(children, way)| (way, children)).collect(), copy }
    }

    /// Waits for them. Returns the lines of their table, in which root's columns are those of `of_root`.
    pub fn lines<'c>(self, of_root: impl Fn(&str) -> &'c Column) -> Vec<String> {
        let line = |(way, children): (String, [Child; USERS.len()])| {
            let cells = children.map(|child| {
                let output = child.wait_with_output().expect("the output");
                let text = String::from_utf8(output.stdout).expect("text");
                match text.trim_end().split_once('\t') {
                    Some(("shown", words)) => compared(&column(words, '\t'), of_root(&way)),
                    Some(("error", text)) => text.to_owned(),
                    _ => panic!("{way}: the program of a user ended with {}", output.status),
                }
            });
            format!("| {way} | {} |", cells.join(" | "))
        };
        let lines = self.started.into_iter().map(line).collect();
        fs::remove_file(&self.copy).expect("it was made by `start`");
        lines
    }
}

/// The rows of a column that differ from root's.
fn compared(words: &Column, of_root: &Column) -> String {
    if words == of_root {
        return "as root".to_owned();
    }
    let rows = ROWS.iter().zip(words).zip(of_root);
    let different =
        rows.filter(|((_, word), of_root)| word != of_root).map(|((row, word), _)| format!("{row}: {word}"));
    format!("as root, but {}", different.collect::<Vec<_>>().join(", "))
}

/// Listens at the socket of nscd until it is dropped, if there is no nscd. It does not answer: glibc waits ten seconds
/// in each process that looks up a name, and then reads the files.
pub struct Nscd(Option<UnixListener>);

impl Nscd {
    pub fn listen() -> Self {
        let _ = fs::create_dir_all("/run/nscd");
        let listener = UnixListener::bind(NSCD).ok();
        if listener.is_some() {
            fs::set_permissions(NSCD, Permissions::from_mode(0o666)).expect("it was made above");
        }
        Self(listener)
    }
}

impl Drop for Nscd {
    fn drop(&mut self) {
        if self.0.is_some() {
            let _ = fs::remove_file(NSCD);
        }
    }
}

/// Prints the columns that root is shown, and panics if the README says something else.
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

/// Prints the table of what other users are shown, and panics if the README says something else.
pub fn report_users(lines: &[String]) {
    println!("\n| | {} |\n|---|---|---|\n{}", USERS.map(|(heading, _)| heading).join(" | "), lines.join("\n"));
    for line in lines {
        assert!(include_str!("../README.md").lines().any(|it| it == line), "README.md has no line {line}");
    }
}

/// The cells of the first line that starts with `start`.
fn cells_of_readme(start: &str) -> Vec<&'static str> {
    let line = include_str!("../README.md").lines().find(|line| line.starts_with(start));
    line.unwrap_or_else(|| panic!("README.md has no line {start}")).split('|').map(str::trim).collect()
}
