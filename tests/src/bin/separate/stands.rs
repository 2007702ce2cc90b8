//! A process that changes nothing about itself, and prints its privileges and what the crate reports about them.
//!
//! The arguments are processed in order:
//!
//! - `thread`: starts a thread that stays
//! - `enter`: calls `rootless::enter`
//! - `filter-unshare`, `filter-unshare-enosys`: installs a seccomp filter that refuses `unshare(2)` with `EPERM`,
//!   with `ENOSYS`
//! - `filter-user`: installs one that refuses it for user namespaces only
//! - `filter-setns`, `filter-setns-enosys`: installs one that refuses `setns(2)` with `EPERM`, with `ENOSYS`
//! - `filter-mount-enosys`: installs one that refuses `mount(2)` with `ENOSYS`
//! - `change-user`: becomes another user, without capabilities
//! - `create NAME`, `delete NAME`: creates or deletes a name
//! - `create-in DIRECTORY`: creates a name in a directory other than that of `ip netns`
//! - `view-of NAME`: creates a name, and makes a view of its namespace
//! - `watch-and-create NAME`: creates a name, and waits for the event
//! - `from-pid PID`, `from-path PATH`: looks for the namespace of a process, or behind a path
#![allow(clippy::print_stdout)]

use std::error::Error;

use in_netns::{Names, NetNs, WatchEvent};
use in_netns_tests::profiles;
use seccompiler::{SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = crate::arguments();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "thread" => drop(std::thread::spawn(std::thread::park)),
            "enter" => match in_netns::rootless::enter() {
                Ok(entry) => println!("enter={entry:?}"),
                Err(error) => println!("enter={:?} {error}", error.kind()),
            },
            "filter-unshare" => refuse(libc::SYS_unshare, &[], libc::EPERM)?,
            "filter-unshare-enosys" => refuse(libc::SYS_unshare, &[], libc::ENOSYS)?,
            "filter-user" => refuse(libc::SYS_unshare, &[libc::CLONE_NEWUSER], libc::EPERM)?,
            "filter-setns" => refuse(libc::SYS_setns, &[], libc::EPERM)?,
            "filter-setns-enosys" => refuse(libc::SYS_setns, &[], libc::ENOSYS)?,
            "filter-mount-enosys" => refuse(libc::SYS_mount, &[], libc::ENOSYS)?,
            "create" => match NetNs::create_named(&arguments.next().ok_or("create takes a name")?) {
                Ok(_) => println!("create=done"),
                Err(error) => println!("create={:?} {error}", error.kind()),
            },
            "delete" => match NetNs::delete_named(&arguments.next().ok_or("delete takes a name")?) {
                Ok(()) => println!("delete=done"),
                Err(error) => println!("delete={:?} {error}", error.kind()),
            },
            "create-in" => match Names::at(arguments.next().ok_or("create-in takes a directory")?).create("blue") {
                Ok(_) => println!("create_in=done"),
                Err(error) => println!("create_in={:?} {error}", error.kind()),
            },
            "view-of" => match NetNs::create_named(&arguments.next().ok_or("view-of takes a name")?)?.view() {
                Ok(_) => println!("view_of=made"),
                Err(error) => println!("view_of={:?} {error}", error.kind()),
            },
            "watch-and-create" => match watch_and_create(&arguments.next().ok_or("watch-and-create takes a name")?) {
                Ok(created) => println!("watch=created {created}"),
                Err(error) => println!("watch={:?} {error}", error.kind()),
            },
            "from-path" => match NetNs::from_path(arguments.next().ok_or("from-path takes a path")?) {
                Ok(ns) => println!("from_path={ns}"),
                Err(error) => println!("from_path={:?} {error}", error.kind()),
            },
            "change-user" => {
                nix::unistd::setgid(nix::unistd::Gid::from_raw(65534))?;
                nix::unistd::setuid(nix::unistd::Uid::from_raw(65534))?;
            }
            "from-pid" => match NetNs::from_pid(arguments.next().ok_or("from-pid takes a number")?.parse()?) {
                Ok(ns) => println!("from_pid={ns}"),
                Err(error) => println!("from_pid={:?} {error}", error.kind()),
            },
            other => return Err(format!("what is {other}?").into()),
        }
    }
    in_netns_tests::print_namespaces();
    let privileges = in_netns::privileges();
    println!("make={} enter={} back={}", privileges.can_make(), privileges.can_enter(), privileges.can_go_back());
    println!("cause={:?}", privileges.cause());
    println!("privileges={privileges}");
    match NetNs::new() {
        Ok(_) => println!("new=made"),
        Err(error) => println!("new={:?} {error}", error.kind()),
    }
    match NetNs::current()?.view() {
        Ok(_) => println!("view=made"),
        Err(error) => println!("view={:?} {error}", error.kind()),
    }
    match in_netns::with_netns("/proc/self/ns/net", || println!("body was run")) {
        Ok(()) => println!("with=entered"),
        Err(error) => println!("with={:?} {error}", error.kind()),
    }
    Ok(())
}

/// Refuses a syscall if its first argument has these flags.
fn refuse(syscall: libc::c_long, flags: &[libc::c_int], errno: libc::c_int) -> Result<(), Box<dyn Error>> {
    let mut rules = Vec::new();
    for flag in flags {
        let flag = u64::from(u32::from_ne_bytes(flag.to_ne_bytes()));
        let has_flag = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(flag), flag)?;
        rules.push(SeccompRule::new(vec![has_flag])?);
    }
    let refuse = SeccompAction::Errno(errno.unsigned_abs());
    profiles::apply_here([(syscall, rules)].into(), SeccompAction::Allow, refuse);
    Ok(())
}

/// The name in the first event.
fn watch_and_create(name: &str) -> Result<String, in_netns::Error> {
    let mut watch = NetNs::watch()?.1;
    NetNs::create_named(name)?;
    loop {
        if let Some(WatchEvent::Created { name, .. }) = watch.next().transpose()? {
            return Ok(name);
        }
    }
}
