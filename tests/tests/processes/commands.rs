//! Processes that are started in a namespace.

use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use in_netns::{ErrorKind as Kind, NetNs};
use in_netns_tests::{Scratch, here, home, is_running, key, separate, threads, threads_in, tid, wait_until};
use nix::sched::{CloneFlags, unshare};

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

fn namespace_of(process: u32) -> (u64, u64) {
    let file = nix::sys::stat::stat(format!("/proc/{process}/ns/net").as_str()).unwrap();
    (file.st_dev, file.st_ino)
}

fn end(mut child: Child) {
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
}

#[test]
fn a_process_is_inside_and_its_parent_is_at_home() {
    let ns = NetNs::new().unwrap();
    let child = ns.command("sleep").arg("1000").spawn().unwrap();
    assert_eq!(namespace_of(child.id()), key(ns.id()));
    assert_eq!(threads_in(&ns), [] as [u32; 0]);
    assert_eq!(here(), home());
    end(child);
}

#[test]
fn the_first_instruction_of_the_program_is_inside() {
    let ns = NetNs::new().unwrap();
    let output = ns.command("readlink").arg("/proc/self/ns/net").output().unwrap();
    assert!(output.status.success());
    assert_eq!(text(output.stdout).trim_end(), ns.to_string());
    // What it is, and not only what it is called.
    let output = ns.command("cat").arg("/proc/net/dev").output().unwrap();
    assert_eq!(text(output.stdout).lines().count(), 3);
}

#[test]
fn the_caller_never_moves() {
    let ns = NetNs::new().unwrap();
    let caller = tid();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let done = &done;
        let watcher = scope.spawn(move || {
            let mut looks = 0;
            while !done.load(Ordering::Relaxed) {
                assert_eq!(threads()[&caller], home());
                looks += 1;
            }
            looks
        });
        for _ in 0..30 {
            assert!(ns.command("true").status().unwrap().success());
        }
        done.store(true, Ordering::Relaxed);
        assert!(watcher.join().unwrap() > 10);
    });
}

#[test]
fn standard_streams_are_the_callers_to_set() {
    let ns = NetNs::new().unwrap();
    let mut command = ns.command("sh");
    command.args(["-c", "read line; echo \"got $line\"; echo problem >&2"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"text\n").unwrap();
    let mut printed = String::new();
    child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    assert_eq!(printed, "got text\n");
    child.stderr.take().unwrap().read_to_string(&mut printed).unwrap();
    assert_eq!(printed, "got text\nproblem\n");
    assert!(child.wait().unwrap().success());

    // Into a file, and from another process.
    let scratch = Scratch::new();
    let path = scratch.path().join("printed");
    let mut first = ns.command("echo").arg("one").stdout(Stdio::piped()).spawn().unwrap();
    let file = fs::File::create(&path).unwrap();
    assert!(ns.command("cat").stdin(first.stdout.take().unwrap()).stdout(file).status().unwrap().success());
    assert!(first.wait().unwrap().success());
    assert_eq!(fs::read_to_string(path).unwrap(), "one\n");
}

#[test]
fn the_output_is_captured_unless_a_stream_was_set_and_later_starts_inherit_again() {
    let ns = NetNs::new().unwrap();
    let mut command = ns.command("sh");
    // Standard input is empty, so that this ends.
    command.args(["-c", "cat; echo out; echo error >&2; exit 3"]);
    for _ in 0..2 {
        let output = command.output().unwrap();
        assert_eq!((text(output.stdout).as_str(), text(output.stderr).as_str()), ("out\n", "error\n"));
        assert_eq!(output.status.code(), Some(3));
    }
    let output = command.stderr(Stdio::null()).output().unwrap();
    assert_eq!((text(output.stdout).as_str(), output.stderr.len()), ("out\n", 0));

    let mut command = ns.command("sleep");
    command.arg("0").output().unwrap();
    let child = command.arg("1000").spawn().unwrap();
    for stream in 0..3 {
        let of = |process: u32| fs::read_link(format!("/proc/{process}/fd/{stream}")).unwrap();
        assert_eq!(of(child.id()), of(std::process::id()));
    }
    end(child);
}

#[test]
fn a_status_is_the_programs_own() {
    let ns = NetNs::new().unwrap();
    assert!(ns.command("true").status().unwrap().success());
    assert_eq!(ns.command("sh").args(["-c", "exit 42"]).status().unwrap().code(), Some(42));
    assert_eq!(ns.command("sh").args(["-c", "kill -TERM $$"]).status().unwrap().signal(), Some(libc::SIGTERM));
}

#[test]
fn the_environment_is_that_of_this_process_with_the_changes() {
    let ns = NetNs::new().unwrap();
    let mut command = ns.command("/usr/bin/env");
    command.env("ONE", "1").env("TWO", "2").envs([("THREE", "3"), ("FOUR", "4")]).env_remove("TWO");
    let environment = |output: Vec<u8>| text(output).lines().map(str::to_owned).collect::<Vec<_>>();
    let printed = environment(command.output().unwrap().stdout);
    for (variable, there) in [("ONE=1", true), ("TWO=2", false), ("THREE=3", true), ("FOUR=4", true)] {
        assert_eq!(printed.iter().any(|line| line == variable), there, "{variable}");
    }
    assert!(printed.iter().any(|line| line.starts_with("PATH=")));
    let printed = environment(command.env_clear().env("ONLY", "this").output().unwrap().stdout);
    assert_eq!(printed, ["ONLY=this"]);
    let set: Vec<_> = command.get_envs().collect();
    assert_eq!(set, [(OsStr::new("ONLY"), Some(OsStr::new("this")))]);
}

#[test]
fn the_working_directory_is_that_of_this_process_or_the_one_that_was_set() {
    let ns = NetNs::new().unwrap();
    let mut command = ns.command("readlink");
    let directory = |output: Vec<u8>| text(output).trim_end().to_owned();
    let here = fs::canonicalize(".").unwrap();
    assert_eq!(Path::new(&directory(command.arg("/proc/self/cwd").output().unwrap().stdout)), here);
    assert_eq!(directory(command.current_dir("/usr").output().unwrap().stdout), "/usr");
    assert_eq!(command.get_current_dir(), Some(Path::new("/usr")));
}

#[test]
fn what_unix_adds_is_there() {
    let ns = NetNs::new().unwrap();
    let mut command = ns.command("sh");
    let output = command.arg0("called-so").args(["-c", "echo $0"]).output().unwrap();
    assert_eq!(text(output.stdout), "called-so\n");
    let child = ns.command("sleep").arg("1000").process_group(0).spawn().unwrap();
    let group = nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(child.id().try_into().unwrap()))).unwrap();
    assert_eq!(group.as_raw().unsigned_abs(), child.id());
    end(child);
    // 0 is mapped as an ordinary user too, in the user namespace of the test.
    let output = ns.command("id").args(["-u"]).uid(0).gid(0).output().unwrap();
    assert_eq!(text(output.stdout), "0\n");
    assert!(ns.command("true").uid(4_000_000_000).status().is_err() || nix::unistd::geteuid().is_root());
}

#[test]
fn what_has_no_method_is_set_on_the_command_of_std() {
    let ns = NetNs::new().unwrap();
    let mut command = ns.command("readlink");
    command.arg("/proc/self/ns/net");
    // SAFETY: the closure makes one system call, and allocates nothing.
    #[allow(unsafe_code)]
    unsafe {
        command.as_std_mut().pre_exec(|| {
            nix::unistd::setsid()?;
            Ok(())
        });
    }
    assert_eq!(text(command.output().unwrap().stdout).trim_end(), ns.to_string());
    assert_eq!(command.get_program(), "readlink");
    assert_eq!(command.get_args().collect::<Vec<_>>(), ["/proc/self/ns/net"]);
    let printed = format!("{command:?}");
    assert!(printed.contains(&ns.to_string()) && printed.contains("readlink"), "{printed}");
}

#[test]
fn a_program_that_cannot_be_started_is_named_and_so_is_the_namespace() {
    let ns = NetNs::new().unwrap();
    let scratch = Scratch::new();
    let data = scratch.path().join("data");
    fs::write(&data, "not a program").unwrap();
    let script = scratch.path().join("script");
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    std::process::Command::new("chmod").arg("755").arg(&script).status().unwrap();
    let not_executable = [(data.as_path(), ErrorKind::PermissionDenied)];
    // A directory of `PATH` that is closed to this user makes it another kind.
    let missing = ["/no/such/program", "no-such-program"]
        .map(|program| (Path::new(program), std::process::Command::new(program).spawn().unwrap_err().kind()));
    for (program, kind) in missing.into_iter().chain(not_executable).chain([(&*script, ErrorKind::NotFound)]) {
        // With and without something to be done between fork and exec.
        for mut command in [ns.command(program), {
            let mut forked = ns.command(program);
            forked.gid(0);
            forked
        }] {
            let error = command.spawn().unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            let message = error.to_string();
            assert!(message.contains(program.to_str().unwrap()) && message.contains(&ns.to_string()), "{message}");
            let inner = error.into_inner().unwrap().downcast::<in_netns::Error>().unwrap();
            assert!(inner.raw_os_error().is_some());
        }
    }
    let error = ns.command("true").current_dir("/no/such/directory").status().unwrap_err();
    assert!(error.to_string().contains("the working directory /no/such/directory does not exist"), "{error}");
    let empty = scratch.path().join("empty");
    fs::write(&empty, "").unwrap();
    std::process::Command::new("chmod").arg("755").arg(&empty).status().unwrap();
    let long = "x".repeat(200_000);
    let below_file = data.join("below");
    let no_directory = |path: &Path| {
        format!("the working directory {} is a file, or a part of its path is, where a directory", path.display())
    };
    let (file, below) = (no_directory(&data), no_directory(&below_file));
    let causes = [
        (ns.command("true").current_dir(&data).spawn(), &*file),
        (ns.command("true").current_dir(&below_file).spawn(), &*below),
        (ns.command("true").uid(u32::MAX).spawn(), "this user namespace does not map"),
        (ns.command(data.join("below")).spawn(), "a part of the path of the program is a file"),
        (ns.command("true").process_group(-5).spawn(), "the process group, the signal, or the id"),
        (ns.command("true").process_group(i32::MAX).spawn(), "a process group that this session does not have"),
        (ns.command("true").parent_death_signal(999).spawn(), "the process group, the signal, or the id"),
        (ns.command(&empty).spawn(), "names its interpreter"),
        (ns.command("true").arg(&long).spawn(), "`ulimit -s`"),
        (
            {
                let _writer = fs::File::options().append(true).open(&empty).unwrap();
                ns.command(&empty).spawn()
            },
            "open for writing",
        ),
    ];
    for (started, cause) in causes {
        let error = started.unwrap_err();
        assert!(error.to_string().contains(cause), "{error}");
    }
    let error = ns.command("nul\0inside").status().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("nul byte"), "{error}");
    wait_until("no process is left", || !has_children_named("true"));
}

fn has_children_named(name: &str) -> bool {
    threads().into_keys().any(|thread| {
        let children = fs::read_to_string(format!("/proc/self/task/{thread}/children")).unwrap_or_default();
        children
            .split_whitespace()
            .any(|id| fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|comm| comm.trim_end() == name))
    })
}

#[test]
fn a_command_can_be_started_again_from_any_thread() {
    let ns = NetNs::new().unwrap();
    let mut command = ns.command("readlink");
    command.arg("/proc/self/ns/net");
    for _ in 0..3 {
        let (output, back) = thread::spawn(move || (command.output().unwrap(), command)).join().unwrap();
        assert_eq!(text(output.stdout).trim_end(), ns.to_string());
        command = back;
    }
}

#[test]
fn a_body_starts_processes_in_other_namespaces() {
    let (one, other) = (NetNs::new().unwrap(), NetNs::new().unwrap());
    let output = one.run(|| other.command("readlink").arg("/proc/self/ns/net").output().unwrap()).unwrap();
    assert_eq!(text(output.stdout).trim_end(), other.to_string());
}

#[test]
fn no_descriptor_of_the_crate_is_inherited() {
    let ns = NetNs::new().unwrap();
    let output = ns.command("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    let open = text(output.stdout);
    assert!(!open.contains("net:[") && !open.contains("pidfd"), "{open}");
}

#[test]
fn a_caller_with_descriptors_of_its_own_is_told_so() {
    let ns = NetNs::new().unwrap();
    let error = thread::spawn(move || {
        unshare(CloneFlags::CLONE_FILES).unwrap();
        ns.command("true").stdin(Stdio::piped()).spawn().unwrap_err()
    })
    .join()
    .unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("CLONE_FILES"), "{error}");
    let inner = error.into_inner().unwrap().downcast::<in_netns::Error>().unwrap();
    assert_eq!(inner.kind(), Kind::Unsupported);
}

#[test]
fn a_name_that_was_deleted_is_an_error_and_a_handle_goes_on() {
    let name = format!("in-netns-command-{}", std::process::id());
    let names = Scratch::new();
    let names = in_netns::Names::at(names.path());
    let ns = names.create(&name).unwrap();
    names.delete(&name).unwrap();
    assert_eq!(names.open(&name).unwrap_err().kind(), Kind::NotFound);
    assert!(ns.command("true").status().unwrap().success());
}

mod separate_process {
    use super::*;

    #[track_caller]
    fn passes(case: &str) {
        let output = separate!("commands").arg(case).output().unwrap();
        assert!(output.status.success(), "{case}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    fn a_child_that_asked_for_a_signal_outlives_its_caller_and_the_keep_alive() {
        passes("outlives");
    }

    #[test]
    fn a_spawner_that_cannot_go_home_stays_until_its_children_have_ended() {
        passes("poisoned");
    }

    #[test]
    fn a_spawner_that_is_replaced_stays_until_its_children_have_ended() {
        passes("renewed");
    }

    #[test]
    fn a_forked_process_has_spawners_of_its_own() {
        passes("forked");
    }

    #[test]
    fn a_namespace_that_may_not_be_entered_is_an_error() {
        passes("powerless");
    }

    #[test]
    fn a_hundred_at_once_leave_no_thread_and_no_descriptor() {
        passes("many");
    }

    #[test]
    fn what_tokio_keeps_for_the_process_is_kept_at_home() {
        passes("runtime");
    }

    #[test]
    fn many_one_after_another_use_one_thread() {
        passes("few");
    }

    #[test]
    fn a_process_that_the_kernel_reaps_is_an_error_that_says_so() {
        passes("reaped");
    }

    #[test]
    fn children_that_asked_for_it_end_with_the_process() {
        let mut parent = separate!("commands");
        let (parent, printed) = in_netns_tests::start_until(parent.arg("ends"), "");
        let ids: Vec<u32> = printed.split_whitespace().map(|id| id.parse().unwrap()).collect();
        assert!(ids.iter().all(|id| is_running(*id)), "{ids:?}");
        end(parent);
        for id in &ids[..2] {
            wait_until("it is told", || !is_running(*id));
        }
        assert!(is_running(ids[2]), "this one has taken its wish back");
        let survivor = nix::unistd::Pid::from_raw(ids[2].try_into().unwrap());
        nix::sys::signal::kill(survivor, nix::sys::signal::Signal::SIGKILL).unwrap();
    }
}

#[test]
fn the_message_for_a_closure_that_failed_does_not_blame_the_program_alone() {
    let ns = NetNs::new().unwrap();
    let mut command = ns.command("true");
    // SAFETY: it only makes an error of a number.
    #[allow(unsafe_code)]
    unsafe {
        command.as_std_mut().pre_exec(|| Err(std::io::Error::from_raw_os_error(libc::ENOENT)));
    }
    let error = command.spawn().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("pre_exec"), "{error}");
}

mod asynchronous {
    use std::panic::AssertUnwindSafe;
    use std::time::Duration;

    use futures::FutureExt as _;

    use super::*;

    async fn every_form() {
        let ns = NetNs::new().unwrap();
        assert_eq!(ns.command("sh").args(["-c", "exit 7"]).status_async().await.unwrap().code(), Some(7));
        let mut command = ns.command("sh");
        command.args(["-c", "cat; readlink /proc/self/ns/net; echo error >&2"]);
        for _ in 0..2 {
            // The command is the same one afterwards.
            let output = command.output_async().await.unwrap();
            assert_eq!(text(output.stdout).trim_end(), ns.to_string());
            assert_eq!(text(output.stderr), "error\n");
        }
        assert_eq!(text(command.output().unwrap().stdout).trim_end(), ns.to_string());
        let child = ns.command("echo").arg("piped").stdout(Stdio::piped()).spawn_async().unwrap();
        assert_eq!(text(child.wait_with_output().await.unwrap().stdout), "piped\n");
        let error = ns.command("/no/such/program").spawn_async().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("/no/such/program"), "{error}");
        assert_eq!(here(), home());
    }

    #[tokio::test]
    async fn a_current_thread_runtime_at_home_waits_for_processes_inside() {
        every_form().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_multi_thread_runtime_at_home_waits_for_processes_inside() {
        let forms: Vec<_> = (0..8).map(|_| tokio::spawn(every_form())).collect();
        for form in forms {
            form.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_process_is_killed_with_its_handle_where_that_was_asked_for() {
        let ns = NetNs::new().unwrap();
        let mut child = ns.command("sleep").arg("1000").spawn_async().unwrap();
        let staying = child.id().unwrap();
        assert_eq!(namespace_of(staying), key(ns.id()));
        child.start_kill().unwrap();
        child.wait().await.unwrap();

        let child = ns.command("sleep").arg("1000").kill_on_drop(true).spawn_async().unwrap();
        let killed = child.id().unwrap();
        drop(child);
        wait_until("it is killed", || !is_running(killed));

        let mut command = ns.command("sleep");
        let future = command.arg("1000").kill_on_drop(true).output_async();
        assert!(tokio::time::timeout(Duration::from_millis(50), future).await.is_err());
        wait_until("nothing is left inside", || ns.holders().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_status_does_not_wait_for_a_pipe_that_is_not_read() {
        let ns = NetNs::new().unwrap();
        let mut command = ns.command("sh");
        command.args(["-c", "head -c 200000 /dev/zero"]).stdout(Stdio::piped()).kill_on_drop(true);
        tokio::time::timeout(Duration::from_secs(30), command.status_async()).await.expect("it ends").unwrap();

        let mut command = ns.command("cat");
        command.stdin(Stdio::piped()).kill_on_drop(true);
        let status = tokio::time::timeout(Duration::from_secs(30), command.status_async()).await.expect("it ends");
        assert!(status.unwrap().success());
    }

    #[test]
    fn a_command_whose_output_was_asked_for_without_a_runtime_keeps_no_stream() {
        let ns = NetNs::new().unwrap();
        let mut command = ns.command("true");
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| command.output_async().now_or_never().map(drop)));
        assert!(polled.is_err());
        let mut child = command.spawn().unwrap();
        assert!(child.stdout.is_none() && child.stderr.is_none(), "{child:?}");
        child.wait().unwrap();
    }

    #[test]
    fn without_a_runtime_nothing_is_started() {
        let ns = NetNs::new().unwrap();
        let scratch = Scratch::new();
        let mark = scratch.path().join("mark");
        let started = std::panic::catch_unwind(|| ns.command("touch").arg(&mark).spawn_async().map(drop));
        assert!(started.is_err());
        // The next one is started after it would have been.
        assert!(ns.command("true").status().unwrap().success());
        assert!(!mark.exists());
    }

    /// tokio starts a process before it registers it, so a runtime that cannot register it is found out before.
    #[test]
    fn with_a_runtime_that_cannot_wait_for_it_nothing_is_started() {
        let ns = NetNs::new().unwrap();
        let scratch = Scratch::new();
        let mark = scratch.path().join("mark");
        let without_driver = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let start = || ns.command("touch").arg(&mark).spawn_async().map(drop);
        assert!(without_driver.block_on(async { std::panic::catch_unwind(AssertUnwindSafe(start)) }).is_err());
        let with_driver = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let handle = with_driver.handle().clone();
        drop(with_driver);
        let _entered = handle.enter();
        let error = start().unwrap_err().to_string();
        assert!(error.contains("touch") && error.contains("shutdown"), "{error}");
        // The next one is started after it would have been.
        assert!(ns.command("true").status().unwrap().success());
        assert!(!mark.exists());
    }
}
