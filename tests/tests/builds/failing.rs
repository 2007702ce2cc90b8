//! A failing test fails: `cargo test` runs a separate crate whose bodies fail in each possible way.
//!
//! The same crate shows what happens to a test without the privilege: it fails with the reason. `IN_NETNS_SKIP=1` skips
//! it, and a message is printed.
//!
//! The tests run cargo, so they need the toolchain. The built tests are run as root and as an ordinary user.

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::sync::OnceLock;

use in_netns_tests::{Project, Scratch, as_ordinary_user};

const PASS: [&str; 7] = [
    "passes",
    "passes_by_panicking",
    "passes_with_ok",
    "passes_with_an_alias",
    "passes_with_unit",
    "passes_with_an_exit_code",
    "passes_with_a_helper",
];
const FAIL: [(&str, &str); 6] = [
    ("fails_by_assertion", "the assertion's own message"),
    ("fails_by_err", "the error's own message"),
    ("fails_by_joined_child", "the child's own message"),
    ("fails_by_stray", "`left-behind` was started in a call and outlives it"),
    ("fails_by_not_panicking", "test did not panic as expected"),
    ("fails_by_panicking_otherwise", "panic did not contain expected string"),
];

fn project() -> Project {
    Project::write(env!("CARGO_TARGET_TMPDIR"), "failing", "[lib]\npath = 'TESTS/failing/lib.rs'")
}

/// The test program of the crate, built once for all tests of this file.
fn program(scratch: &Scratch) -> Command {
    static BUILT: OnceLock<String> = OnceLock::new();
    Command::new(scratch.program(BUILT.get_or_init(|| project().build("test", &["--lib", "--no-run"]))))
}

/// Parses libtest's result of each test, and returns it with the whole output.
fn results(output: &Output) -> (BTreeMap<String, String>, String) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().filter_map(|line| line.strip_prefix("test tests::")?.split_once(" ... "));
    let results = lines
        .map(|(test, result)| (test.split(' ').next().unwrap_or_default().to_owned(), result.to_owned()))
        .collect();
    (results, text + &String::from_utf8_lossy(&output.stderr))
}

/// Asserts that the passing tests pass, that the failing tests fail, each with its own message, and that the output of
/// the others is captured.
fn assert_as_they_should(output: &Output) {
    let (results, text) = results(output);
    assert_eq!(output.status.code(), Some(101), "{text}");
    for test in PASS {
        assert_eq!(results[test], "ok", "{test}: {text}");
    }
    for (test, message) in FAIL {
        assert_eq!(results[test], "FAILED", "{test}: {text}");
        let (_, report) =
            text.split_once(&format!("---- tests::{test} stdout ----")).unwrap_or_else(|| panic!("{test}: {text}"));
        let report = report.split("\n---- ").next().unwrap_or_default();
        assert!(report.contains(message), "{test}: {report}");
    }
    assert_eq!(results["ignored"], "ignored, and so it is not run");
    assert!(text.contains("printed before the failure") && !text.contains("captured"), "{text}");
    // Messages carry the name of the test, as with libtest's own threads.
    assert!(text.contains("thread 'tests::fails_by_assertion'"), "{text}");
}

#[test]
fn case_28_cargo_test_fails_where_a_body_fails() {
    drop(program(&Scratch::new())); // Built, so that what is read below is libtest's.
    let output = project().cargo("test").arg("--lib").output().unwrap();
    // The exit code of cargo is that of the tests.
    assert_as_they_should(&output);
}

#[test]
fn case_28_cargo_test_fails_for_an_ordinary_user_too() {
    let scratch = Scratch::new();
    let output = as_ordinary_user(&mut program(&scratch)).output().unwrap();
    assert_as_they_should(&output);
}

#[test]
fn the_message_of_a_pooled_body_is_not_part_of_another_tests_output() {
    let scratch = Scratch::new();
    // The first makes the first call of the process.
    let tests = ["tests::pooled_body_first", "tests::pooled_body_then_fails"];
    let output = program(&scratch).args(tests).args(["--exact", "--test-threads=1"]).output().unwrap();
    let (results, text) = results(&output);
    assert_eq!((results[&tests[0][7..]].as_str(), results[&tests[1][7..]].as_str()), ("ok", "FAILED"), "{text}");
    assert!(text.contains("the pooled body's own message"), "{text}");
}

/// Runs as a user who cannot have a user namespace: uid 0 without capabilities.
fn without_privilege(program: &Command) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "setpriv", "--bounding-set=-all", "--inh-caps=-all"]).arg(program.get_program());
    command
}

#[test]
fn a_test_that_lacks_the_privilege_fails_and_says_why() {
    let scratch = Scratch::new();
    let output = without_privilege(&program(&scratch)).output().unwrap();
    let (results, text) = results(&output);
    assert_eq!(output.status.code(), Some(101), "{text}");
    for test in PASS {
        assert_eq!(results[test], "FAILED", "{test}: {text}");
    }
    assert!(text.contains("this thread lacks CAP_SYS_ADMIN in user:["), "{text}");
    assert!(text.contains("uid 0 without CAP_SETFCAP may not map itself into a user namespace"), "{text}");
    assert!(!text.contains("skipped"), "{text}");
}

#[test]
fn it_is_skipped_on_request_and_that_is_seen() {
    let scratch = Scratch::new();
    let output = without_privilege(&program(&scratch)).env("IN_NETNS_SKIP", "1").output().unwrap();
    let (results, text) = results(&output);
    let skipped = FAIL.iter().take(4).map(|(test, _)| *test);
    let returning = ["passes_with_ok", "passes_with_an_alias", "passes_with_unit", "passes_with_an_exit_code"];
    for test in skipped.chain(["passes"]).chain(returning) {
        assert_eq!(results[test], "ok", "{test}: {text}");
        assert!(
            text.contains(&format!("in-netns: skipped failing::tests::{test} (IN_NETNS_SKIP=1): ")),
            "{test}: {text}"
        );
    }
    // A `#[should_panic]` test did not panic: it cannot be skipped by returning.
    assert_eq!(results["passes_by_panicking"], "FAILED", "{text}");
    // Its helper is no test.
    assert_eq!(results["passes_with_a_helper"], "FAILED", "{text}");
}

#[test]
fn it_is_skipped_on_the_main_thread_too() {
    let scratch = Scratch::new();
    let mut program = without_privilege(&program(&scratch));
    let output = program.args(["--test-threads=1", "passes_with_ok"]).env("IN_NETNS_SKIP", "1").output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn with_the_privilege_nothing_is_skipped() {
    let scratch = Scratch::new();
    let output = as_ordinary_user(&mut program(&scratch)).env("IN_NETNS_SKIP", "1").output().unwrap();
    assert_as_they_should(&output);
}
