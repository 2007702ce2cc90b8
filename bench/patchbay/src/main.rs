//! What code inside a device of patchbay is shown of the files that belong to a network: two columns of the table of
//! `bench/benches/view_table.rs`.
//!
//! ```sh
//! cargo run --manifest-path bench/patchbay/Cargo.toml
//! ```
//!
//! It takes root. patchbay does not enter namespaces that others have made, so a device gets what the namespace of the
//! other columns has: an interface that home does not have, a name server, and a line in its `hosts`. patchbay starts
//! `nft` and `tc` for NAT, firewalls and link conditions, which this device and its router do not have.
//!
//! This program listens at the socket of nscd, if there is no nscd. It fails if the README says something else.

#[path = "../../benches/shown.rs"]
mod shown;

use std::process::{Command, Stdio};

use patchbay::Lab;
use shown::{ADDRESS, Column, INTERFACE, NAME, Nscd, look, of_child};

async fn columns() -> [(&'static str, Column); 2] {
    let lab = Lab::new().await.expect("a lab");
    let router = lab.add_router("router").build().await.expect("a router");
    // It writes the `resolv.conf` of all devices.
    lab.dns_server().expect("a name server");
    let device = lab.add_device("device").iface(INTERFACE, router.id()).build().await.expect("a device");
    device.set_host(NAME, ADDRESS.parse().expect("an address")).expect("a line in hosts");

    let spawn = |mut command: Command| {
        command.stdout(Stdio::piped());
        device.spawn_command_sync(command).expect("a process").wait_with_output().expect("its output")
    };
    [
        ("patchbay, `spawn_command_sync`", of_child(spawn)),
        ("patchbay, `run_sync`", device.run_sync(|| Ok(look())).expect("a closure")),
    ]
}

fn main() {
    if shown::look_for_parent() {
        return;
    }
    // A process with more than one thread cannot enter a user namespace.
    patchbay::init_userns().expect("a user namespace");
    let nscd = Nscd::listen();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let columns = runtime.block_on(columns());
    drop(nscd);
    shown::report(&columns);
}
