//! What code inside a named namespace is shown of the files that belong to a network: by `ip netns exec`, by nlink and
//! by this crate.
//!
//! ```sh
//! cargo bench --manifest-path bench/Cargo.toml --bench view_table
//! ```
//!
//! It takes root and `ip`. The namespace has an interface and files in `/etc/netns` that home does not have. This
//! program listens at the socket of nscd, if there is no nscd.

use std::fs;
use std::net::ToSocketAddrs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

use in_netns::{NetNs, with_netns};
use nlink::netlink::namespace::{self, Overlay};

const NAME: &str = "in-netns-view-table";
const INTERFACE: &str = "shown0";
const ADDRESS: &str = "192.0.2.77";
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

/// What the calling thread is shown: one word a row.
fn look() -> [&'static str; ROWS.len()] {
    let whose = |is_inside: bool| if is_inside { "the namespace's" } else { "home's" };
    let file = |path: &str, what: &str| whose(fs::read_to_string(path).is_ok_and(|text| text.contains(what)));
    let looked_up = (NAME, 1).to_socket_addrs().is_ok_and(|mut found| found.any(|it| it.ip().to_string() == ADDRESS));
    [
        whose(fs::exists(format!("/sys/class/net/{INTERFACE}")).unwrap_or(false)),
        file("/proc/net/dev", INTERFACE),
        file("/proc/thread-self/net/dev", INTERFACE),
        file("/etc/resolv.conf", ADDRESS),
        file("/etc/hosts", ADDRESS),
        if looked_up { "found" } else { "not found" },
        if UnixStream::connect(NSCD).is_ok() { "answers from home" } else { "not there" },
    ]
}

/// The same, of this program in another process.
fn of_child(run: impl FnOnce(Command) -> std::process::Output) -> [String; ROWS.len()] {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.arg("look");
    let output = String::from_utf8(run(command).stdout).expect("text");
    let mut lines = output.lines().map(str::to_owned);
    std::array::from_fn(|_| lines.next().expect("a line for each row"))
}

fn ip(arguments: &str) {
    assert!(Command::new("ip").args(arguments.split(' ')).status().expect("ip").success(), "ip {arguments}");
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("look") {
        return look().iter().for_each(|line| println!("{line}"));
    }
    let _ = NetNs::delete_named(NAME);
    let ns = NetNs::create_named(NAME).expect("root");
    ip(&format!("-n {NAME} link add {INTERFACE} type veth peer name shown1"));
    let directory = format!("/etc/netns/{NAME}");
    fs::create_dir_all(&directory).expect("a directory");
    fs::write(format!("{directory}/resolv.conf"), format!("nameserver {ADDRESS}\n")).expect("a file");
    fs::write(format!("{directory}/hosts"), format!("{ADDRESS} {NAME}\n")).expect("a file");
    let _ = fs::create_dir_all("/run/nscd");
    let nscd = UnixListener::bind(NSCD).ok();

    let view = ns.view().expect("a view");
    let ip_exec = |command: Command| {
        let arguments = ["netns", "exec", NAME].map(Into::into).into_iter();
        let program = arguments.chain([command.get_program().to_owned()]).chain(command.get_args().map(Into::into));
        Command::new("ip").args(program).output().expect("ip")
    };
    let nlink_command = |command| {
        let inside = namespace::NetnsCommand::new(NAME, command).expect("nlink");
        inside.etc_overlay(Overlay::Strict).output().expect("nlink")
    };
    let ours = |command: Command| view.command(command.get_program()).args(command.get_args()).output().expect("ours");
    let text = |row: [&'static str; ROWS.len()]| row.map(str::to_owned);
    let columns = [
        ("`ip netns exec`", of_child(ip_exec)),
        ("nlink, `NetnsCommand`", of_child(nlink_command)),
        ("`View::command`", of_child(ours)),
        ("nlink, `execute_in`", text(namespace::execute_in(NAME, look).expect("nlink"))),
        ("`with_netns`", text(with_netns(&ns, look).expect("a call"))),
        ("`View::run`", text(view.run(look).expect("a call"))),
    ];
    println!("| | {} |", columns.each_ref().map(|(name, _)| *name).join(" | "));
    println!("|---|{}", "---|".repeat(columns.len()));
    for (at, row) in ROWS.iter().enumerate() {
        println!("| {row} | {} |", columns.each_ref().map(|(_, shown)| shown[at].as_str()).join(" | "));
    }

    if nscd.is_some() {
        fs::remove_file(NSCD).expect("it was made above");
    }
    fs::remove_dir_all(&directory).expect("it was made above");
    drop(view);
    NetNs::delete_named(NAME).expect("it was made above");
}
