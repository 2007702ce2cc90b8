//! What code inside a named namespace is shown of the files that belong to a network: by `ip netns exec`, by nlink and
//! by this crate. `bench/patchbay` makes the columns of patchbay.
//!
//! ```sh
//! cargo bench --manifest-path bench/Cargo.toml --bench view_table
//! ```
//!
//! It takes root, `ip`, `setpriv` and `unshare`. The namespace has an interface and files in `/etc/netns` that home
//! does not have. This program listens at the socket of nscd, if there is no nscd. It runs itself as an ordinary user
//! too, who tries to enter the namespace of root, or makes a namespace of the same name where that is possible. It
//! fails if the README says something else.

mod shown;

use std::fs;
use std::path::Path;
use std::process::Command;

use in_netns::{NetNs, rootless, with_netns};
use nix::mount::{MsFlags, mount};
use nlink::netlink::namespace::{self, Overlay};
use shown::{ADDRESS, Column, INTERFACE, NAME, Nscd, OfUsers, Role, Shown, look, of_child};

/// The ways into a namespace.
const WAYS: [&str; 6] = ["`ip netns exec`", "nlink, `NetnsCommand`", OURS[0], "nlink, `execute_in`", OURS[1], OURS[2]];
/// The ways that are also shown with this suffix.
const OURS: [&str; 3] = ["`View::command`", "`with_netns`", "`View::run`"];
const AFTER_ROOTLESS: &str = ", after `rootless::enter`";

fn ip(arguments: &str) {
    assert!(Command::new("ip").args(arguments.split(' ')).status().expect("ip").success(), "ip {arguments}");
}

/// Adds the interface that home does not have.
fn add_interface() {
    ip(&format!("-n {NAME} link add {INTERFACE} type veth peer name shown1"));
}

/// What code in the namespace of the name is shown in a way.
fn shown_in(way: &str) -> Shown {
    let text = |error: in_netns::Error| without_numbers(&error.to_string());
    let view = || NetNs::from_name(NAME).and_then(|ns| ns.view()).map_err(text);
    match way {
        "`ip netns exec`" => of_child(|command| {
            let arguments = ["netns", "exec", NAME].map(Into::into).into_iter();
            let program = arguments.chain([command.get_program().to_owned()]);
            Command::new("ip").args(program.chain(command.get_args().map(Into::into))).output()
        }),
        "nlink, `NetnsCommand`" => of_child(|command| {
            namespace::NetnsCommand::new(NAME, command).and_then(|it| it.etc_overlay(Overlay::Strict).output())
        }),
        "`View::command`" => {
            let view = view()?;
            of_child(|command| view.command(command.get_program()).args(command.get_args()).output())
        }
        "nlink, `execute_in`" => namespace::execute_in(NAME, look).map_err(|error| error.to_string()),
        "`with_netns`" => with_netns(NAME, look).map_err(text),
        "`View::run`" => view()?.run(look).map_err(text),
        _ => unreachable!("{way} is not one of the ways"),
    }
}

/// An error in which `…` stands for the numbers of namespaces, which differ from run to run.
fn without_numbers(error: &str) -> String {
    let mut parts = error.split('[');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + "[…" + part.trim_start_matches(|it: char| it.is_ascii_digit()))
}

/// Prints what this user is shown.
fn tell_parent(way: &str) {
    let way = match way.strip_suffix(AFTER_ROOTLESS) {
        Some(way) => rootless::enter().map(|_| way).expect("user namespaces"),
        None => way,
    };
    if in_netns::privileges().can_make() {
        // Where `rootless` did nothing, the directory is that of root.
        mount(None::<&str>, Path::new("/run/netns"), Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("a tmpfs");
        NetNs::create_named(NAME).expect("a namespace");
        add_interface();
    }
    shown::tell(&shown_in(way));
}

fn main() {
    if let Role::User(way) = shown::role() {
        return tell_parent(&way);
    }
    let _ = NetNs::delete_named(NAME);
    NetNs::create_named(NAME).expect("root");
    add_interface();
    let directory = format!("/etc/netns/{NAME}");
    fs::create_dir_all(&directory).expect("a directory");
    fs::write(format!("{directory}/resolv.conf"), format!("nameserver {ADDRESS}\n")).expect("a file");
    fs::write(format!("{directory}/hosts"), format!("{ADDRESS} {NAME}\n")).expect("a file");
    let nscd = Nscd::listen();

    let after_rootless = OURS.map(|way| format!("{way}{AFTER_ROOTLESS}"));
    let of_users = OfUsers::start(WAYS.map(str::to_owned).into_iter().chain(after_rootless));
    let columns: [(&str, Column); WAYS.len()] = WAYS.map(|way| (way, shown_in(way).expect("root")));
    let of_root = |way: &str| {
        let way = way.trim_end_matches(AFTER_ROOTLESS);
        columns.iter().find_map(|(it, column)| (*it == way).then_some(column)).expect("one of the ways")
    };
    let of_users = of_users.lines(of_root);

    drop(nscd);
    fs::remove_dir_all(&directory).expect("it was made above");
    NetNs::delete_named(NAME).expect("it was made above");
    shown::report(&columns);
    shown::report_users(&of_users);
}
