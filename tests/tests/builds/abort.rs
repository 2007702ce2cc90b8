//! `panic = "abort"`: a panic in a body ends the process, and the kernel releases everything.
//!
//! The test runs cargo, so it needs the toolchain.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use in_netns_tests::{Project, tasks_in, wait_until};

#[test]
fn case_29_a_panic_ends_the_process_and_leaves_nothing() {
    let sections = "[[bin]]\nname = \"abort\"\npath = 'TESTS/failing/abort.rs'\n[profile.dev]\npanic = \"abort\"";
    let program = Project::write(env!("CARGO_TARGET_TMPDIR"), "abort", sections).build("build", &[]);
    for how in ["pooled", "fresh"] {
        let output = Command::new(&program).arg(how).output().unwrap();
        let (printed, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.signal(), Some(nix::libc::SIGABRT), "{how}: {printed}{complained}");
        assert!(complained.contains("the body's own words"), "{how}: {complained}");
        let (returned, namespace) = printed.trim().split_once('\n').unwrap();
        assert_eq!(returned, "a call that does not panic returns 42");
        wait_until("the namespace has lost its users", || tasks_in("net", namespace) == 0);
    }
}
