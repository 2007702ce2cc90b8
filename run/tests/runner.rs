//! The runner, as root and as an ordinary user. (Without `rootless!`: it is the runner that needs no root.)
#![allow(missing_docs)]

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const NOBODY: u32 = 65534;

/// The runner, and this test binary, where every user can read them.
struct Programs(PathBuf);

impl Programs {
    fn new(name: &str) -> Programs {
        let directory = std::env::temp_dir().join(format!("in-netns-run-{}-{name}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        copy(Path::new(env!("CARGO_BIN_EXE_in-netns-run")), &directory.join("in-netns-run"));
        copy(&std::env::current_exe().unwrap(), &directory.join("tests"));
        Programs(directory)
    }

    fn runner(&self) -> Command {
        let mut command = Command::new(self.0.join("in-netns-run"));
        // Directories that an ordinary user cannot read would change what a missing command is.
        command.current_dir("/").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    fn runner_of_ordinary_user(&self) -> Command {
        let mut command = self.runner();
        if nix::unistd::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// As the user of the tests, and as an ordinary user.
    fn each(&self, check: impl Fn(&dyn Fn() -> Command)) {
        check(&|| self.runner());
        check(&|| self.runner_of_ordinary_user());
    }
}

/// Has another process make the copy. If this process had the file open for writing, a program that another test starts
/// at the same moment would inherit the descriptor, and running the copy would fail (`ETXTBSY`).
fn copy(program: &Path, to: &Path) {
    let copied = Command::new("install").args(["-m", "755"]).args([program, to]).status().unwrap();
    assert!(copied.success());
}

impl Drop for Programs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn shell<'c>(runner: &'c mut Command, script: &str) -> &'c mut Command {
    runner.args(["sh", "-c", script])
}

#[track_caller]
fn text(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn namespace(kind: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string()
}

/// Run by the runner, not by libtest.
#[test]
#[ignore = "it is to run in a namespace of its own"]
fn inside() {
    let listener = TcpListener::bind("127.0.0.1:80").unwrap();
    let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert_eq!(stream.peer_addr().unwrap().port(), 80);
    TcpListener::bind("[::1]:80").unwrap();
    let devices = fs::read_to_string("/proc/net/dev").unwrap();
    assert_eq!(devices.lines().filter(|line| line.contains(':')).count(), devices.matches("lo:").count(), "{devices}");
    let (user, group) = (std::env::var("USER_ID").unwrap(), std::env::var("GROUP_ID").unwrap());
    assert_eq!(user, nix::unistd::geteuid().to_string());
    assert_eq!(group, nix::unistd::getegid().to_string());
    // The library, too: names, and namespaces below.
    let name = format!("in-netns-run-{}", std::process::id());
    let ns = in_netns::NetNs::create_named(&name).unwrap();
    assert!(in_netns::with_netns(&ns, || TcpListener::bind("127.0.0.1:80")).unwrap().is_ok());
    in_netns::NetNs::delete_named(&name).unwrap();
}

#[test]
fn a_test_binary_has_a_network_of_its_own_and_the_same_user() {
    let programs = Programs::new("binary");
    programs.each(|runner| {
        let ids = text(runner().args(["sh", "-c", "id -u; id -g"]).output().unwrap());
        let (user, group) = ids.trim().split_once('\n').unwrap();
        let output = runner()
            .arg(programs.0.join("tests"))
            .args(["--exact", "inside", "--ignored", "--nocapture"])
            .env("USER_ID", user)
            .env("GROUP_ID", group)
            .output()
            .unwrap();
        assert!(text(output).contains("1 passed"));
    });
    let id = |mut runner: Command| text(runner.args(["id", "-u"]).output().unwrap()).trim().to_owned();
    assert_eq!(id(programs.runner()), nix::unistd::geteuid().to_string());
    if nix::unistd::geteuid().is_root() {
        assert_eq!(id(programs.runner_of_ordinary_user()), NOBODY.to_string());
    }
}

#[test]
fn each_run_has_another_namespace() {
    let programs = Programs::new("another");
    programs.each(|runner| {
        let network = || text(runner().args(["readlink", "/proc/self/ns/net"]).output().unwrap()).trim().to_owned();
        let (one, other) = (network(), network());
        assert!(one.starts_with("net:[") && one != namespace("net") && other != namespace("net"), "{one} {other}");
    });
}

#[test]
fn the_exit_status_and_the_end_by_a_signal_are_the_commands() {
    let programs = Programs::new("status");
    programs.each(|runner| {
        for status in [0, 1, 42, 255] {
            let script = format!("exit {status}");
            assert_eq!(shell(&mut runner(), &script).status().unwrap().code(), Some(status));
        }
        assert_eq!(shell(&mut runner(), "kill -TERM $$").status().unwrap().signal(), Some(15));
        // A signal to the process that was started reaches the command.
        let script = "trap 'exit 7' USR1; echo ready; while :; do read -r line || exit 8; done";
        let mut child = shell(&mut runner(), script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
        let kill = Command::new("kill").args(["-USR1", &child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        assert_eq!(child.wait().unwrap().code(), Some(7));
    });
}

#[test]
fn the_process_id_the_streams_and_the_arguments_are_the_commands() {
    let programs = Programs::new("streams");
    programs.each(|runner| {
        let mut child = shell(&mut runner(), "echo $$; cat; echo to stderr >&2")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(b"from stdin").unwrap();
        let id = child.id();
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "to stderr\n");
        assert_eq!(text(output), format!("{id}\nfrom stdin"));
        let arguments = ["printf", "%s|", "--help", "a b", "", "*"];
        assert_eq!(text(runner().arg("--").args(arguments).output().unwrap()), "--help|a b||*|");
        assert_eq!(text(runner().args(arguments).output().unwrap()), "--help|a b||*|");
    });
}

#[test]
fn what_cannot_be_run_is_an_error_that_says_why() {
    let programs = Programs::new("errors");
    let not_executable = programs.0.join("text");
    fs::write(&not_executable, "text").unwrap();
    programs.each(|runner| {
        let check = |arguments: &[&str], status, part: &str| {
            let output = runner().args(arguments).output().unwrap();
            let message = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(status), "{message}");
            assert!(message.starts_with("in-netns-run: ") && message.contains(part), "{message}");
        };
        check(&["no-such-command"], 127, "no-such-command");
        check(&[not_executable.to_str().unwrap()], 126, "text");
        check(&[], 125, "--help");
        check(&["--no-such-option", "true"], 125, "--no-such-option");
        assert!(text(runner().arg("--help").output().unwrap()).contains("Usage: in-netns-run"));
        assert!(text(runner().arg("--version").output().unwrap()).starts_with("in-netns-run 0."));
    });
}

#[test]
fn the_exit_status_is_the_same_where_nothing_can_be_written() {
    let programs = Programs::new("full");
    let full = || fs::File::options().write(true).open("/dev/full").unwrap();
    programs.each(|runner| {
        let status = |argument: &str| runner().arg(argument).stdout(full()).stderr(full()).status().unwrap().code();
        assert_eq!(status("no-such-command"), Some(127));
        assert_eq!(status("--no-such-option"), Some(125));
        assert_eq!(status("--help"), Some(125));
        assert_eq!(status("--version"), Some(125));
    });
}

/// Nothing but the command writes to its streams, also where the network does not belong to the user namespace.
#[test]
fn nothing_is_written_where_the_process_could_not_go_back() {
    let programs = Programs::new("quiet");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--"])
        .arg(programs.0.join("in-netns-run"))
        .args(["readlink", "/proc/self/ns/net"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success());
    assert_ne!(String::from_utf8(output.stdout).unwrap().trim_end(), namespace("net"));
}

/// Without any user namespace there is no way for an ordinary user: the message says what is missing.
#[test]
fn a_refusal_names_what_is_missing() {
    let programs = Programs::new("refusal");
    // In a user namespace whose limit of user namespaces is none, and without its capabilities.
    let script = "echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all \
                  --no-new-privs -- \"$@\"";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--", "sh", "-c", script, "sh"])
        .arg(programs.0.join("in-netns-run"))
        .arg("true")
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{message}");
    assert!(message.contains("user.max_user_namespaces"), "{message}");
}

/// The runner tries a user namespace in a child process first.
#[test]
fn a_refusal_for_want_of_processes_names_that_limit() {
    let programs = Programs::new("processes");
    let runner = programs.runner_of_ordinary_user();
    let mut command = Command::new("prlimit");
    command.args(["--nproc=0:0", "--"]).arg(runner.get_program()).arg("true").current_dir("/");
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{message}");
    assert!(message.contains("`ulimit -u` (RLIMIT_NPROC)") && !message.contains("security module"), "{message}");
}

/// Of the command, what `/proc/self/status` says.
#[track_caller]
fn status_of_command(runner: &mut Command, line: &str) -> u64 {
    let line = text(runner.args(["grep", line, "/proc/self/status"]).output().unwrap());
    u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
}

/// The runner, as the command of `env(1)` with an option.
fn runner_below(runner: &Command, option: &str) -> Command {
    let mut command = Command::new("env");
    command.current_dir("/").arg(option).arg(runner.get_program());
    command
}

/// As with `env(1)` and `nsenter(1)`, which change neither.
#[test]
fn ignored_and_blocked_signals_are_inherited() {
    // SIGPIPE is 13, and SIGUSR1 is 10.
    let (pipe, user) = (1 << 12, 1 << 9);
    let programs = Programs::new("signals");
    assert_eq!(status_of_command(&mut programs.runner(), "SigIgn") & pipe, 0);
    assert_eq!(status_of_command(&mut programs.runner(), "SigBlk") & user, 0);
    let mut ignoring = runner_below(&programs.runner(), "--ignore-signal=PIPE");
    assert_eq!(status_of_command(&mut ignoring, "SigIgn") & pipe, pipe);
    let mut blocking = runner_below(&programs.runner(), "--block-signal=USR1");
    assert_eq!(status_of_command(&mut blocking, "SigBlk") & user, user);
}

#[test]
fn a_stream_that_is_closed_is_closed_in_the_command() {
    let programs = Programs::new("closed");
    for (stream, redirection) in [(0, "<&-"), (1, ">&-"), (2, "2>&-")] {
        let inside = format!("test ! -e /proc/self/fd/{stream}");
        let script = format!("exec \"$0\" sh -c '{inside}' {redirection}");
        let program = programs.runner().get_program().to_owned();
        let status = Command::new("sh").arg("-c").arg(script).arg(program).status().unwrap();
        assert!(status.success(), "stream {stream}: {status}");
    }
    // The others are open.
    let script = "exec \"$0\" sh -c 'readlink /proc/self/fd/0; echo also >&2' <&-";
    let output = Command::new("sh").args(["-c", script]).arg(programs.runner().get_program()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "also\n");
}
