//! Annotations for GitHub's workflows: one line for each finding.
//!
//! References: "Workflow commands for GitHub Actions", in GitHub's documentation.

use std::io::Write;
use std::path::Path;

use anyhow::Result;

use super::{Report, own_place, shorten};
use crate::rules::verdict::{Severity, Verdict};

pub(crate) fn write(out: &mut impl Write, report: &Report, root: &Path, deny: &[Verdict]) -> Result<()> {
    for (_, body, finding) in report.findings() {
        if finding.allowed.is_some() || finding.known {
            continue;
        }
        let command = match finding.verdict.severity() {
            _ if finding.is_denied(deny) => "error",
            Severity::Defect | Severity::Unsure => "warning",
            Severity::Note | Severity::None => "notice",
        };
        let mut properties = Vec::new();
        if let Some(place) = own_place(root, body, finding) {
            properties.push(format!("file={}", property(&super::file(root, &place.file))));
            properties.push(format!("line={}", place.line));
        }
        properties.push(format!("title={}", property(&format!("netns-check: {}", finding.verdict))));
        let steps: Vec<_> = finding.path.iter().map(|step| shorten(&step.function)).collect();
        let mut text = format!("{}: {}", body.name, finding.says);
        if let Some(hint) = &finding.hint {
            text.push('\n');
            text.push_str(hint);
        }
        if !steps.is_empty() {
            text.push('\n');
            text.push_str(&steps.join("\n→ "));
        }
        writeln!(out, "::{command} {}::{}", properties.join(","), data(&text))?;
    }
    writeln!(out, "{}", report.summary)?;
    Ok(())
}

/// The text of a command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// The value of a command's property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_command_or_a_property_is_escaped() {
        assert_eq!(data("100%\nmore"), "100%25%0Amore");
        assert_eq!(property("a:b,c"), "a%3Ab%2Cc");
    }
}
