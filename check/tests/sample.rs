//! The table of verdicts, on the real libraries: `cargo test -p cargo-netns-check --test sample -- --ignored`.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use common::{bodies, check, check_in, complaint, folder, function, report, steps, verdicts};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    verdicts: Vec<String>,
    /// How the body came to be one; a call of the library unless said.
    origin: Option<String>,
    #[serde(default)]
    notes: Vec<String>,
    #[serde(default)]
    path: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    hint: BTreeMap<String, String>,
    #[serde(default)]
    says: BTreeMap<String, String>,
}

fn judged(sample: &Path) -> Value {
    let output = check(sample, &["--format", "json", "--locked"]);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    report(&output)
}

fn expected(sample: &Path) -> BTreeMap<String, Expected> {
    let file = sample.join("expected.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Whether the fragments occur in the steps, in their order; one step may have several.
fn shows(steps: &[String], fragments: &[String]) -> bool {
    let mut steps = steps.iter().peekable();
    fragments.iter().all(|fragment| {
        while let Some(step) = steps.peek() {
            if step.contains(fragment.as_str()) {
                return true;
            }
            steps.next();
        }
        false
    })
}

/// `CALL`, `ROOT`, `ADAPTER project`, `REGION function`.
fn origin_of(body: &Value) -> String {
    match &body["origin"] {
        Value::Object(origin) => {
            let (kind, of) = origin.iter().next().expect("an origin has a kind");
            format!("{kind} {}", of.as_str().expect("an origin names what it is of"))
        }
        origin => origin.as_str().unwrap_or_default().to_owned(),
    }
}

/// What is wrong with one body.
fn differences(body: &Value, expected: &Expected) -> Vec<String> {
    let mut wrong = Vec::new();
    if verdicts(body) != expected.verdicts {
        wrong.push(format!("verdicts {:?}, not {:?}", verdicts(body), expected.verdicts));
    }
    if let Some(origin) = &expected.origin
        && origin_of(body) != *origin
    {
        wrong.push(format!("origin {:?}, not {origin:?}", origin_of(body)));
    }
    let notes: Vec<_> = body["notes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !expected.notes.iter().all(|note| notes.contains(&note.as_str())) {
        wrong.push(format!("notes {notes:?}, without {:?}", expected.notes));
    }
    let finding = |verdict: &str| {
        body["findings"]
            .as_array()
            .unwrap()
            .iter()
            .find(|finding| finding["verdict"] == verdict)
            .unwrap_or(&Value::Null)
    };
    for (verdict, fragments) in &expected.path {
        let finding = finding(verdict);
        if finding.is_null() || !shows(&steps(finding), fragments) {
            wrong.push(format!("the path of {verdict} does not show {fragments:?}: {finding:#}"));
        }
    }
    for (key, table) in [("hint", &expected.hint), ("says", &expected.says)] {
        for (verdict, words) in table {
            let text = finding(verdict)[key].as_str().unwrap_or_default();
            if !text.contains(words.as_str()) {
                wrong.push(format!("{verdict} says {text:?}, without {words:?}"));
            }
        }
    }
    wrong
}

/// Compares every body with what is expected of its function, and every function with the bodies.
fn compare(report: &Value, expected: &BTreeMap<String, Expected>) {
    // A function may have several bodies.
    let found: Vec<(String, &Value)> = bodies(report).into_iter().map(|body| (function(body), body)).collect();
    let missing: BTreeSet<_> = expected.keys().filter(|name| !found.iter().any(|(found, _)| found == *name)).collect();
    assert!(missing.is_empty(), "bodies that were not found: {missing:?}");
    let mut wrong = Vec::new();
    for (name, body) in &found {
        match expected.get(name) {
            Some(expected) => {
                wrong.extend(differences(body, expected).into_iter().map(|what| format!("{name}: {what}")));
            }
            None => wrong.push(format!("{name}: it is not in expected.toml")),
        }
    }
    assert!(wrong.is_empty(), "{} of {} bodies:\n{}", wrong.len(), found.len(), wrong.join("\n"));
}

#[test]
#[ignore = "builds the real libraries: needs the registry, and minutes"]
fn every_verdict_and_path_of_the_table_is_right() {
    let sample = folder("sample");
    compare(&judged(&sample), &expected(&sample));
}

#[test]
#[ignore = "builds the real libraries: needs the registry, and minutes"]
fn published_bugs_are_found_in_their_shapes_and_their_cures_are_clean() {
    let published = folder("published");
    let output = check_in("sample", &published, &["--bin", "published", "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    compare(&report(&output), &expected(&published));
}

#[test]
#[ignore = "builds the real libraries: needs the registry, and minutes"]
fn the_report_of_the_program_in_the_readme_is_as_printed_there() {
    let output = check_in("sample", &folder("published"), &["--bin", "collect", "-q"]);
    assert_eq!(output.status.code(), Some(0), "{}", complaint(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let readme = std::fs::read_to_string(folder("README.md")).unwrap();
    // Versions of libraries and the number of canaries differ with the lock file.
    for verdict in ["HANDOVER, AWAIT  REGION", "HANDOVER  REGION", "PROCESS  REGION", "CLEAN  REGION"] {
        let line = text.lines().find(|line| line.trim_start().starts_with(verdict)).unwrap_or_else(|| panic!("{text}"));
        assert!(readme.contains(line), "README.md does not show: {line}");
    }
}

#[test]
#[ignore = "builds the real libraries: needs the registry, and minutes"]
fn every_sink_that_a_canary_guards_is_a_tool_error_when_it_is_taken_out() {
    let sample = folder("sample");
    let text = std::fs::read_to_string(folder("data").join("canaries.toml")).unwrap();
    let canaries: toml::Table = toml::from_str(&text).unwrap();
    let sinks: BTreeSet<&str> =
        canaries["canary"].as_array().unwrap().iter().filter_map(|canary| canary["sink"].as_str()).collect();
    assert!(sinks.len() > 15, "{sinks:?}");
    for sink in sinks {
        let table = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sample-without-{sink}.toml"));
        std::fs::write(&table, format!("remove = [\"{sink}\"]")).unwrap();
        let output = check(&sample, &["--sinks", table.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2), "{sink}");
        assert!(complaint(&output).contains(&format!("the canary of `{sink}` was missed")), "{}", complaint(&output));
    }
}

/// The score of a hold-out sample, printed.
fn score(holdout: &Path) -> String {
    let report = judged(holdout);
    let expected = expected(holdout);
    // Of several bodies of one function the first counts: a report has the worst first.
    let mut found: BTreeMap<String, &Value> = BTreeMap::new();
    for body in bodies(&report) {
        found.entry(function(body)).or_insert(body);
    }
    let wrong: Vec<_> = expected
        .iter()
        .filter_map(|(name, expected)| match found.get(name) {
            Some(body) => {
                let wrong = differences(body, expected);
                (!wrong.is_empty()).then(|| format!("{name}: {}", wrong.join("; ")))
            }
            None => Some(format!("{name}: not found")),
        })
        .collect();
    let score = format!("{} of {}", expected.len() - wrong.len(), expected.len());
    println!("{}: {score}\n{}", holdout.display(), wrong.join("\n"));
    score
}

#[test]
#[ignore = "builds the real libraries: needs the registry, and minutes"]
fn the_score_of_the_second_holdout_is_the_one_reported() {
    let readme = std::fs::read_to_string(folder("README.md")).unwrap();
    // The rules were changed after the first: its score is printed, and says nothing any more.
    score(&folder("holdout"));
    let score = score(&folder("holdout2"));
    assert!(readme.contains(&format!("**{score}**")), "README.md does not report {score}");
}
