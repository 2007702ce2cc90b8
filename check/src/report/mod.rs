//! The report, for people or for other programs.

pub(crate) mod github;
pub(crate) mod output;
pub(crate) mod sarif;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anstyle::{AnsiColor, Style};
use anyhow::Result;
use serde::Serialize;

use crate::analysis::analyze::{Body, Finding, PathStep};
use crate::analysis::root::Origin;
use crate::program::debug::Place;
use crate::program::names;
use crate::rules::verdict::{Severity, Verdict};

/// Everything that was found, the worst first.
#[derive(Serialize)]
pub(crate) struct Report {
    /// The version of the format of this document.
    pub version: u32,
    pub summary: String,
    /// How the programs were built.
    pub build: String,
    pub canaries: usize,
    pub programs: Vec<CheckedProgram>,
    /// Allowances that allowed nothing.
    pub unused_allowances: Vec<String>,
}

/// One program.
#[derive(Serialize)]
pub(crate) struct CheckedProgram {
    pub package: String,
    pub target: String,
    pub kind: String,
    pub path: PathBuf,
    pub bodies: Vec<Body>,
}

/// The key by which bodies are sorted: the rank of the worst finding that counts, then the name.
fn order(body: &Body) -> (usize, usize, &str) {
    let rank = |all: bool| {
        let counts = body.findings.iter().filter(|finding| all || (finding.allowed.is_none() && !finding.known));
        counts.map(|finding| finding.verdict.rank()).min().unwrap_or(Verdict::Clean.rank())
    };
    (rank(false), rank(true), &body.name)
}

impl Report {
    pub(crate) fn new(
        canaries: usize,
        build: String,
        mut programs: Vec<CheckedProgram>,
        unused_allowances: Vec<String>,
    ) -> Self {
        for program in &mut programs {
            program.bodies.sort_by(|a, b| order(a).cmp(&order(b)));
        }
        let summary = summary(&programs, canaries);
        Self { version: 1, summary, build, canaries, programs, unused_allowances }
    }

    /// Every finding with its program and body.
    fn findings(&self) -> impl Iterator<Item = (&CheckedProgram, &Body, &Finding)> {
        self.programs.iter().flat_map(|program| {
            program
                .bodies
                .iter()
                .flat_map(move |body| body.findings.iter().map(move |finding| (program, body, finding)))
        })
    }

    /// The number of findings that `--deny` denies, and their verdicts, the worst first.
    pub(crate) fn denied(&self, deny: &[Verdict]) -> (usize, Vec<Verdict>) {
        let denied: Vec<_> =
            self.findings().map(|(_, _, finding)| finding).filter(|finding| finding.is_denied(deny)).collect();
        let has = |verdict: &Verdict| denied.iter().any(|finding| finding.verdict == *verdict);
        (denied.len(), Verdict::WORST_FIRST.into_iter().filter(has).collect())
    }

    pub(crate) fn json(&self, out: &mut impl Write) -> Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)?;
        Ok(())
    }

    /// Writes the report for people. `root`: the root of the workspace, to which paths are relative.
    pub(crate) fn human(&self, out: &mut impl Write, root: &Path, verbose: bool) -> io::Result<()> {
        let page = Page { root, verbose };
        writeln!(out, "{BOLD}{}{BOLD:#}", self.summary)?;
        for program in &self.programs {
            let CheckedProgram { package: _, target, kind, path: _, bodies } = program;
            writeln!(out, "\n{BOLD}{kind} {target}{BOLD:#}: {}", counted(bodies.len(), "body", "bodies"))?;
            for body in bodies {
                page.body(out, body)?;
            }
        }
        let is_region = |body: &Body| matches!(body.origin, Origin::Region(_));
        if self.programs.iter().flat_map(|program| &program.bodies).any(is_region) {
            writeln!(out, "\n{REGION_CAVEAT}")?;
        }
        if self.programs.iter().all(|program| program.bodies.is_empty()) {
            writeln!(out, "\n{NOTHING}")?;
        }
        for unused in &self.unused_allowances {
            writeln!(out, "\n{YELLOW}unused allowance{YELLOW:#}: {unused}. Nothing that was checked needs it")?;
        }
        Ok(())
    }
}

const REGION_CAVEAT: &str =
    "REGION: the function moves its own thread, by setns(2), unshare(2) or a guard. All that it reaches counts, also
what runs before it enters and after it left: the check does not follow the order of calls. A thread that is started
before the function enters, or on purpose, is no defect: allow it with a reason.";

const NOTHING: &str =
    "No code that enters another namespace was found in these programs. If there is such code, name it:
--root PATH for a function, --root-closure PATH for a function that is given the closure.";

impl Finding {
    fn is_denied(&self, deny: &[Verdict]) -> bool {
        self.allowed.is_none() && !self.known && deny.contains(&self.verdict)
    }
}

fn summary(programs: &[CheckedProgram], canaries: usize) -> String {
    let bodies: Vec<_> = programs.iter().flat_map(|program| &program.bodies).collect();
    let counts = Verdict::WORST_FIRST.iter().filter_map(|verdict| {
        let count =
            bodies.iter().filter(|body| body.verdicts.contains(verdict) || body.notes.contains(verdict)).count();
        (count > 0).then(|| format!("{count} {verdict}"))
    });
    let mut parts: Vec<_> = counts.collect();
    let with =
        |is: fn(&Finding) -> bool| bodies.iter().flat_map(|body| &body.findings).filter(|finding| is(finding)).count();
    for (count, what) in
        [(with(|finding| finding.allowed.is_some()), "allowed"), (with(|finding| finding.known), "known")]
    {
        if count > 0 {
            parts.push(format!("{} {what}", counted(count, "finding", "findings")));
        }
    }
    let list = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    let bodies = counted(bodies.len(), "body", "bodies");
    format!("{bodies}{list}; {} found", counted(canaries, "canary", "canaries"))
}

/// A number with its noun.
pub(crate) fn counted(count: usize, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const YELLOW: Style = AnsiColor::Yellow.on_default();

fn style(verdict: Verdict) -> Style {
    let color = match verdict.severity() {
        Severity::None => AnsiColor::Green,
        Severity::Note => AnsiColor::Cyan,
        Severity::Unsure => AnsiColor::Yellow,
        Severity::Defect => AnsiColor::Red,
    };
    color.on_default().bold()
}

struct Page<'p> {
    root: &'p Path,
    verbose: bool,
}

impl Page<'_> {
    fn body(&self, out: &mut impl Write, body: &Body) -> io::Result<()> {
        let mut verdicts = body.verdicts.clone();
        verdicts.sort_by_key(|verdict| verdict.rank());
        let verdicts: Vec<_> =
            verdicts.iter().map(|verdict| format!("{}{verdict}{:#}", style(*verdict), style(*verdict))).collect();
        let origin = match &body.origin {
            Origin::Call | Origin::Future => String::new(),
            Origin::Root => "  ROOT".to_owned(),
            Origin::Adapter(project) => format!("  ADAPTER {project}"),
            Origin::Region(by) => format!("  REGION {}", names::split(by).0),
        };
        let contained = if body.contained { " (contained)" } else { "" };
        let place = self.place(body.place.as_ref());
        writeln!(out, "\n  {}{origin}  {BOLD}{}{BOLD:#}{contained}{place}", verdicts.join(", "), body.name)?;
        let mut findings: Vec<_> = body.findings.iter().collect();
        findings.sort_by_key(|finding| finding.verdict.rank());
        for finding in findings {
            self.finding(out, finding)?;
        }
        Ok(())
    }

    fn finding(&self, out: &mut impl Write, finding: &Finding) -> io::Result<()> {
        let Finding { verdict, sink: _, sinks: _, says, hint, path, allowed, known } = finding;
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
        if *known {
            writeln!(out, "      known: it is in the baseline")?;
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
        place.map(|place| format!("  {DIM}{}:{}{DIM:#}", file(self.root, &place.file), place.line)).unwrap_or_default()
    }
}

/// The shortest name that identifies a file. In the workspace, the path relative to its root.
fn file(root: &Path, file: &str) -> String {
    if let Ok(own) = Path::new(file).strip_prefix(root) {
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

/// The first place of a finding that is in the workspace, where a user can change the code.
fn own_place<'f>(root: &Path, body: &'f Body, finding: &'f Finding) -> Option<&'f Place> {
    let own = |place: &&Place| Path::new(&place.file).starts_with(root) && !is_dependency(&place.file);
    let steps = || finding.path.iter().filter_map(|step| step.place.as_ref());
    steps().find(own).or_else(|| body.place.as_ref().filter(own)).or_else(|| steps().next()).or(body.place.as_ref())
}

fn is_dependency(file: &str) -> bool {
    file.contains("/registry/src/") || file.contains("/git/checkouts/") || file.starts_with("/rustc/")
}

/// Whether a step is between two others of the standard library, and reached by a plain call.
fn inside_std(path: &[PathStep], index: usize) -> bool {
    let of_std = |step: Option<&PathStep>| {
        step.is_some_and(|step| matches!(names::krate(&step.function), "std" | "core" | "alloc"))
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
            // The `<` at the beginning of `<T as Trait>::f` is kept.
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
        let name = |path| file(Path::new("/home/me/app"), path);
        assert_eq!(name("/home/me/app/src/main.rs"), "src/main.rs");
        assert_eq!(name("/home/me/.cargo/registry/src/index-1/tokio-1.47.0/src/lib.rs"), "tokio-1.47.0/src/lib.rs");
        assert_eq!(name("/rustc/59807616/library/std/src/thread.rs"), "library/std/src/thread.rs");
    }
}
