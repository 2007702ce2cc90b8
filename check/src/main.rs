//! `cargo netns-check`: finds, ahead of time, what the bodies of `in-netns` calls can reach.
//!
//! The modules are the steps, in their order: `options`, `build`, then `image` (the program as it was linked), `graph`
//! (who refers to whom), `roots` (the bodies), `sinks` (the table), `canary` (whether the table holds), `search`,
//! `judge` (verdicts and paths, with `debug` for files and lines and `allow` for what the project allows), `report`.

mod analysis;
mod build;
mod options;
mod program;
mod report;
mod rules;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::analysis::{analyze, roots, search};
use crate::options::{Format, Options};
use crate::program::{debug, graph, image};
use crate::report::{CheckedProgram, Report};
use crate::rules::allow::Allowances;
use crate::rules::canary;
use crate::rules::sinks::Table;

/// A denied verdict was found.
const DENIED: u8 = 1;
/// The check could not judge.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let result = build::wrapper().unwrap_or_else(|| check(&Options::read()));
    result.unwrap_or_else(|error| {
        anstream::eprintln!("{}error{:#}: {error:#}", ERROR, ERROR);
        ExitCode::from(FAILED)
    })
}

const ERROR: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();
const STATUS: anstyle::Style = anstyle::AnsiColor::Green.on_default().bold();

fn check(options: &Options) -> Result<ExitCode> {
    match options.color {
        clap::ColorChoice::Auto => {}
        clap::ColorChoice::Always => anstream::ColorChoice::Always.write_global(),
        clap::ColorChoice::Never => anstream::ColorChoice::Never.write_global(),
    }
    let mut out = anstream::stdout();
    if let Some(verdict) = options.explain {
        writeln!(out, "{}", verdict.explanation())?;
        return Ok(ExitCode::SUCCESS);
    }
    if options.print_sinks {
        writeln!(out, "{}", Table::built_in())?;
        return Ok(ExitCode::SUCCESS);
    }
    if options.release {
        bail!(
            "--release optimises: an optimiser puts functions into each other, and with them the calls that are looked for. Leave it out"
        );
    }
    let table = Table::load(options.sinks.as_deref())?;
    let metadata = build::metadata(options)?;
    let allowances = Allowances::read(&metadata)?;
    let status = |verb: &str, what: &str| {
        if !options.quiet {
            anstream::eprintln!("{STATUS}{verb:>12}{STATUS:#} {what}");
        }
    };
    status("Building", "unoptimised, for the check");
    let built = build::build(options, &metadata)?;
    status("Checking", "that the table of sinks holds for these libraries");
    let canaries = canary::check(&table, &built, options.target.as_deref())?;
    let mut programs = Vec::new();
    for program in &built.programs {
        status("Checking", &format!("{} `{}`", program.kind, program.target));
        programs.push(analyze_program(program, &table, &allowances, options)?);
    }
    let unused_allowances = allowances.unused().map(|allowance| allowance.written.clone()).collect();
    let report = Report { version: 1, canaries, programs, unused_allowances };
    match options.format {
        Format::Json => report.json(&mut out)?,
        Format::Human => report.human(&mut out, metadata.workspace_root.as_std_path(), options.verbose)?,
    }
    out.flush()?;
    let denied = report.denied(&options.deny);
    if denied > 0 {
        let verdicts: Vec<_> = options.deny.iter().map(|verdict| verdict.name()).collect();
        anstream::eprintln!(
            "{ERROR}error{ERROR:#}: {denied} findings are denied ({}). --explain VERDICT says what to do",
            verdicts.join(", ")
        );
        return Ok(ExitCode::from(DENIED));
    }
    Ok(ExitCode::SUCCESS)
}

fn analyze_program(
    built: &build::Executable,
    table: &Table,
    allowances: &Allowances,
    options: &Options,
) -> Result<CheckedProgram> {
    let program = image::Program::read(&built.path)?;
    let image = program.image()?;
    let graph = graph::Graph::new(&image);
    let functions = roots::Functions::new(&graph);
    let debug = debug::Debug::new(&image).with_context(|| format!("read {}", built.path.display()))?;
    let context = search::Context::new(&graph, &functions, table);
    let bodies = roots::find(&graph, &functions, table)
        .iter()
        .filter(|root| options.body.as_ref().is_none_or(|text| root.name.contains(text)))
        .map(|root| analyze::analyze(&context, &debug, root, allowances))
        .collect();
    Ok(CheckedProgram { target: built.target.clone(), kind: built.kind.clone(), path: built.path.clone(), bodies })
}
