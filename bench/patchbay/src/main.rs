//! What code inside a device of patchbay is shown of the files that belong to a network: two columns of the tables of
//! `bench/benches/view_table.rs`.
//!
//! ```sh
//! cargo run --manifest-path bench/patchbay/Cargo.toml
//! ```
//!
//! It takes root, `setpriv` and `unshare`. patchbay does not enter namespaces that others have made, so a device gets
//! what the namespace of the other columns has: an interface that home does not have, a name server, and a line in its
//! `hosts`. patchbay starts `nft` and `tc` for NAT, firewalls and link conditions, which this device and its router do
//! not have.
//!
//! This program listens at the socket of nscd, if there is no nscd. It fails if the README says something else.

#[path = "../../benches/shown.rs"]
mod shown;

use std::process::{Command, Stdio};

use patchbay::Lab;
use shown::{ADDRESS, INTERFACE, NAME, Nscd, OfUsers, Role, Shown, look, of_child};

const WAYS: [&str; 2] = ["patchbay, `spawn_command_sync`", "patchbay, `run_sync`"];

/// What code in a device is shown in a way.
async fn shown_in(way: &str) -> Shown {
    let lab = Lab::new().await.expect("a lab");
    let router = lab.add_router("router").build().await.expect("a router");
    // It writes the `resolv.conf` of all devices.
    lab.dns_server().expect("a name server");
    let device = lab.add_device("device").iface(INTERFACE, router.id()).build().await.expect("a device");
    device.set_host(NAME, ADDRESS.parse().expect("an address")).expect("a line in hosts");

    let spawn = |mut command: Command| {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        device.spawn_command_sync(command).expect("a process").wait_with_output()
    };
    if way == WAYS[0] { of_child(spawn) } else { Ok(device.run_sync(|| Ok(look())).expect("a closure")) }
}

fn shown_by_runtime(way: &str) -> Shown {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(shown_in(way))
}

fn main() {
    let (nscd, of_users) = match shown::role() {
        Role::User(way) => {
            patchbay::init_userns().expect("a user namespace");
            return shown::tell(&shown_by_runtime(&way));
        }
        Role::Reporter => (Nscd::listen(), OfUsers::start(WAYS.map(str::to_owned))),
    };
    // A process with more than one thread cannot enter a user namespace.
    patchbay::init_userns().expect("a user namespace");
    let columns = WAYS.map(|way| (way, shown_by_runtime(way).expect("root")));
    let of_users = of_users.lines(|way| &columns[usize::from(way == WAYS[1])].1);
    drop(nscd);
    shown::report(&columns);
    shown::report_users(&of_users);
}
