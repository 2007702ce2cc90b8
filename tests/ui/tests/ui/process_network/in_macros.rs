//! In the arguments of macros, format strings among them.

use in_netns::in_netns;

#[in_netns("blue")]
fn formats(table: &str, name: &str) {
    println!("/proc/net/{}", table);
    let _ = format!("/proc/self/net/{}", table);
    let _ = format!("/sys/class/net/{name}");
    let _ = format!("/sys/class/net{}", table);
    let _ = vec!["/proc/net/dev"];
    assert_eq!(std::fs::read_to_string("/proc/net/dev").unwrap(), "");
}

#[in_netns("blue")]
fn concatenated() {
    let _ = concat!("/proc/net/", "dev");
    let _ = concat!("/proc", "/net/dev");
    let _ = std::concat!("/sys/", "class/", "net");
}

#[in_netns("blue")]
fn a_child_has_a_proc_of_its_own_but_the_same_sysfs() {
    let _ = std::process::Command::new("ls").arg("/sys/class/net");
}

fn main() {}
