//! A hundred tests, each in a namespace of its own: the purpose of `#[test] #[in_netns(new)]`.
//!
//! Run it as root and as an ordinary user, in parallel, as the test harness does.

use std::process::Command;

use in_netns_tests::{mount_table, tasks_in, wait_until};

mod own {
    use std::fs;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use in_netns::NetNs;

    /// The body of each test: it binds port 80, and sees no other process on it.
    fn has_port_80_to_itself(name: &str) {
        let netns = NetNs::current().unwrap();
        println!("namespace={netns}");
        let interfaces = net_file("dev");
        let interfaces: Vec<&str> =
            interfaces.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim())).collect();
        assert_eq!(interfaces, ["lo"]);
        for protocol in ["tcp", "tcp6", "udp", "udp6", "unix"] {
            assert_eq!(net_file(protocol).lines().nth(1), None, "{protocol}");
        }

        for address in ["127.0.0.1:80", "[::1]:80"] {
            let datagrams = UdpSocket::bind(address).unwrap();
            datagrams.send_to(name.as_bytes(), address).unwrap();
            let mut received = [0; 16];
            let (length, from) = datagrams.recv_from(&mut received).unwrap();
            assert_eq!((&received[..length], from), (name.as_bytes(), address.parse().unwrap()));

            let listener = TcpListener::bind(address).unwrap();
            let mut client = TcpStream::connect(address).unwrap();
            client.write_all(name.as_bytes()).unwrap();
            drop(client);
            let mut received = String::new();
            listener.accept().unwrap().0.read_to_string(&mut received).unwrap();
            assert_eq!(received, name);
        }
        assert!(netns.is_current().unwrap());
    }

    fn net_file(name: &str) -> String {
        fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap()
    }

    macro_rules! ten {
        ($($tens:ident)*) => { $( mod $tens { ten!(one $tens: n0 n1 n2 n3 n4 n5 n6 n7 n8 n9); } )* };
        (one $tens:ident: $($name:ident)*) => { $(
            #[test]
            #[in_netns::in_netns(new)]
            fn $name() {
                super::has_port_80_to_itself(concat!(stringify!($tens), stringify!($name)));
            }
        )* };
    }

    ten!(t0 t1 t2 t3 t4 t5 t6 t7 t8 t9);
}

/// Runs the hundred tests in a separate process.
fn the_hundred() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["own_namespace::own::", "--nocapture"]).env_remove("RUST_TEST_THREADS");
    command
}

/// The namespaces that a run of the hundred tests has printed.
fn namespaces_in(output: &str) -> Vec<String> {
    output.lines().filter_map(|line| Some(line.split_once("namespace=")?.1.to_owned())).collect()
}

/// Asserts that no task is in the namespaces and that no mount shows them.
fn assert_gone(namespaces: &[String]) {
    for namespace in namespaces {
        wait_until("the end of its tasks", || tasks_in("net", namespace) == 0);
        assert!(!mount_table("self").contains(namespace.as_str()));
    }
}

#[test]
fn nothing_is_left_after_a_hundred() {
    let output = in_netns_tests::output_of(&mut the_hundred());
    assert!(output.contains("test result: ok. 100 passed"), "{output}");
    let namespaces = namespaces_in(&output);
    assert_eq!(namespaces.len(), 100);
    assert_gone(&namespaces);
}

#[test]
fn nothing_is_left_after_a_kill_half_way() {
    let (mut child, output) = in_netns_tests::start_until(the_hundred().arg("--test-threads=2"), "namespace=");
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(!status.success() && status.code().is_none(), "it was to be killed: {status}");
    assert_gone(&namespaces_in(&output));
}
