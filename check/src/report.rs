//! The report: for people, or as one JSON document.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anstyle::{AnsiColor, Style};
use anyhow::Result;
use serde::Serialize;

use crate::analysis::analyze::{Body, Finding, PathStep};
use crate::program::debug::Place;
use crate::rules::verdict::Verdict;

/// Everything that was found.
#[derive(Serialize)]
pub(crate) struct Report {
    /// Of this document's form.
    pub version: u32,
    pub canaries: usize,
    pub programs: Vec<CheckedProgram>,
    /// Allowances that allowed nothing.
    pub unused_allowances: Vec<String>,
}

/// One program.
#[derive(Serialize)]
pub(crate) struct CheckedProgram {
    pub target: String,
    pub kind: String,
    pub path: PathBuf,
    pub bodies: Vec<Body>,
}

impl Report {
    /// The findings that `--deny` is about.
    pub(crate) fn denied(&self, deny: &[Verdict]) -> usize {
        let findings = self.programs.iter().flat_map(|program| &program.bodies).flat_map(|body| &body.findings);
        findings.filter(|finding| finding.allowed.is_none() && deny.contains(&finding.verdict)).count()
    }

    pub(crate) fn json(&self, out: &mut impl Write) -> Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)?;
        Ok(())
    }

    /// `root`: of the workspace, to which paths are relative.
    pub(crate) fn human(&self, out: &mut impl Write, root: &Path, verbose: bool) -> io::Result<()> {
        let page = Page { root, verbose };
        for program in &self.programs {
            let CheckedProgram { target, kind, path: _, bodies } = program;
            writeln!(out, "{BOLD}{kind} {target}{BOLD:#}: {} bodies", bodies.len())?;
            for body in bodies {
                page.body(out, body)?;
            }
            writeln!(out)?;
        }
        for unused in &self.unused_allowances {
            writeln!(out, "{YELLOW}unused allowance{YELLOW:#}: {unused}. Nothing that was checked needs it")?;
        }
        writeln!(out, "{}", self.summary())
    }

    fn summary(&self) -> String {
        let bodies: Vec<_> = self.programs.iter().flat_map(|program| &program.bodies).collect();
        let counts = Verdict::ALL.iter().filter_map(|verdict| {
            let count = bodies.iter().filter(|body| body.verdicts.contains(verdict)).count();
            (count > 0).then(|| format!("{count} {verdict}"))
        });
        let counts: Vec<_> = counts.collect();
        format!("{} bodies: {}; {} canaries found", bodies.len(), counts.join(", "), self.canaries)
    }
}

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const YELLOW: Style = AnsiColor::Yellow.on_default();

fn style(verdict: Verdict) -> Style {
    let color = match verdict {
        Verdict::Clean => AnsiColor::Green,
        Verdict::Scoped => AnsiColor::Cyan,
        Verdict::Spawn | Verdict::Handover => AnsiColor::Red,
        Verdict::Channel | Verdict::Unknown => AnsiColor::Yellow,
    };
    color.on_default().bold()
}

struct Page<'p> {
    root: &'p Path,
    verbose: bool,
}

impl Page<'_> {
    fn body(&self, out: &mut impl Write, body: &Body) -> io::Result<()> {
        let verdicts: Vec<_> =
            body.verdicts.iter().map(|verdict| format!("{}{verdict}{:#}", style(*verdict), style(*verdict))).collect();
        let contained = if body.contained { " (contained)" } else { "" };
        let place = self.place(body.place.as_ref());
        writeln!(out, "\n  {}  {BOLD}{}{BOLD:#}{contained}{place}", verdicts.join(", "), body.name)?;
        for finding in &body.findings {
            self.finding(out, finding)?;
        }
        Ok(())
    }

    fn finding(&self, out: &mut impl Write, finding: &Finding) -> io::Result<()> {
        let Finding { verdict, sink: _, says, hint, path, allowed } = finding;
        let style = style(*verdict);
        writeln!(out, "    {style}{verdict}{style:#} {says}")?;
        if let Some(hint) = hint {
            writeln!(out, "      {YELLOW}{hint}{YELLOW:#}")?;
        }
        if let Some(reason) = allowed {
            writeln!(out, "      allowed: {reason}")?;
            if !self.verbose {
                return Ok(());
            }
        }
        let mut left_out = 0;
        for (index, step) in path.iter().enumerate() {
            if !self.verbose && inside_std(path, index) {
                left_out += 1;
                continue;
            }
            if left_out > 0 {
                writeln!(out, "        {DIM}… {left_out} more in the standard library{DIM:#}")?;
                left_out = 0;
            }
            let by = step.by.as_ref().map(|by| format!("{YELLOW}{by}{YELLOW:#} ")).unwrap_or_default();
            let function = if self.verbose { step.function.clone() } else { shorten(&step.function) };
            let arrow = if index == 0 { "  " } else { "→ " };
            writeln!(out, "      {arrow}{by}{function}{}", self.place(step.place.as_ref()))?;
        }
        Ok(())
    }

    fn place(&self, place: Option<&Place>) -> String {
        place.map(|place| format!("  {DIM}{}:{}{DIM:#}", self.file(&place.file), place.line)).unwrap_or_default()
    }

    /// A file by the shortest name that says which it is.
    fn file(&self, file: &str) -> String {
        if let Ok(own) = Path::new(file).strip_prefix(self.root) {
            return own.display().to_string();
        }
        for (folder, skip) in [("/registry/src/", 1), ("/git/checkouts/", 0)] {
            if let Some((_, rest)) = file.split_once(folder) {
                return rest.splitn(skip + 1, '/').last().unwrap_or(rest).to_owned();
            }
        }
        match file.strip_prefix("/rustc/").and_then(|rest| rest.split_once('/')) {
            Some((_, library)) => library.to_owned(),
            None => file.to_owned(),
        }
    }
}

/// A function between two others of the standard library, reached by a plain call.
fn inside_std(path: &[PathStep], index: usize) -> bool {
    let of_std = |step: Option<&PathStep>| {
        step.is_some_and(|step| matches!(crate::program::names::krate(&step.function), "std" | "core" | "alloc"))
    };
    let step = &path[index];
    index > 0 && step.by.is_none() && of_std(path.get(index - 1)) && of_std(Some(step)) && path.get(index + 1).is_some()
}

/// A path without the generic arguments in it, which can be pages long; a type that implements a trait keeps its name.
fn shorten(path: &str) -> String {
    let mut short = String::new();
    let mut depth = 0_usize;
    let mut previous = ' ';
    for c in path.chars() {
        match c {
            // `<T as Trait>::f` begins with one: it is kept.
            '<' if depth == 0 && (short.is_empty() || short.ends_with(['<', '&', ' ', '('])) => {
                short.push(c);
            }
            '<' => depth += 1,
            '>' if previous == '-' && depth > 0 => {}
            '>' if previous == '-' => short.push(c),
            '>' if depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    short = short.trim_end_matches("::").to_owned();
                    short.push_str("<…>");
                }
            }
            _ if depth == 0 => short.push(c),
            _ => {}
        }
        previous = c;
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(function: &str) -> PathStep {
        PathStep { function: function.to_owned(), place: None, by: None }
    }

    #[test]
    fn a_path_is_shortened_by_its_generic_arguments() {
        assert_eq!(shorten("app::run::<app::main::{closure#0}, ()>"), "app::run<…>");
        assert_eq!(
            shorten("<std::sync::mpsc::Sender<Box<dyn Fn() -> u8>>>::send"),
            "<std::sync::mpsc::Sender<…>>::send"
        );
        assert_eq!(shorten("<app::Threaded as app::Backend>::begin"), "<app::Threaded as app::Backend>::begin");
        assert_eq!(shorten("pthread_create"), "pthread_create");
    }

    #[test]
    fn the_middle_of_the_standard_library_is_left_out_and_its_ends_are_not() {
        let path =
            ["app::f", "std::thread::spawn", "<std::a>::b", "<std::sys::Thread>::new", "pthread_create"].map(step);
        let left_out: Vec<_> = (0..path.len()).map(|index| inside_std(&path, index)).collect();
        assert_eq!(left_out, [false, false, true, true, false]);
    }

    #[test]
    fn a_file_is_named_by_what_it_belongs_to() {
        let page = Page { root: Path::new("/home/me/app"), verbose: false };
        assert_eq!(page.file("/home/me/app/src/main.rs"), "src/main.rs");
        assert_eq!(
            page.file("/home/me/.cargo/registry/src/index-1/tokio-1.47.0/src/lib.rs"),
            "tokio-1.47.0/src/lib.rs"
        );
        assert_eq!(page.file("/rustc/59807616/library/std/src/thread.rs"), "library/std/src/thread.rs");
    }
}
