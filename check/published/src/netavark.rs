//! netavark: a macro enters the container's namespace, evaluates an expression in the caller's own code, and leaves.
//! Aardvark's DNS server is started beside it: whatever starts threads or reads the process's files must not be
//! between.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use nix::sched::{CloneFlags, setns};

fn join_netns<Fd: AsFd>(fd: Fd) -> io::Result<()> {
    Ok(setns(fd, CloneFlags::CLONE_NEWNET)?)
}

macro_rules! exec_netns {
    ($host:expr, $netns:expr, $result:ident, $exec:expr) => {
        join_netns($netns)?;
        let $result = $exec;
        join_netns($host)?;
    };
}

fn disable_ipv6_autoconf(name: &str) -> io::Result<()> {
    std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/autoconf"), "0")
}

/// As it is in netavark: `/proc/sys/net` is the calling thread's.
fn disable_autoconf(host: &File, netns: &File) -> io::Result<()> {
    exec_netns!(host, netns, result, disable_ipv6_autoconf("eth0"));
    result
}

/// A list of links by `sysfs`, which shows the namespace of the mount.
fn list_links(host: &File, netns: &File) -> io::Result<usize> {
    exec_netns!(host, netns, result, std::fs::read_dir("/sys/class/net").map(Iterator::count));
    result
}

/// A server that is started between enter and leave.
fn start_server(host: &File, netns: &File) -> io::Result<()> {
    exec_netns!(host, netns, result, std::thread::Builder::new().spawn(|| ()));
    result.map(drop)
}

/// The cure: the body of a call.
fn disable_autoconf_inside() -> Result<io::Result<()>, in_netns::Error> {
    in_netns::with_netns("container", || disable_ipv6_autoconf("eth0"))
}

pub fn main() {
    let (host, netns) = (File::open("/proc/thread-self/ns/net").unwrap(), File::open("/run/netns/c").unwrap());
    println!("{:?} {:?}", disable_autoconf(&host, &netns), list_links(&host, &netns));
    println!("{:?} {:?}", start_server(&host, &netns), disable_autoconf_inside());
}
