//! `cargo netns-check`: finds, ahead of time, what code that runs in another network namespace can reach.
//!
//! `options` and `build` make the programs. `program` reads one: symbols and relocations, the graph of references,
//! debug information. `rules` has the tables and what the project says. `analysis` finds the bodies, searches from
//! each, and makes findings. `report` writes them.

mod analysis;
mod build;
mod options;
mod program;
mod report;
mod rules;

use std::collections::HashSet;
use std::fmt;
use std::io::Write as _;
use std::mem;
use std::panic::resume_unwind;
use std::process::ExitCode;
use std::thread;

use anyhow::{Context as _, Result, bail};

use crate::analysis::functions::Functions;
use crate::analysis::guards::Guards;
use crate::analysis::root::Root;
use crate::analysis::{analyze, canary, roots, search};
use crate::build::Built;
use crate::options::{Format, Options};
use crate::program::debug::Debug;
use crate::program::split::Split;
use crate::program::{graph, image};
use crate::report::output::Output;
use crate::report::{CheckedProgram, Report};
use crate::rules::allow::Allowances;
use crate::rules::baseline::Baselines;
use crate::rules::sinks::Table;
use crate::rules::verdict::Verdict;

/// The exit status if a denied verdict was found.
const DENIED: u8 = 1;
/// The exit status if the check could not decide.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let result = build::wrapper().unwrap_or_else(|| check(&Options::read()));
    result.unwrap_or_else(|error| {
        write_line(format_args!("{ERROR}error{ERROR:#}: {error:#}"));
        ExitCode::from(FAILED)
    })
}

/// Writes a line to stderr, beside the report. A failure to write is ignored: the exit status says the same.
fn write_line(line: fmt::Arguments<'_>) {
    let _ = writeln!(anstream::stderr(), "{line}");
}

const ERROR: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();
const STATUS: anstyle::Style = anstyle::AnsiColor::Green.on_default().bold();

fn check(options: &Options) -> Result<ExitCode> {
    match options.color {
        clap::ColorChoice::Auto => {}
        clap::ColorChoice::Always => anstream::ColorChoice::Always.write_global(),
        clap::ColorChoice::Never => anstream::ColorChoice::Never.write_global(),
    }
    let mut out = Output::new(anstream::stdout());
    if let Some(verdict) = options.explain {
        writeln!(out, "{}", verdict.explanation())?;
        return Ok(ExitCode::SUCCESS);
    }
    if options.print_sinks {
        writeln!(out, "{}", Table::built_in())?;
        return Ok(ExitCode::SUCCESS);
    }
    let (table, metadata, target) = thread::scope(|scope| {
        let metadata = scope.spawn(|| build::metadata(options, false));
        let target = scope.spawn(|| build::refuse_other_architectures(options));
        let table = Table::load(options.sinks.as_deref());
        let metadata = metadata.join().unwrap_or_else(|panic| resume_unwind(panic));
        let target = target.join().unwrap_or_else(|panic| resume_unwind(panic));
        (table, metadata, target)
    });
    let (table, metadata) = (table?, metadata?);
    target?;
    let allowances = Allowances::read(&metadata)?;
    let baselines = Baselines::read(options.baseline.as_deref())?;
    let wanted = options.wanted()?;
    let status = |verb: &str, what: &str| {
        if !options.quiet {
            write_line(format_args!("{STATUS}{verb:>12}{STATUS:#} {what}"));
        }
    };
    let profile = build::Profile::of(options, &metadata)?;
    status("Building", &profile.description());
    let known_names = build::names_file(options, &metadata, &profile);
    let built = thread::scope(|scope| {
        // Most names are those of the previous run, which are read while the compiler runs.
        scope.spawn(|| table.recall(&known_names));
        build::build(options, &metadata, &profile)
    })?;
    status("Checking", "that the table of sinks holds for these libraries");
    let canaries = canary::check(&table, &built)?;
    let rules = Rules { table, allowances, baselines, wanted };
    let mut programs = Vec::new();
    let mut named = HashSet::new();
    for (index, program) in built.programs.iter().enumerate() {
        status("Checking", &format!("{} `{}`", program.kind, program.target));
        let last = index + 1 == built.programs.len();
        programs.push(analyze_program(program, &built, &rules, options, &mut named, last)?);
    }
    roots::refuse_unknown(&rules.wanted, |pattern| named.contains(&pattern.written))?;
    if let Some(text) = options.body.as_ref().filter(|text| !named.contains(*text)) {
        bail!(
            "--body {text}: no body of the programs that were checked has such a path. Without --body the report has \
             all of them"
        );
    }
    let unused_allowances = rules.allowances.unused().map(|allowance| allowance.written.clone()).collect();
    let report = Report::new(canaries, profile.description(), programs, unused_allowances);
    let root = metadata.workspace_root.as_std_path();
    match options.format {
        Format::Json => report.json(&mut out)?,
        Format::Human => report.human(&mut out, root, options.verbose)?,
        Format::Sarif => report::sarif::write(&mut out, &report, root, &options.deny)?,
        Format::Github => {
            let files = report::github::Files::of(root);
            report::github::write(&mut out, &report, &files, &options.deny)?;
        }
    }
    out.flush()?;
    rules.table.remember(&known_names);
    let (denied, verdicts) = report.denied(&options.deny);
    if denied > 0 {
        let verdicts: Vec<_> = verdicts.into_iter().map(Verdict::name).collect();
        let denied = report::counted(denied, "finding is", "findings are");
        write_line(format_args!(
            "{ERROR}error{ERROR:#}: {denied} denied ({}). --explain VERDICT says what to do",
            verdicts.join(", ")
        ));
        return Ok(ExitCode::from(DENIED));
    }
    Ok(ExitCode::SUCCESS)
}

/// The rules for all programs.
struct Rules {
    table: Table,
    allowances: Allowances,
    baselines: Baselines,
    wanted: roots::Wanted,
}

/// Analyzes one program. `named` gains the user's patterns that match a function of it, and the text of `--body` if it
/// matches a body. `last`: the process ends soon, so what is known of the program is not freed.
fn analyze_program(
    built: &build::Executable,
    whole: &Built,
    rules: &Rules,
    options: &Options,
    named: &mut HashSet<String>,
    last: bool,
) -> Result<CheckedProgram> {
    let Rules { table, allowances, baselines, wanted } = rules;
    let allowances = allowances.of_package(&built.package);
    let baseline = baselines.of_program(&built.package, &built.kind, &built.target);
    let program = image::Program::read(&built.path)?;
    let image = program.image()?;
    let graph = graph::Graph::new(&image);
    let functions = Functions::new(&graph, table);
    let unreadable = || format!("read {}", program.path.display());
    let split = Split::of(&image, &whole.debug_folders).with_context(unreadable)?;
    let mut debug = Debug::new(&image, &split, &whole.crates).with_context(unreadable)?;
    let context = search::Context::new(&graph, &functions, table, &debug);
    let mut found = roots::find(&graph, &functions, table, &debug, wanted);
    named.extend(found.named.drain(..));
    let guards = Guards::of(&found, &graph, table, &debug);
    let mut held = debug.held_across_await(&guards.types(), |r#type| guards.is(r#type));
    held.retain(|held| guards.are_dropped_with(&graph, table, held.poll));
    let futures: Vec<Root> = held.iter().filter_map(|held| analyze::future(&context, &debug, held)).collect();
    for future in futures {
        let of_this = |root: &Root| root.functions.iter().any(|function| future.functions.contains(function));
        if !found.roots.iter().any(of_this) {
            found.roots.push(future);
        }
    }
    let selected = |root: &&Root| options.body.as_ref().is_none_or(|text| root.name.contains(text));
    if found.roots.iter().any(|root| selected(&root)) {
        named.extend(options.body.clone());
    }
    let starts = found.roots.iter().filter(selected).flat_map(|root| root.functions.iter().copied());
    search::prepare(&graph, &functions, table, starts.collect());
    let bodies = found
        .roots
        .iter()
        .filter(selected)
        .filter_map(|root| {
            let polls: Vec<u64> = root.functions.iter().map(|function| image.address(*function)).collect();
            let held: Vec<_> = held.iter().filter(|held| polls.contains(&held.poll)).collect();
            let body = analyze::analyze(&context, &debug, root, &held, &allowances, &baseline);
            (!root.only_if_found || !body.findings.is_empty()).then_some(body)
        })
        .collect();
    if last {
        mem::forget((context, found));
    }
    debug.finish().with_context(unreadable)?;
    if last {
        mem::forget((debug, functions, graph));
    }
    Ok(CheckedProgram {
        package: built.package.clone(),
        target: built.target.clone(),
        kind: built.kind.clone(),
        path: built.path.clone(),
        bodies,
    })
}
