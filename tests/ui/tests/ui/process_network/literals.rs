//! Every form of a string literal, and every path that shows another thread's network.

use in_netns::in_netns;

#[in_netns("blue")]
fn paths() {
    let _ = "/proc/net";
    let _ = "/proc/net/dev";
    let _ = "/proc/self/net";
    let _ = "/proc/self/net/tcp6";
    let _ = "/proc/self/ns/net";
    let _ = "/sys/class/net";
    let _ = "/sys/class/net/eth0/mtu";
    let _ = "/sys/devices/virtual/net/lo";
}

#[in_netns("blue")]
fn forms() {
    let _ = r"/proc/net/dev";
    let _ = r#"/proc/net/dev"#;
    let _ = b"/proc/net/dev\0";
    let _ = br"/proc/net/dev";
    let _ = c"/proc/net/dev";
    let _ = cr"/sys/class/net";
    let _ = b"/proc/self/net\0";
    let _ = "\x2fproc/net/dev";
}

#[in_netns("blue")]
fn other_ways_to_write_a_path() {
    let _ = "//proc//net/dev";
    let _ = "/proc/./net/dev";
    let _ = "/proc/self/task/../net/dev";
    let _ = "/sys/class/../class/net";
    let _ = "/proc/net/";
}

#[in_netns("blue")]
fn positions(path: &str) -> std::io::Result<String> {
    const TABLE: &str = "/proc/net/route";
    static LIST: [&str; 2] = ["/proc/net/arp", "/etc/hosts"];
    fn nested() -> &'static str {
        "/proc/net/unix"
    }
    let closure = || std::path::Path::new("/proc/net/udp");
    if path == "/sys/class/net" {
        return Ok(String::new());
    }
    match path {
        "/proc/net/raw" => {}
        _ => {}
    }
    drop((TABLE, LIST, nested(), closure()));
    std::fs::read_to_string("/proc/net/dev")
}

#[in_netns("blue")]
#[cfg(not(test))]
fn under_another_attribute() -> &'static str {
    #[cfg(debug_assertions)]
    return "/proc/net/dev";
    #[cfg(not(debug_assertions))]
    return "/proc/self/net/dev";
}

/// The compiler reads these files, at home.
#[in_netns("blue")]
fn at_compile_time() -> usize {
    include_str!("/proc/net/protocols").len() + std::include_bytes!("/proc/self/net/protocols").len()
}

fn main() {}
