//! The origin of a pinned thread: its state is that of the process, whatever the first caller or the main thread does.

use std::thread;

use in_netns::{Call, ErrorKind, NetNs, RetireReason, ThreadFate, with_netns};
use in_netns_tests::{here, home, key, separate};
use rstest::rstest;

#[track_caller]
fn passes(program: &str, arguments: &[&str]) {
    let output = separate!(program).args(arguments).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {}\n{printed}", output.status);
}

/// Often enough to hit the critical moment.
const TIMES: usize = 20;

#[rstest]
#[case::calls("calls")]
#[case::starts_threads("starts-threads")]
#[case::starts_children("starts-children")]
#[case::blocks_some("blocks-some")]
#[case::blocks_all("blocks-all")]
#[case::caller_blocks_all("caller-blocks-all")]
#[case::waits_for_signals("waits-for-signals")]
#[case::lets_signals_in_while_it_polls("lets-signals-in-while-it-polls")]
fn a_body_blocks_the_signals_that_the_process_blocks_whatever_the_main_thread_is_doing(#[case] main_thread: &str) {
    for _ in 0..TIMES {
        passes("leader", &[main_thread]);
    }
}

#[rstest]
#[case::flips("flips")]
#[case::visits("visits")]
#[case::visits_and_calls("visits-and-calls")]
#[case::visits_another_host_name("visits-another-host-name")]
#[case::moved("moved")]
#[case::moved_and_starts_threads("moved-and-starts-threads")]
#[case::joined("joined")]
#[case::exited("exited")]
fn home_is_the_process_s_while_the_main_thread_is_elsewhere_for_a_moment(#[case] main_thread: &str) {
    for _ in 0..TIMES {
        passes("leader", &[main_thread]);
    }
}

#[rstest]
#[case::nice("nice")]
#[case::policy("policy")]
#[case::idle_policy("idle-policy")]
#[case::io_priority("io-priority")]
#[case::timer_slack("timer-slack")]
#[case::personality("personality")]
#[case::memory_policy("memory-policy")]
#[case::machine_check("machine-check")]
#[case::speculation("speculation")]
#[case::no_new_privileges("no-new-privileges")]
#[case::seccomp("seccomp")]
#[case::bounding_set("bounding-set")]
#[case::ambient_set("ambient-set")]
#[case::effective_set("effective-set")]
#[case::filesystem_user("filesystem-user")]
#[case::user("user")]
#[case::groups("groups")]
#[case::rounding("rounding")]
#[case::processes("processes")]
#[case::time("time")]
#[case::time_slice("time-slice")]
#[case::login("login")]
#[case::securebits("securebits")]
#[case::session_keyring("session-keyring")]
#[case::requested_keys("requested-keys")]
fn what_the_first_caller_changed_for_itself_is_corrected_or_refused(#[case] attribute: &str) {
    passes("first_caller", &[attribute]);
}

#[rstest]
#[case::files("files")]
#[case::mounts("mounts")]
#[case::ipc("ipc")]
fn what_the_main_thread_has_left_before_its_first_call_is_not_given_to_bodies(#[case] what: &str) {
    passes("first_caller", &[&format!("main-thread-leaves-{what}")]);
}

#[test]
fn a_main_thread_that_could_start_no_threads_for_a_moment_decides_afterwards() {
    passes("first_caller", &["main-thread-returns"]);
}

#[test]
fn a_working_directory_that_changes_meanwhile_is_still_shared() {
    passes("first_caller", &["working-directory-changes"]);
}

#[test]
fn a_filter_of_the_main_thread_is_not_given_to_bodies() {
    passes("first_caller", &["filter-of-the-main-thread"]);
}

#[rstest]
#[case::drops_root("drops-root")]
#[case::drops_root_beside_processes_of_that_user("drops-root-beside-processes-of-that-user")]
#[case::drops_root_and_keeps_few("drops-root-and-keeps-few")]
#[case::drops_root_in_a_thread("drops-root-in-a-thread")]
#[case::gives_everything_up("gives-everything-up")]
#[case::raises_around_a_call("raises-around-a-call")]
#[case::raises_in_a_thread("raises-in-a-thread")]
#[case::keeps_few("keeps-few")]
#[case::sandboxes_a_thread("sandboxes-a-thread")]
#[case::has_a_worker("has-a-worker")]
#[case::has_a_worker_in_a_thread("has-a-worker-in-a-thread")]
#[case::has_a_worker_and_gives_everything_up("has-a-worker-and-gives-everything-up")]
#[case::changes_between_close_calls("changes-between-close-calls")]
fn a_body_may_do_what_the_process_may_do_now(#[case] process: &str) {
    passes("daemon", &[process]);
}

/// A caller that unshared its descriptor table before its first call.
fn with_descriptors_of_its_own<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    // The template exists; another thread started it.
    in_netns::pinned(|_| ()).unwrap();
    thread::scope(|scope| {
        let apart = || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES).unwrap();
            // The descriptor numbers now refer to other files.
            nix::unistd::close(open_many()).unwrap();
            work()
        };
        scope.spawn(apart).join().unwrap()
    })
}

/// Fills the lowest free numbers of the calling thread's table, and returns the last of them.
fn open_many() -> std::os::fd::RawFd {
    use std::os::fd::IntoRawFd;
    (0..8).fold(0, |_, _| std::fs::File::open("/dev/null").unwrap().into_raw_fd())
}

#[test]
fn a_fresh_thread_of_a_caller_with_descriptors_of_its_own_goes_home() {
    let outcome = with_descriptors_of_its_own(|| {
        let ns = NetNs::new().unwrap();
        let outcome = Call::new(&ns).fresh().outcome(|| here() == key(ns.id())).unwrap();
        assert!(outcome.value.unwrap());
        outcome.thread
    });
    assert!(matches!(outcome, ThreadFate::Retired(RetireReason::Fresh)), "{outcome:?}");
}

#[test]
fn every_call_of_a_caller_with_descriptors_of_its_own_enters_what_it_names() {
    with_descriptors_of_its_own(|| {
        let (blue, red) = (NetNs::new().unwrap(), NetNs::new().unwrap());
        for ns in [&blue, &red] {
            assert_eq!(with_netns(ns, here).unwrap(), key(ns.id()));
            assert_eq!(ns.run(NetNs::current).unwrap().unwrap(), *ns);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            assert_eq!(runtime.block_on(in_netns::with_netns_async(ns, async || here())).unwrap(), key(ns.id()));
        }
        assert_eq!(in_netns::pinned(|_| here()).unwrap(), home());
    });
}

#[test]
fn a_pooled_body_has_the_directory_of_the_process_and_a_fresh_one_that_of_the_caller() {
    let ns = NetNs::new().unwrap();
    let directory = || std::env::current_dir().unwrap();
    let of_process = directory();
    let apart = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
        std::env::set_current_dir("/").unwrap();
        assert_eq!(with_netns(&ns, directory).unwrap(), of_process);
        assert_eq!(Call::new(&ns).fresh().run(directory).unwrap(), std::path::Path::new("/"));
    };
    thread::scope(|scope| scope.spawn(apart).join().unwrap());
}

#[test]
fn a_namespace_that_was_opened_in_another_table_of_descriptors_is_an_error_and_not_another_namespace() {
    let (blue, red) = (NetNs::new().unwrap(), NetNs::new().unwrap());
    with_descriptors_of_its_own(|| {
        // The number of `blue` in the other table refers to `red` here.
        use std::os::fd::{AsFd, AsRawFd};
        let mut number = unsafe_number(blue.as_fd().as_raw_fd());
        nix::unistd::dup2(&red, &mut number).unwrap();
        std::mem::forget(number);
        for call in [Call::new(&blue), Call::new(&blue).fresh()] {
            assert_eq!(call.run(here).unwrap_err().kind(), ErrorKind::Unsupported);
        }
        assert_eq!(with_netns(&red, here).unwrap(), key(red.id()));
    });
    assert_eq!(with_netns(&blue, here).unwrap(), key(blue.id()));
}

/// A number of the calling thread's table that will be replaced.
fn unsafe_number(number: std::os::fd::RawFd) -> std::os::fd::OwnedFd {
    use std::os::fd::FromRawFd;
    // SAFETY: the caller replaces the descriptor behind the number, and does not close it.
    #[allow(unsafe_code)]
    unsafe {
        std::os::fd::OwnedFd::from_raw_fd(number)
    }
}

#[test]
fn a_body_has_the_stack_that_was_requested() {
    fn depth(left: u32) -> u32 {
        let on_the_stack = std::hint::black_box([left; 1024]);
        if left == 0 { 0 } else { 1 + depth(on_the_stack[7] - 1) }
    }
    let ns = NetNs::new().unwrap();
    // At least 4 KiB each: 40 MiB in total, but a thread has 2 MiB.
    let outcome = Call::new(&ns).stack_size(256 << 20).outcome(|| (here(), depth(10_000))).unwrap();
    assert_eq!(outcome.value.unwrap(), (key(ns.id()), 10_000));
    assert!(matches!(outcome.thread, ThreadFate::Retired(RetireReason::Fresh)), "{:?}", outcome.thread);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let call = Call::new(&ns).stack_size(256 << 20).run_async(async || (here(), depth(10_000)));
    assert_eq!(runtime.block_on(call).unwrap(), (key(ns.id()), 10_000));
    let call = Call::new(&ns).stack_size(256 << 20).spawn_async(|| async { depth(10_000) });
    assert_eq!(runtime.block_on(call).unwrap(), 10_000);
}

/// What is on the stack beside the body has room of its own.
#[test]
fn no_stack_is_too_small_for_the_call_itself() {
    passes("small_stacks", &[]);
}

#[test]
fn init_settles_where_home_is_and_does_it_once() {
    passes("leader", &["settles-during-a-visit"]);
    passes("leader", &["settles-and-visits"]);
    in_netns::init().unwrap();
    in_netns::init().unwrap();
    assert_eq!(in_netns::pinned(|_| here()).unwrap(), home());
}

#[test]
fn a_first_call_where_descriptors_are_short_leaves_nothing_for_a_later_one_to_hold() {
    for limit in 3..16 {
        passes("few_descriptors", &[&limit.to_string()]);
    }
}

#[test]
fn a_shortage_of_descriptors_in_the_first_call_decides_nothing_for_later_ones() {
    passes("shortages", &["first-call"]);
    passes("shortages", &["filtered"]);
    passes("shortages", &["without-kcmp"]);
}

#[test]
fn a_shortage_of_descriptors_takes_nothing_from_a_view() {
    passes("shortages", &["view"]);
}

#[test]
fn a_shortage_of_descriptors_hides_no_namespace_of_a_pool() {
    passes("shortages", &["pool"]);
}
