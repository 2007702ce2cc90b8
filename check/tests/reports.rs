//! What programs read: SARIF, annotations, baselines, and roots that the user names.

mod common;
#[path = "common/schema.rs"]
mod schema;

use std::path::{Path, PathBuf};

use common::{bodies, check, check_in, command, complaint, folder, function, report, verdicts};
use serde_json::{Value, json};

fn small(arguments: &[&str]) -> std::process::Output {
    check(&folder("tests/small"), arguments)
}

fn text(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn file(name: &str, contents: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, contents).unwrap();
    path
}

fn sarif_schema() -> Value {
    serde_json::from_str(include_str!("data/sarif-2.1.0.schema.json")).unwrap()
}

#[test]
fn the_sarif_document_fits_the_schema_and_has_the_path_as_its_code_flow() {
    let output = small(&["--format", "sarif", "--deny", "spawn"]);
    assert_eq!(output.status.code(), Some(1), "{}", complaint(&output));
    let document = report(&output);
    assert_eq!(schema::errors(&sarif_schema(), &document), Vec::<String>::new());
    let results = document["runs"][0]["results"].as_array().unwrap();
    let of = |body: &str| {
        results
            .iter()
            .find(|result| result["message"]["text"].as_str().unwrap().starts_with(&format!("small::{body}::")))
            .unwrap_or_else(|| panic!("no result for {body}"))
    };
    let spawn = of("spawns");
    assert_eq!(spawn["ruleId"], "SPAWN");
    assert_eq!(spawn["level"], "error");
    let place = &spawn["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"], json!({ "uri": "src/main.rs", "uriBaseId": "SRCROOT" }));
    assert_eq!(place["region"]["startLine"], 13);
    let steps = spawn["codeFlows"][0]["threadFlows"][0]["locations"].as_array().unwrap();
    assert_eq!(steps[0]["location"]["physicalLocation"]["artifactLocation"]["uri"], "src/main.rs");
    assert_eq!(steps.last().unwrap()["location"]["message"]["text"], "pthread_create");
    assert_eq!(of("scoped")["level"], "note");
    let suppression = &of("allowed")["suppressions"][0];
    assert_eq!(suppression["justification"], "the watcher ends with the process");
}

#[test]
fn the_validator_finds_what_does_not_fit_the_schema() {
    let document = json!({ "version": "2.1.0", "runs": [{ "tool": { "driver": {} }, "colour": 1,
        "results": [{ "message": {}, "level": "grave", "ruleIndex": -2 }] }] });
    let errors = schema::errors(&sarif_schema(), &document);
    for part in ["/runs/0: may have no `colour`", "driver: has no `name`", "\"grave\"", "ruleIndex: is less than -1"] {
        assert!(errors.iter().any(|error| error.contains(part)), "{part}: {errors:?}");
    }
}

#[test]
fn an_annotation_is_one_line_with_its_file_and_line() {
    let workspace = folder("tests/small");
    let mut command = command("small", &workspace, &["--format", "github", "--deny", "spawn"]);
    let output = command.env("GITHUB_WORKSPACE", env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", complaint(&output));
    let text = text(&output);
    let spawn = text.lines().find(|line| line.contains("small::spawns::")).unwrap();
    assert!(spawn.starts_with("::error file=tests/small/src/main.rs,line=13,title=netns-check%3A SPAWN::"), "{spawn}");
    assert!(spawn.contains("%0A") && spawn.contains("pthread_create"), "{spawn}");
    let scoped = text.lines().find(|line| line.contains("small::scoped::")).unwrap();
    assert!(scoped.starts_with("::notice "), "{scoped}");
    assert!(!text.contains("::allowed::"), "what is allowed is no annotation: {text}");
}

#[test]
fn only_what_the_baseline_does_not_have_is_denied() {
    let whole = text(&small(&["--format", "json"]));
    let baseline = file("baseline.json", &whole);
    let output = small(&["--baseline", baseline.to_str().unwrap(), "--deny", "spawn,unknown"]);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    assert!(text(&output).contains("known: it is in the baseline"), "{}", text(&output));

    let mut without: Value = serde_json::from_str(&whole).unwrap();
    let listed = without["programs"][0]["bodies"].as_array_mut().unwrap();
    listed.retain(|body| function(body) != "spawns");
    let baseline = file("baseline-without.json", &without.to_string());
    let output = small(&["--baseline", baseline.to_str().unwrap(), "--deny", "spawn,unknown", "--format", "json"]);
    assert_eq!(output.status.code(), Some(1), "{}", complaint(&output));
    assert!(complaint(&output).contains("1 finding is denied"), "{}", complaint(&output));
    let report = report(&output);
    assert_eq!(function(bodies(&report)[0]), "spawns", "what is new comes first");
}

#[test]
fn a_baseline_that_cannot_be_read_is_refused() {
    let broken = file("baseline-broken.json", "[]");
    for (path, words) in
        [("nowhere.json", "write it with `--format json"), (broken.to_str().unwrap(), "it is a report")]
    {
        let output = small(&["--baseline", path]);
        assert_eq!(output.status.code(), Some(2));
        assert!(complaint(&output).contains(words), "{}", complaint(&output));
    }
}

#[test]
fn clean_cannot_be_denied() {
    let output = small(&["--deny", "clean"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(complaint(&output).contains("cannot be denied"), "{}", complaint(&output));
}

#[test]
fn the_report_begins_with_its_summary_and_has_the_worst_first_and_one_order() {
    let first = text(&small(&["-q"]));
    assert_eq!(first, text(&small(&["-q"])));
    assert!(first.lines().next().unwrap().contains(" bodies: "), "{first}");
    let report = report(&small(&["--format", "json"]));
    let order: Vec<_> = bodies(&report).into_iter().map(|body| verdicts(body)[0].to_owned()).collect();
    let rank = |verdict: &String| ["SPAWN", "UNKNOWN", "SCOPED", "CLEAN"].iter().position(|other| other == verdict);
    let not_allowed: Vec<_> = bodies(&report)
        .into_iter()
        .filter(|body| !body["findings"].as_array().unwrap().iter().any(|finding| finding["allowed"].is_string()))
        .map(|body| verdicts(body)[0].to_owned())
        .collect();
    assert!(not_allowed.is_sorted_by_key(rank), "{order:?}");
    assert_eq!(order[order.len() - 3..], ["SPAWN", "CLEAN", "CLEAN"], "what is allowed comes before what is clean");
}

#[test]
fn a_function_is_a_root_where_the_user_names_it() {
    let output = small(&["--root", "small::watch", "--root-closure", "small::take*", "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    let report = report(&output);
    let named: Vec<_> = bodies(&report).into_iter().filter(|body| body["origin"] == "ROOT").collect();
    let mut listed: Vec<_> = named.iter().map(|body| body["name"].as_str().unwrap()).collect();
    listed.sort_unstable();
    assert_eq!(listed, ["small::gives::{closure#0}", "small::watch"]);
    assert!(named.iter().all(|body| verdicts(body) == ["SPAWN"]));
}

#[test]
fn a_root_that_no_program_has_is_refused() {
    for arguments in [["--root", "small::wach"], ["--root-closure", "small::tak"]] {
        let output = small(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(complaint(&output).contains("has such a function"), "{}", complaint(&output));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_release_profile_is_built_with_its_own_cfgs_and_unoptimised() {
    let arguments = ["--profile", "release", "--root", "profiles::in_*_only", "--format", "json"];
    let output = check(&folder("tests/profiles"), &arguments);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    assert!(complaint(&output).contains("like profile `release`"), "{}", complaint(&output));
    let report = report(&output);
    assert!(report["build"].as_str().unwrap().contains("opt-level = 0"), "{}", report["build"]);
    let found: Vec<_> = bodies(&report).into_iter().map(|body| (function(body), verdicts(body))).collect();
    assert_eq!(found, [("in_release_only".to_owned(), vec!["SPAWN"])]);
}

/// A workspace of two packages, each with a test of the same name, which has the same body.
fn two_packages(name: &str, manifest: &str) -> PathBuf {
    let region = "unsafe extern \"C\" {\n    fn setns(namespace: i32, kind: i32) -> i32;\n}\n\
                  #[test]\nfn region() {\n    unsafe { setns(0, 0) };\n    drop(std::thread::spawn(|| ()));\n}\n";
    let other = "[package]\nname = \"other\"\nversion = \"0.0.0\"\nedition = \"2024\"\n";
    let manifest = format!("{manifest}[dependencies]\nother = {{ path = \"other\" }}\n");
    let files =
        [("tests/it.rs", region), ("other/Cargo.toml", other), ("other/src/lib.rs", ""), ("other/tests/it.rs", region)];
    common::package(&format!("reports/{name}"), &manifest, "fn main() {}\n", &files)
}

#[test]
fn a_baseline_tells_the_packages_apart() {
    let folder = two_packages("packages", "");
    let check = |arguments: &[&str]| check_in("reports/target", &folder, &[&["--test", "it"], arguments].concat());
    let baseline = file("baseline-package.json", &text(&check(&["-p", "packages", "--format", "json"])));
    let known = ["--baseline", baseline.to_str().unwrap(), "--deny", "spawn"];
    for (package, status) in [("packages", 0), ("other", 1)] {
        let output = check(&[&["-p", package], &known[..]].concat());
        assert_eq!(output.status.code(), Some(status), "{package}: {}", complaint(&output));
    }
}

#[test]
fn a_package_allows_for_its_own_programs() {
    let allow = |of: &str| {
        format!(
            "[[{of}.metadata.netns-check.allow]]\nbody = \"it::*\"\nverdict = \"SPAWN\"\nreason = \"it is a test\"\n"
        )
    };
    for (of, status, expected) in [("package", 1, &["other"][..]), ("workspace", 0, &[])] {
        let folder = two_packages("allowed", &allow(of));
        let output = check_in(
            "reports/target",
            &folder,
            &["--workspace", "--test", "it", "--deny", "spawn", "--format", "json"],
        );
        assert_eq!(output.status.code(), Some(status), "{of}: {}", complaint(&output));
        let report = report(&output);
        let denied: Vec<_> = report["programs"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|program| program["bodies"][0]["findings"][0]["allowed"].is_null())
            .map(|program| program["package"].as_str().unwrap())
            .collect();
        assert_eq!(denied, expected, "{of}");
    }
}

#[test]
fn a_closure_before_a_known_one_leaves_it_known() {
    let write = |calls: &str| {
        let program = format!(
            "fn take(body: impl FnOnce()) {{\n    body();\n}}\n\
             fn calls() {{\n    {calls}\n}}\n\
             fn main() {{\n    calls();\n}}\n"
        );
        common::package("reports/closures", "", &program, &[])
    };
    let check = |folder: &Path, arguments: &[&str]| {
        check_in("reports/target", folder, &[&["--root-closure", "closures::take"], arguments].concat())
    };
    let fingerprints = |folder: &Path| -> Vec<Value> {
        let document = report(&check(folder, &["--format", "sarif"]));
        let results = document["runs"][0]["results"].as_array().unwrap();
        results.iter().map(|result| result["partialFingerprints"].clone()).collect()
    };
    let starts = "take(|| drop(std::thread::spawn(|| ())));";
    let folder = write(starts);
    let baseline = file("baseline-closures.json", &text(&check(&folder, &["--format", "json"])));
    let known = ["--baseline", baseline.to_str().unwrap(), "--deny", "spawn"];
    let before = fingerprints(&folder);
    let folder = write(&format!("take(|| ()); {starts}"));
    let output = check(&folder, &known);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    assert_eq!(fingerprints(&folder), before);
    let folder = write(&format!("{starts} {starts}"));
    let output = check(&folder, &known);
    assert_eq!(output.status.code(), Some(1), "{}", complaint(&output));
    assert!(complaint(&output).contains("1 finding is denied"), "{}", complaint(&output));
    let both = fingerprints(&folder);
    assert_eq!(both.len(), 2);
    assert!(both[0] != both[1] && both.contains(&before[0]), "{both:?}");
}
