//! The findings that a project allows, each with its reason: `[package.metadata.netns-check]`, or
//! `[workspace.metadata.netns-check]` for all packages. The allowances of a package apply only to its own programs.
//!
//! ```toml
//! [[package.metadata.netns-check.allow]]
//! body = "app::status::serve*"
//! verdict = "SPAWN"
//! via = "<notify::*"
//! reason = "the watcher is dropped, and its thread with it, before the body returns"
//! ```

use std::cell::Cell;
use std::rc::Rc;

use anyhow::{Context as _, Result, bail};
use cargo_metadata::Metadata;
use regex::Regex;
use serde::Deserialize;

use crate::rules::verdict::Verdict;

const KEY: &str = "netns-check";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    #[serde(default)]
    allow: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    body: String,
    verdict: Verdict,
    via: Option<String>,
    reason: String,
}

/// An allowance.
pub(crate) struct Allowance {
    /// The package to whose programs it applies; none: all.
    package: Option<String>,
    /// Its description, for messages.
    pub written: String,
    body: Regex,
    verdict: Verdict,
    /// It applies only to paths through a function that matches.
    pub via: Option<Regex>,
    pub reason: String,
    used: Cell<bool>,
}

pub(crate) struct Allowances(Vec<Rc<Allowance>>);

impl Allowances {
    /// Reads those of every package of the workspace, and of the workspace itself.
    pub(crate) fn read(metadata: &Metadata) -> Result<Self> {
        let mut all = Vec::new();
        let sections = metadata
            .workspace_packages()
            .into_iter()
            .map(|package| (Some(package.name.as_str()), &package.metadata))
            .chain([(None, &metadata.workspace_metadata)]);
        for (package, section) in sections {
            let Some(section) = section.get(KEY) else {
                continue;
            };
            let unreadable = || {
                let of = package.map_or_else(|| "workspace".to_owned(), |name| format!("package `{name}`"));
                format!("read `metadata.{KEY}` of the {of} in its Cargo.toml")
            };
            let section = Section::deserialize(section).with_context(unreadable)?;
            for entry in section.allow {
                all.push(Rc::new(Allowance::new(entry, package).with_context(unreadable)?));
            }
        }
        Ok(Self(all))
    }

    /// Those for the programs of this package.
    pub(crate) fn of_package(&self, package: &str) -> Self {
        let holds = |allowance: &&Rc<Allowance>| allowance.package.as_deref().is_none_or(|own| own == package);
        Self(self.0.iter().filter(holds).cloned().collect())
    }

    /// Those for this body and verdict.
    pub(crate) fn for_body(&self, body: &str, verdict: Verdict) -> Vec<&Allowance> {
        let fits = |allowance: &&Allowance| allowance.verdict == verdict && allowance.body.is_match(body);
        self.0.iter().map(Rc::as_ref).filter(fits).collect()
    }

    /// Those that allowed nothing, and may be out of date.
    pub(crate) fn unused(&self) -> impl Iterator<Item = &Allowance> {
        self.0.iter().map(Rc::as_ref).filter(|allowance| !allowance.used.get())
    }
}

impl Allowance {
    fn new(entry: Entry, package: Option<&str>) -> Result<Self> {
        let Entry { body, verdict, via, reason } = entry;
        if reason.trim().is_empty() {
            bail!("the allowance of {verdict} for `{body}` has no reason: say why it is right, for the next reader");
        }
        Ok(Self {
            package: package.map(str::to_owned),
            written: format!("{verdict} for `{body}`"),
            body: wildcard(&body)?,
            verdict,
            via: via.as_deref().map(wildcard).transpose()?,
            reason,
            used: Cell::new(false),
        })
    }

    pub(crate) fn mark_used(&self) {
        self.used.set(true);
    }
}

/// A path in which `*` stands for anything.
pub(crate) fn wildcard(pattern: &str) -> Result<Regex> {
    let pattern = regex::escape(pattern).replace(r"\*", ".*");
    Ok(Regex::new(&format!("^{pattern}$"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> Result<Rc<Allowance>> {
        Allowance::new(toml::from_str(text)?, None).map(Rc::new)
    }

    #[test]
    fn a_body_is_named_by_its_path_with_stars() {
        let all = Allowances(vec![
            entry("body = 'app::status::*'\nverdict = 'SPAWN'\nreason = 'it is joined'").unwrap(),
            entry("body = 'app::f::{closure#0}'\nverdict = 'HANDOVER'\nreason = 'own runtime'").unwrap(),
        ]);
        assert_eq!(all.for_body("app::status::serve::{closure#0}", Verdict::Spawn).len(), 1);
        assert!(all.for_body("app::status::serve", Verdict::Handover).is_empty());
        assert_eq!(all.for_body("app::f::{closure#0}", Verdict::Handover).len(), 1);
        all.for_body("app::f::{closure#0}", Verdict::Handover)[0].mark_used();
        assert_eq!(
            all.unused().map(|allowance| allowance.written.as_str()).collect::<Vec<_>>(),
            ["SPAWN for `app::status::*`"]
        );
    }

    #[test]
    fn an_allowance_without_a_reason_is_refused() {
        let error = entry("body = 'f'\nverdict = 'SPAWN'\nreason = ' '").err().unwrap();
        assert!(error.to_string().contains("no reason"), "{error}");
        assert!(entry("body = 'f'\nverdict = 'SPAWN'").is_err());
    }
}
