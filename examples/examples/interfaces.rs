//! Lists the interfaces and addresses of every named network namespace, as Weave Net's agent did on each host.
//!
//! ```text
//! $ cargo run --example interfaces
//! blue: net:[4026532201]
//!   lo up 127.0.0.1/8 ::1/128
//!   eth0 up 10.0.0.1/24
//! ```

use std::error::Error;

use in_netns::{NetNs, with_netns};
use in_netns_examples::netlink::{Interface, Netlink};

// Without root, the process has a private `/run/netns` without names.
in_netns::rootless!();

/// The interfaces of a namespace. The socket is made inside, and so shows the interfaces inside.
pub(crate) fn interfaces_of(ns: &NetNs) -> Result<Vec<Interface>, Box<dyn Error>> {
    Ok(with_netns(ns, || Netlink::connect()?.interfaces())??)
}

fn main() -> Result<(), Box<dyn Error>> {
    let names = NetNs::list_named()?;
    if names.is_empty() {
        println!("there are no named network namespaces; create one with `ip netns add blue`, as root");
    }
    for name in names {
        // A name may have lost its namespace. The others are listed nevertheless.
        if let Err(error) = print_interfaces(&name) {
            println!("{name}: {error}");
        }
    }
    Ok(())
}

fn print_interfaces(of: &str) -> Result<(), Box<dyn Error>> {
    let ns = NetNs::from_name(of)?;
    let interfaces = interfaces_of(&ns)?;
    println!("{of}: {ns}");
    for Interface { name, up, addresses } in interfaces {
        let addresses: Vec<String> = addresses.iter().map(|(address, prefix)| format!("{address}/{prefix}")).collect();
        println!("  {name} {} {}", if up { "up" } else { "down" }, addresses.join(" "));
    }
    Ok(())
}
