//! The default build: it has no async functions, and no async runtime among its dependencies.
//!
//! The tests build separate crates, because this one enables all features.

use std::process::Command;

use in_netns_tests::Project;

fn project() -> Project {
    Project::write(env!("CARGO_TARGET_TMPDIR"), "default_features", "[lib]\npath = 'TESTS/default_features/lib.rs'")
}

fn printed(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    (output.status.success(), [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat())
}

#[test]
fn async_functions_are_refused_with_a_remedy() {
    let (success, text) = printed(project().cargo("build").arg("--message-format=short"));
    assert!(!success);
    let refusals: Vec<_> = text.lines().filter(|line| line.contains(": error: ")).collect();
    let [function, method, future] = refusals[..] else { panic!("{text}") };
    for (refusal, place) in [(function, "lib.rs:8:5"), (method, "lib.rs:16:9")] {
        assert!(refusal.contains(place), "{text}");
        assert!(refusal.contains("takes an `async fn` with the feature `tokio` of the crate `in-netns`"), "{text}");
    }
    assert!(future.contains("lib.rs:20:25") && future.contains("enable the feature `tokio`"), "{text}");
    assert!(text.contains("due to 3 previous errors"), "{text}");
}

#[test]
fn the_default_build_pulls_in_no_runtime() {
    let (success, tree) =
        printed(project().cargo("tree").args(["--edges", "normal", "--prefix", "none", "--no-dedupe"]));
    assert!(success, "{tree}");
    let mut crates: Vec<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    crates.sort_unstable();
    crates.dedup();
    assert!(crates.contains(&"nix") && crates.contains(&"scopeguard"), "{tree}");
    for heavy in ["tokio", "tracing", "futures", "rayon"] {
        assert!(!crates.contains(&heavy), "{tree}");
    }
}
