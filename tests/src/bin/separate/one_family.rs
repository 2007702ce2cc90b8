//! A process that may create sockets of only some families, as with systemd's `RestrictAddressFamilies`, or with
//! `ipv6.disable=1`.
//!
//! It has a process of its own, because the seccomp filter applies to every thread of the process.
//!
//! Argument: the family that is allowed. `inet`: of several addresses, the next one is used. `unix` and `netlink`: a
//! namespace is made, and its loopback is up.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use in_netns::NetNs;
use in_netns_tests::profiles::apply;
use nix::libc;
use seccompiler::{SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

pub(crate) fn main() {
    crate::rootless();
    let [inet, inet6, unix] = [libc::AF_INET, libc::AF_INET6, libc::AF_UNIX];
    match crate::arguments().next().as_deref() {
        Some("inet") => {
            forbid(&[inet6]);
            uses_the_next_address();
        }
        Some("unix") => {
            forbid(&[inet, inet6]);
            brings_the_loopback_up();
        }
        Some("netlink") => {
            forbid(&[inet, inet6, unix]);
            brings_the_loopback_up();
        }
        other => panic!("unknown family: {other:?}"),
    }
}

/// Forbids the creation of sockets of these families.
fn forbid(families: &[i32]) {
    let rule = |family: &i32| {
        let family = u64::from(family.unsigned_abs());
        let is_such = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, family).expect("a condition");
        SeccompRule::new(vec![is_such]).expect("a rule")
    };
    let rules = [(libc::SYS_socket, families.iter().map(rule).collect())].into();
    apply(rules, SeccompAction::Allow, SeccompAction::Errno(libc::EAFNOSUPPORT.unsigned_abs()));
}

fn brings_the_loopback_up() {
    /// `IFF_UP` of `linux/if.h`.
    const UP: u32 = 1;
    let ns = NetNs::new().expect("a namespace");
    let mut sysfs = ns.view().expect("a view").command("cat");
    let flags = sysfs.arg("/sys/class/net/lo/flags").output().expect("cat runs").stdout;
    let flags = String::from_utf8(flags).expect("text");
    let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).expect("a number");
    assert!(flags & UP != 0, "{flags:#x}");
}

fn uses_the_next_address() {
    let ns = NetNs::new().expect("a namespace");
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    let [six, four, other] = ["[::1]:80", "127.0.0.1:80", "127.0.0.1:81"].map(address);
    let is_missing = |error: io::Error| {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<in_netns::Error>());
        assert_eq!(inner.and_then(in_netns::Error::raw_os_error), Some(libc::EAFNOSUPPORT), "{error}");
        assert!(error.to_string().contains("seccomp filter"), "{error}");
    };

    // `std` is the reference.
    let bound = ns.run(|| TcpListener::bind(&[six, four][..])).expect("a call").expect("std uses the second address");
    assert_eq!(bound.local_addr().expect("it is bound"), four);
    drop(bound);
    ns.run(|| UdpSocket::bind(&[six, four][..])).expect("a call").expect("std uses the second address");

    let listener = ns.tcp_listen(&[six, four][..]).expect("the second address");
    assert_eq!(listener.local_addr().expect("it is bound"), four);
    let udp = ns.udp_bind(&[six, four][..]).expect("the second address");
    assert_eq!(udp.local_addr().expect("it is bound"), four);
    for addresses in [&[six, four][..], &[four, six], &[six, other, four], &[six, six, four]] {
        let stream = ns.tcp_connect(addresses).expect("one address answers");
        assert_eq!(stream.peer_addr().expect("it is connected"), four);
    }
    // The first one is in use, and the second has no family.
    let third = ns.tcp_listen(&[four, six, other][..]).expect("the third address");
    assert_eq!(third.local_addr().expect("it is bound"), other);
    drop(third);
    // The error is that of the last address.
    is_missing(ns.tcp_listen(six).expect_err("there is no such family"));
    is_missing(ns.tcp_listen(&[four, six][..]).expect_err("there is no such family"));
    is_missing(ns.udp_bind(six).expect_err("there is no such family"));
    is_missing(ns.tcp_connect(six).expect_err("there is no such family"));
    let in_use = ns.tcp_listen(&[six, four][..]).expect_err("it is in use");
    assert_eq!(in_use.kind(), io::ErrorKind::AddrInUse);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stream = ns.tcp_connect_async(vec![six, four]).await.expect("the second address");
        assert_eq!(stream.peer_addr().expect("it is connected"), four);
        let third = ns.tcp_listen_async(vec![four, six, other]).await.expect("the third address");
        assert_eq!(third.local_addr().expect("it is bound"), other);
        drop(udp);
        let udp = ns.udp_bind_async(vec![six, four]).await.expect("the second address");
        assert_eq!(udp.local_addr().expect("it is bound"), four);
        is_missing(ns.udp_bind_async(six).await.expect_err("there is no such family"));
        is_missing(ns.tcp_connect_async(six).await.expect_err("there is no such family"));
    });
}
