//! Bodies that ask about the network.

use std::ffi::CString;
use std::path::Path;
use std::time::Duration;

use in_netns::with_netns;

pub fn async_fs_read() {
    let done = with_netns("holdout", || futures_lite::future::block_on(async_fs::read("/etc/hostname")).is_ok());
    println!("{done:?}");
}

pub fn async_net_resolve() {
    let done = with_netns("holdout", || futures_lite::future::block_on(async_net::resolve("localhost:1")).is_ok());
    println!("{done:?}");
}

pub fn async_process_output() {
    let done = with_netns("holdout", || {
        futures_lite::future::block_on(async_process::Command::new("true").output()).is_ok()
    });
    println!("{done:?}");
}

pub fn dns_lookup_host() {
    println!("{:?}", with_netns("holdout", || dns_lookup::lookup_host("localhost").is_ok()));
}

pub fn hostname_get() {
    println!("{:?}", with_netns("holdout", || hostname::get().is_ok()));
}

pub fn if_addrs_list() {
    println!("{:?}", with_netns("holdout", || if_addrs::get_if_addrs().is_ok()));
}

pub fn joined_path() {
    println!("{:?}", with_netns("holdout", || std::fs::read(Path::new("/proc").join("net").join("dev")).is_ok()));
}

pub fn local_ip() {
    println!("{:?}", with_netns("holdout", || local_ip_address::local_ip().is_ok()));
}

pub fn mac_address_get() {
    println!("{:?}", with_netns("holdout", || mac_address::get_mac_address().is_ok()));
}

pub fn mdns_daemon() {
    println!("{:?}", with_netns("holdout", || mdns_sd::ServiceDaemon::new().is_ok()));
}

pub fn mio_poll() {
    let done = with_netns("holdout", || {
        let mut poll = mio::Poll::new()?;
        poll.poll(&mut mio::Events::with_capacity(1), Some(Duration::ZERO))
    });
    println!("{done:?}");
}

pub fn netdev_list() {
    println!("{:?}", with_netns("holdout", || netdev::get_interfaces().len()));
}

pub fn nix_getifaddrs() {
    println!("{:?}", with_netns("holdout", || nix::ifaddrs::getifaddrs().map(Iterator::count).is_ok()));
}

pub fn polling_wait() {
    let done = with_netns("holdout", || {
        let poller = polling::Poller::new()?;
        poller.wait(&mut polling::Events::new(), Some(Duration::ZERO))
    });
    println!("{done:?}");
}

pub fn sysinfo_networks() {
    println!("{:?}", with_netns("holdout", || sysinfo::Networks::new_with_refreshed_list().is_ok()));
}

pub fn c_string_path() {
    let done = with_netns("holdout", || {
        let path = CString::new("/proc/net/tcp").unwrap();
        // SAFETY: the path ends with a zero.
        unsafe { libc::open(path.as_ptr(), libc::O_RDONLY) }
    });
    println!("{done:?}");
}

pub fn concatenated_path() {
    println!("{:?}", with_netns("holdout", || std::fs::read(concat!("/sys", "/class/net", "/lo/mtu")).is_ok()));
}

pub fn thread_self_path() {
    println!("{:?}", with_netns("holdout", || std::fs::read("/proc/thread-self/net/dev").is_ok()));
}

pub fn telnet_connect() {
    println!("{:?}", with_netns("holdout", || telnet::Telnet::connect(("127.0.0.1", 23), 256).is_ok()));
}
