//! What code inside a named namespace is shown of the files that belong to a network: by `ip netns exec`, by nlink and
//! by this crate. `bench/patchbay` makes the columns of patchbay.
//!
//! ```sh
//! cargo bench --manifest-path bench/Cargo.toml --bench view_table
//! ```
//!
//! It takes root and `ip`. The namespace has an interface and files in `/etc/netns` that home does not have. This
//! program listens at the socket of nscd, if there is no nscd. It fails if the README says something else.

mod shown;

use std::fs;
use std::process::Command;

use in_netns::{NetNs, with_netns};
use nlink::netlink::namespace::{self, Overlay};
use shown::{ADDRESS, INTERFACE, NAME, Nscd, look, of_child};

fn ip(arguments: &str) {
    assert!(Command::new("ip").args(arguments.split(' ')).status().expect("ip").success(), "ip {arguments}");
}

fn main() {
    if shown::look_for_parent() {
        return;
    }
    let _ = NetNs::delete_named(NAME);
    let ns = NetNs::create_named(NAME).expect("root");
    ip(&format!("-n {NAME} link add {INTERFACE} type veth peer name shown1"));
    let directory = format!("/etc/netns/{NAME}");
    fs::create_dir_all(&directory).expect("a directory");
    fs::write(format!("{directory}/resolv.conf"), format!("nameserver {ADDRESS}\n")).expect("a file");
    fs::write(format!("{directory}/hosts"), format!("{ADDRESS} {NAME}\n")).expect("a file");
    let nscd = Nscd::listen();

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
    let columns = [
        ("`ip netns exec`", of_child(ip_exec)),
        ("nlink, `NetnsCommand`", of_child(nlink_command)),
        ("`View::command`", of_child(ours)),
        ("nlink, `execute_in`", namespace::execute_in(NAME, look).expect("nlink")),
        ("`with_netns`", with_netns(&ns, look).expect("a call")),
        ("`View::run`", view.run(look).expect("a call")),
    ];

    drop(nscd);
    fs::remove_dir_all(&directory).expect("it was made above");
    drop(view);
    NetNs::delete_named(NAME).expect("it was made above");
    shown::report(&columns);
}
