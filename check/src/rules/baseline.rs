//! A baseline: an earlier report (`--format json`). What it has is known, and only what is new is denied.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::rules::verdict::Verdict;

/// The parts of a report that tell a finding from another.
#[derive(Deserialize)]
struct Report {
    programs: Vec<Program>,
}

#[derive(Deserialize)]
struct Program {
    bodies: Vec<Body>,
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

/// The sinks that are known, of each body and verdict. Paths and lines may change.
#[derive(Default)]
pub(crate) struct Baseline {
    /// Without a baseline nothing is known.
    known: HashMap<(String, Verdict), HashSet<String>>,
}

impl Baseline {
    pub(crate) fn read(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = fs::read_to_string(path)
            .with_context(|| format!("read the baseline {}: write it with `--format json > {0}`", path.display()))?;
        Self::parse(&text)
            .with_context(|| format!("read the baseline {}: it is a report of `--format json`", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let report: Report = serde_json::from_str(text)?;
        let mut known: HashMap<(String, Verdict), HashSet<String>> = HashMap::new();
        for body in report.programs.into_iter().flat_map(|program| program.bodies) {
            for finding in body.findings {
                known.entry((body.name.clone(), finding.verdict)).or_default().extend(finding.sinks);
            }
        }
        Ok(Self { known })
    }

    /// The first of the sinks that the baseline does not have; none where all are known.
    pub(crate) fn first_new<'s>(&self, body: &str, verdict: Verdict, sinks: &'s [String]) -> Option<&'s String> {
        let known = self.known.get(&(body.to_owned(), verdict));
        sinks.iter().find(|sink| known.is_none_or(|known| !known.contains(*sink)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sink_that_the_baseline_has_is_known() {
        let text = r#"{"programs": [{"bodies": [{"name": "app::f", "line": 3, "findings":
            [{"verdict": "HANDOVER", "sinks": ["rayon"], "says": "", "path": []}]}]}]}"#;
        let baseline = Baseline::parse(text).unwrap();
        let (rayon, tokio) = ("rayon".to_owned(), "tokio".to_owned());
        let both = [rayon.clone(), tokio.clone()];
        assert_eq!(baseline.first_new("app::f", Verdict::Handover, std::slice::from_ref(&rayon)), None);
        assert_eq!(baseline.first_new("app::f", Verdict::Handover, &both), Some(&tokio));
        assert_eq!(baseline.first_new("app::f", Verdict::Spawn, std::slice::from_ref(&rayon)), Some(&rayon));
        assert_eq!(baseline.first_new("app::g", Verdict::Handover, std::slice::from_ref(&rayon)), Some(&rayon));
    }

    #[test]
    fn a_file_that_is_not_a_report_is_refused() {
        assert!(Baseline::parse("{}").is_err());
        assert!(Baseline::parse("programs = []").is_err());
    }
}
