//! Literals that resemble a path of the process's network and are none: each compiles and runs.

use std::fs;
use std::process::Command;

use in_netns::in_netns;

#[test]
fn paths_of_the_threads_network_are_accepted() {
    #[in_netns(new)]
    fn f() -> usize {
        let id = std::process::id();
        let tables = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        assert!(fs::exists(format!("/proc/thread-self/{}", "net/dev")).unwrap());
        assert!(fs::exists(format!("/proc/{id}/net/dev")).unwrap());
        assert!(fs::exists("/proc/sys/net/ipv4/ip_forward").unwrap());
        assert!(fs::exists("/proc/thread-self/ns/net").unwrap());
        // There is only the loopback, below two lines of heading.
        tables.lines().count()
    }
    assert_eq!(f(), 3);
}

#[test]
fn paths_that_begin_alike_are_accepted() {
    #[in_netns(new)]
    fn f() -> usize {
        let paths = [
            "/proc/network",
            "/proc/net-dev",
            "/proc/netfilter/x",
            "/proc/self/network",
            "/proc/self/net_cls",
            "/proc/self/ns/net_for_children",
            "/sys/class/net_cls",
            "/sys/class/network/eth0",
            "/sys/class",
            "/proc",
            "/proc/self",
            "proc/net/dev",
            "/srv/proc/net/dev",
            "a path: /proc/net/dev",
            "/proc/net: a heading",
            "/proc/1/net/dev",
            "/proc/net/../self/status",
            "/home/sys/class/net",
            "/proc/../srv/net",
        ];
        paths.len() + [b"/proc/network\0".len(), c"/sys/class/netx".count_bytes()].len()
    }
    assert_eq!(f(), 21);
}

#[test]
fn documentation_and_other_attributes_are_accepted() {
    #[in_netns(new)]
    fn f() -> &'static str {
        /// /proc/net/dev
        #[doc = "/proc/net/dev"]
        #[must_use = "/proc/net/dev"]
        #[allow(clippy::items_after_statements, clippy::mixed_attributes_style, reason = "/sys/class/net")]
        #[cfg_attr(all(), doc = "/proc/self/net")]
        fn inner() -> &'static str {
            //! /proc/net/dev
            "inner"
        }
        #[expect(dead_code, reason = "/proc/net/dev")]
        struct Documented {
            /// /sys/class/net
            field: u8,
        }
        // /proc/net/dev
        inner()
    }
    assert_eq!(f(), "inner");
}

/// The leader of a child process was started inside, and `/proc/self` in the child refers to the child.
#[test]
fn arguments_of_a_child_process_are_accepted() {
    #[in_netns(new)]
    fn f() -> String {
        let one = Command::new("cat").arg("/proc/net/dev").output().unwrap().stdout;
        let two = Command::new("cat").args(["/proc/self/net/dev", "/proc/net/dev"]).output().unwrap().stdout;
        assert_eq!(String::from_utf8(two).unwrap().lines().count(), 6);
        String::from_utf8(one).unwrap()
    }
    // There is only the loopback, below two lines of heading.
    assert_eq!(f().lines().count(), 3);
}

#[test]
fn the_check_is_overridden() {
    #[in_netns(new, allow(process_network))]
    fn f() -> bool {
        fs::exists("/proc/net/dev").unwrap()
    }
    #[in_netns(new, allow(handover, process_network))]
    fn g() -> bool {
        fs::exists("/sys/class/net").unwrap() && rayon::max_num_threads() > 0
    }
    assert!(f());
    assert!(g());
}

/// Only the body is checked.
#[test]
fn paths_outside_of_the_body_are_accepted() {
    struct Label<const LENGTH: usize>;

    #[in_netns(labelled("/proc/net/dev"))]
    fn f(label: Label<{ "/proc/net/dev".len() }>) -> usize {
        let Label = label;
        1
    }
    fn labelled(_: &str) -> in_netns::NetNs {
        in_netns::NetNs::new().unwrap()
    }
    assert_eq!(f(Label), 1);
}
