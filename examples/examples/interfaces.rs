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
        let ns = NetNs::from_name(&name)?;
        println!("{name}: {ns}");
        for Interface { name, up, addresses } in interfaces_of(&ns)? {
            let addresses: Vec<String> =
                addresses.iter().map(|(address, prefix)| format!("{address}/{prefix}")).collect();
            println!("  {name} {} {}", if up { "up" } else { "down" }, addresses.join(" "));
        }
    }
    Ok(())
}
