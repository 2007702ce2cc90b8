//! SARIF 2.1.0, the format of code scanning. The path of a finding is its code flow.
//!
//! References: "Static Analysis Results Interchange Format (SARIF) Version 2.1.0", OASIS.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::{CheckedProgram, Report, is_dependency, own_place, shorten};
use crate::analysis::analyze::{Body, Finding, PathStep};
use crate::program::debug::Place;
use crate::rules::baseline::without_numbers;
use crate::rules::verdict::{Severity, Verdict};

/// The name of the base of relative paths.
const ROOT: &str = "SRCROOT";

pub(crate) fn write(out: &mut impl Write, report: &Report, root: &Path, deny: &[Verdict]) -> Result<()> {
    let mut fingerprints = Fingerprints::default();
    let results: Vec<Value> = report
        .findings()
        .map(|(program, body, finding)| {
            let mut result = result(body, finding, root, deny);
            result["partialFingerprints"] = json!({ "bodyAndSinks/v2": fingerprints.of(program, body, finding) });
            result["properties"] = json!({
                "package": program.package,
                "target": program.target,
                "sinks": finding.sinks,
            });
            result
        })
        .collect();
    let document = json!({
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {
                "driver": {
                    "name": "cargo-netns-check",
                    "semanticVersion": env!("CARGO_PKG_VERSION"),
                    "rules": rules(),
                },
            },
            "originalUriBaseIds": { ROOT: { "uri": format!("file://{}/", escape(&root.display().to_string())) } },
            "columnKind": "utf16CodeUnits",
            "results": results,
            "properties": { "summary": report.summary, "build": report.build },
        }],
    });
    serde_json::to_writer_pretty(&mut *out, &document)?;
    writeln!(out)?;
    Ok(())
}

/// Identifies a result. It stays the same if the file is changed elsewhere, so it contains neither lines nor the
/// numbers of closures. Results that are otherwise equal are numbered.
#[derive(Default)]
struct Fingerprints {
    met: HashMap<String, usize>,
}

impl Fingerprints {
    fn of(&mut self, program: &CheckedProgram, body: &Body, finding: &Finding) -> String {
        let CheckedProgram { package, kind, target, .. } = program;
        let body = without_numbers(&body.name);
        let alike = format!("{package}/{kind}/{target}/{body}/{}/{}", finding.verdict, finding.sinks.join("+"));
        let number = self.met.entry(alike.clone()).or_default();
        *number += 1;
        format!("{alike}/{number}")
    }
}

fn rules() -> Vec<Value> {
    Verdict::WORST_FIRST
        .iter()
        .filter(|verdict| **verdict != Verdict::Clean)
        .map(|verdict| {
            let explanation = verdict.explanation();
            let first = explanation.split("\n\n").next().unwrap_or(explanation).replace('\n', " ");
            json!({
                "id": verdict.name(),
                "name": verdict.name(),
                "shortDescription": { "text": first },
                "fullDescription": { "text": explanation },
                "help": { "text": explanation },
                "defaultConfiguration": { "level": level(*verdict) },
            })
        })
        .collect()
}

fn level(verdict: Verdict) -> &'static str {
    match verdict.severity() {
        Severity::None => "none",
        Severity::Note => "note",
        Severity::Defect | Severity::Unsure => "warning",
    }
}

fn result(body: &Body, finding: &Finding, root: &Path, deny: &[Verdict]) -> Value {
    let verdict = finding.verdict;
    let rule = Verdict::WORST_FIRST.iter().position(|other| *other == verdict);
    let mut text = format!("{}: {}", body.name, finding.says);
    if let Some(hint) = &finding.hint {
        text = format!("{text} ({hint})");
    }
    let mut result = json!({
        "ruleId": verdict.name(),
        "ruleIndex": rule,
        "level": if finding.is_denied(deny) { "error" } else { level(verdict) },
        "message": { "text": text },
        "baselineState": if finding.known { "unchanged" } else { "new" },
    });
    if let Some(place) = own_place(root, body, finding) {
        result["locations"] = json!([{
            "physicalLocation": physical(place, root),
            "logicalLocations": [{ "fullyQualifiedName": body.name, "kind": "function" }],
        }]);
    }
    if !finding.path.is_empty() {
        let steps: Vec<Value> = finding.path.iter().map(|step| flow_step(step, root)).collect();
        result["codeFlows"] = json!([{ "threadFlows": [{ "locations": steps }] }]);
    }
    if let Some(reason) = &finding.allowed {
        result["suppressions"] = json!([{ "kind": "external", "status": "accepted", "justification": reason }]);
    }
    result
}

fn flow_step(step: &PathStep, root: &Path) -> Value {
    let by = step.by.as_ref().map(|by| format!("{by}: ")).unwrap_or_default();
    let mut location = json!({
        "message": { "text": format!("{by}{}", shorten(&step.function)) },
        "logicalLocations": [{ "fullyQualifiedName": step.function, "kind": "function" }],
    });
    if let Some(place) = &step.place {
        location["physicalLocation"] = physical(place, root);
    }
    let importance =
        if step.place.as_ref().is_some_and(|place| !is_dependency(&place.file)) { "essential" } else { "important" };
    json!({ "location": location, "importance": importance })
}

fn physical(place: &Place, root: &Path) -> Value {
    let artifact = match Path::new(&place.file).strip_prefix(root) {
        Ok(own) => json!({ "uri": escape(&own.display().to_string()), "uriBaseId": ROOT }),
        Err(_) if place.file.starts_with('/') => json!({ "uri": format!("file://{}", escape(&place.file)) }),
        Err(_) => json!({ "uri": escape(&place.file) }),
    };
    json!({ "artifactLocation": artifact, "region": { "startLine": place.line.max(1) } })
}

/// A path as a part of a URI.
fn escape(path: &str) -> String {
    let mut uri = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => uri.push(char::from(byte)),
            _ => uri.extend(format!("%{byte:02X}").chars()),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_a_uri() {
        assert_eq!(escape("/home/me/my app/src/a#b.rs"), "/home/me/my%20app/src/a%23b.rs");
    }
}
