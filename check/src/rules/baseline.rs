//! A baseline: an earlier report (`--format json`). Its findings are known, and only new ones are denied.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::rules::verdict::Verdict;

/// The parts of a report that identify findings.
#[derive(Deserialize)]
struct Report {
    programs: Vec<CheckedProgram>,
}

#[derive(Deserialize)]
struct CheckedProgram {
    #[serde(flatten)]
    program: Program,
    bodies: Vec<Body>,
}

/// Identifies a program.
#[derive(Clone, PartialEq, Eq, Hash, Deserialize)]
struct Program {
    /// Reports of earlier versions have none.
    package: Option<String>,
    kind: String,
    target: String,
}

#[derive(Deserialize)]
struct Body {
    name: String,
    findings: Vec<Finding>,
}

#[derive(Deserialize)]
struct Finding {
    verdict: Verdict,
    sinks: Vec<String>,
}

/// The baselines of all programs. Without a file there are none.
#[derive(Default)]
pub(crate) struct Baselines(HashMap<Program, Rc<Baseline>>);

/// The known findings of one program: how many bodies of a name have a verdict and a sink. Paths and lines may change.
#[derive(Default)]
pub(crate) struct Baseline {
    /// The counts, reduced by the bodies that were found already.
    known: RefCell<HashMap<(String, Verdict, String), usize>>,
}

impl Baselines {
    pub(crate) fn read(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = fs::read_to_string(path)
            .with_context(|| format!("read the baseline {}: write it with `--format json > {0}`", path.display()))?;
        Self::parse(&text)
            .with_context(|| format!("read the baseline {}: it is a report of `--format json`", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let report: Report = serde_json::from_str(text)?;
        let mut all: HashMap<Program, Rc<Baseline>> = HashMap::new();
        for CheckedProgram { program, bodies } in report.programs {
            let mut known = all.entry(program).or_default().known.borrow_mut();
            for Body { name, findings } in bodies {
                let name = without_numbers(&name);
                for Finding { verdict, sinks } in findings {
                    for sink in sinks {
                        *known.entry((name.clone(), verdict, sink)).or_default() += 1;
                    }
                }
            }
        }
        Ok(Self(all))
    }

    pub(crate) fn of_program(&self, package: &str, kind: &str, target: &str) -> Rc<Baseline> {
        let program = |package| Program { package, kind: kind.to_owned(), target: target.to_owned() };
        let found = self.0.get(&program(Some(package.to_owned()))).or_else(|| self.0.get(&program(None)));
        found.cloned().unwrap_or_default()
    }
}

impl Baseline {
    /// The first of the sinks that the baseline does not have. None if all are known; the counts are then reduced by
    /// this body.
    pub(crate) fn first_new<'s>(&self, body: &str, verdict: Verdict, sinks: &'s [String]) -> Option<&'s String> {
        let body = without_numbers(body);
        let key = |sink: &String| (body.clone(), verdict, sink.clone());
        let mut known = self.known.borrow_mut();
        let new = sinks.iter().find(|sink| known.get(&key(sink)).is_none_or(|bodies| *bodies == 0));
        if new.is_none() {
            for sink in sinks {
                known.entry(key(sink)).and_modify(|bodies| *bodies = bodies.saturating_sub(1));
            }
        }
        new
    }
}

/// The path of a body without the numbers of closures, which a closure before it changes.
pub(crate) fn without_numbers(body: &str) -> String {
    const CLOSURE: &str = "{closure";
    let mut parts = body.split("{closure#");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |path, part| path + CLOSURE + part.trim_start_matches(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(verdict: Verdict, sink: &str) -> impl Fn(&Baseline, &str) -> bool {
        let sinks = [sink.to_owned()];
        move |baseline, body| baseline.first_new(body, verdict, &sinks).is_none()
    }

    #[test]
    fn only_a_sink_that_the_baseline_has_is_known() {
        let text = r#"{"programs": [{"package": "app", "kind": "bin", "target": "app", "bodies": [{"name": "app::f",
            "line": 3, "findings": [{"verdict": "HANDOVER", "sinks": ["rayon"], "says": "", "path": []}]}]}]}"#;
        let baselines = Baselines::parse(text).unwrap();
        let baseline = baselines.of_program("app", "bin", "app");
        let both = ["rayon".to_owned(), "tokio".to_owned()];
        assert_eq!(baseline.first_new("app::f", Verdict::Handover, &both), Some(&both[1]));
        assert!(!one(Verdict::Spawn, "rayon")(&baseline, "app::f"));
        assert!(!one(Verdict::Handover, "rayon")(&baseline, "app::g"));
        assert!(one(Verdict::Handover, "rayon")(&baseline, "app::f"));
        for (package, kind, target) in [("other", "bin", "app"), ("app", "test", "app"), ("app", "bin", "other")] {
            let baseline = baselines.of_program(package, kind, target);
            assert!(!one(Verdict::Handover, "rayon")(&baseline, "app::f"), "{package} {kind} {target}");
        }
    }

    #[test]
    fn as_many_closures_are_known_as_the_baseline_has_whatever_their_numbers() {
        let text = r#"{"programs": [{"kind": "bin", "target": "app", "bodies": [
            {"name": "app::f::{closure#0}", "findings": [{"verdict": "SPAWN", "sinks": ["threads"]}]},
            {"name": "app::f::{closure#2}", "findings": [{"verdict": "SPAWN", "sinks": ["threads"]}]}]}]}"#;
        let baseline = Baselines::parse(text).unwrap().of_program("app", "bin", "app");
        let is_known = one(Verdict::Spawn, "threads");
        let known = ["app::f::{closure#1}", "app::f::{closure#3}", "app::f::{closure#14}"];
        assert_eq!(known.map(|body| is_known(&baseline, body)), [true, true, false]);
        assert_eq!(without_numbers("app::f::{closure#0}::{closure#12}::g"), "app::f::{closure}::{closure}::g");
    }

    #[test]
    fn a_file_that_is_not_a_report_is_refused() {
        assert!(Baselines::parse("{}").is_err());
        assert!(Baselines::parse("programs = []").is_err());
    }
}
