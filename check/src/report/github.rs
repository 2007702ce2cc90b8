//! Annotations for GitHub's workflows: one line for each finding.
//!
//! References: "Workflow commands for GitHub Actions", in GitHub's documentation.

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Report, own_place, shorten};
use crate::rules::verdict::{Severity, Verdict};

/// The folders for the paths in annotations, which are relative to the root of the repository. The workspace may be a
/// folder in it.
pub(crate) struct Files {
    workspace: PathBuf,
    repository: PathBuf,
}

impl Files {
    /// For the workspace at `root`.
    pub(crate) fn of(root: &Path) -> Self {
        let checkout = env::var_os("GITHUB_WORKSPACE").filter(|checkout| !checkout.is_empty()).map(PathBuf::from);
        let repository = checkout
            .and_then(|checkout| above(root, &checkout))
            .or_else(|| root.ancestors().find(|folder| folder.join(".git").exists()))
            .unwrap_or(root);
        Self { workspace: root.to_owned(), repository: repository.to_owned() }
    }
}

/// The ancestor of `root` that is the folder `checkout`, which may be written by another path.
fn above<'r>(root: &'r Path, checkout: &Path) -> Option<&'r Path> {
    let checkout = fs::canonicalize(checkout).ok()?;
    root.ancestors().find(|folder| fs::canonicalize(folder).is_ok_and(|folder| folder == checkout))
}

pub(crate) fn write(out: &mut impl Write, report: &Report, files: &Files, deny: &[Verdict]) -> Result<()> {
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
        if let Some(place) = own_place(&files.workspace, body, finding) {
            properties.push(format!("file={}", property(&super::file(&files.repository, &place.file))));
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
    fn a_checkout_is_found_above_the_workspace_however_it_is_written() {
        let top = env::temp_dir().join(format!("netns-check-checkout-{}", std::process::id()));
        let root = top.join("checkout/tools/app");
        fs::create_dir_all(&root).unwrap();
        std::os::unix::fs::symlink(top.join("checkout"), top.join("link")).unwrap();
        for written in ["checkout", "link", "checkout/tools/.."] {
            assert_eq!(above(&root, &top.join(written)), Some(&*top.join("checkout")), "{written}");
        }
        assert_eq!(above(&top.join("link/tools/app"), &top.join("checkout")), Some(&*top.join("link")));
        assert_eq!(above(&root, &top.join("elsewhere")), None);
        fs::remove_dir_all(&top).unwrap();
    }

    #[test]
    fn what_would_end_a_command_or_a_property_is_escaped() {
        assert_eq!(data("100%\nmore"), "100%25%0Amore");
        assert_eq!(property("a:b,c"), "a%3Ab%2Cc");
    }
}
