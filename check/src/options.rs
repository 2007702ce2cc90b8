//! The command line.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ColorChoice, Parser, ValueEnum};

use crate::analysis::roots::{Pattern, Wanted};
use crate::rules::allow::wildcard;
use crate::rules::verdict::Verdict;

/// Finds, ahead of time, what code that runs in another network namespace can reach.
///
/// Builds the selected programs and prints a verdict, and the shortest path to its cause, for every body: a function
/// with `#[in_netns]`, a closure given to `with_netns` and the like, a closure given to another library that enters
/// namespaces, a function that calls `setns` or `unshare`, and each function that --root names.
///
/// Exit status: 0 where nothing is denied, 1 where a denied verdict was found, 2 where the check could not decide.
#[derive(Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
#[command(bin_name = "cargo netns-check", version, about, long_about)]
pub(crate) struct Options {
    #[command(flatten)]
    selection: Selection,

    #[command(flatten)]
    features: Features,

    /// Build for this target (only Linux on `x86_64` and `aarch64` is understood)
    #[arg(long, value_name = "TRIPLE")]
    pub target: Option<String>,

    /// Build with this profile. Of `release` and profiles that inherit it: the same settings, unoptimised
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,

    /// Compile everything unoptimised, whatever the profile says of some packages
    #[arg(long)]
    pub(crate) unoptimised: bool,

    /// The same as `--profile release`
    #[arg(long, short, conflicts_with = "profile")]
    pub release: bool,

    /// Directory for what is built, in a folder `netns-check`
    #[arg(long, value_name = "DIRECTORY", env = "CARGO_TARGET_DIR")]
    pub target_dir: Option<PathBuf>,

    /// Path to Cargo.toml
    #[arg(long, value_name = "PATH")]
    pub manifest_path: Option<PathBuf>,

    /// Require that Cargo.lock stays as it is
    #[arg(long)]
    locked: bool,

    /// Do without the network
    #[arg(long)]
    offline: bool,

    /// `--locked` and `--offline`
    #[arg(long)]
    frozen: bool,

    /// A setting of cargo's configuration, or a file with settings
    #[arg(long, value_name = "KEY=VALUE|PATH")]
    config: Vec<String>,

    /// Number of parallel jobs of the build
    #[arg(long, short, value_name = "N")]
    jobs: Option<String>,

    /// Search from this function too; `*` stands for anything
    #[arg(long, value_name = "PATH")]
    root: Vec<String>,

    /// Search from every closure that is given to this function; `*` stands for anything
    #[arg(long, value_name = "PATH")]
    root_closure: Vec<String>,

    /// Do not search from functions that call `setns` or `unshare` themselves
    #[arg(long)]
    no_regions: bool,

    /// Fail (exit status 1) where a body has one of these verdicts, no allowance, and no place in the baseline
    #[arg(long, value_name = "VERDICTS", value_delimiter = ',', value_parser = denied)]
    pub deny: Vec<Verdict>,

    /// A report of an earlier run (--format json): only what it does not have is denied
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,

    /// Show only bodies whose path contains this
    #[arg(long, value_name = "TEXT")]
    pub body: Option<String>,

    /// How the report is written
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,

    /// Every step of a path, those inside the standard library too
    #[arg(long, short)]
    pub verbose: bool,

    /// Say nothing but the report
    #[arg(long, short)]
    pub quiet: bool,

    /// Colours: `NO_COLOR` and the terminal decide, unless this does
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto")]
    pub color: ColorChoice,

    /// A table of your own, in the form of the built-in one
    #[arg(long, value_name = "FILE")]
    pub sinks: Option<PathBuf>,

    /// Print the built-in table
    #[arg(long)]
    pub print_sinks: bool,

    /// Say what a verdict means, and the ways out
    #[arg(long, value_name = "VERDICT")]
    pub explain: Option<Verdict>,
}

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
#[command(next_help_heading = "Programs")]
struct Selection {
    /// Check the programs of this package
    #[arg(long, short, value_name = "SPEC")]
    package: Vec<String>,

    /// Check every package of the workspace
    #[arg(long, alias = "all")]
    workspace: bool,

    /// Leave out this package of the workspace
    #[arg(long, value_name = "SPEC", requires = "workspace")]
    exclude: Vec<String>,

    /// Check this binary
    #[arg(long, value_name = "NAME")]
    bin: Vec<String>,

    /// Check all binaries
    #[arg(long)]
    bins: bool,

    /// Check this example
    #[arg(long, value_name = "NAME")]
    example: Vec<String>,

    /// Check all examples
    #[arg(long)]
    examples: bool,

    /// Check this integration test
    #[arg(long, value_name = "NAME")]
    test: Vec<String>,

    /// Check all tests, those inside crates too
    #[arg(long)]
    tests: bool,

    /// Check this benchmark
    #[arg(long, value_name = "NAME")]
    bench: Vec<String>,

    /// Check all benchmarks
    #[arg(long)]
    benches: bool,

    /// Check binaries, examples, tests and benchmarks
    #[arg(long)]
    all_targets: bool,
}

#[derive(Args)]
#[expect(clippy::struct_field_names, reason = "the options have these names in cargo")]
#[command(next_help_heading = "Features")]
struct Features {
    /// Features to activate
    #[arg(long, short = 'F', value_name = "FEATURES")]
    features: Vec<String>,

    /// Activate all features
    #[arg(long)]
    all_features: bool,

    /// Do not activate the `default` feature
    #[arg(long)]
    no_default_features: bool,
}

/// How the report is written.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Human,
    /// One JSON document
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// Annotations of GitHub's workflows
    Github,
}

/// Parses a verdict to deny. `CLEAN` is refused, because it means that nothing was found.
fn denied(text: &str) -> std::result::Result<Verdict, String> {
    match text.parse()? {
        Verdict::Clean => Err("`clean` cannot be denied: it means that nothing was found".to_owned()),
        verdict => Ok(verdict),
    }
}

impl Options {
    /// Reads the command line. Cargo passes the name of the subcommand first.
    pub(crate) fn read() -> Self {
        let mut arguments: Vec<OsString> = std::env::args_os().collect();
        if arguments.get(1).is_some_and(|first| first == "netns-check") {
            arguments.remove(1);
        }
        Self::parse_from(arguments)
    }

    /// The roots that the user asks for.
    pub(crate) fn wanted(&self) -> Result<Wanted> {
        let patterns = |written: &[String]| {
            let pattern = |written: &String| Ok(Pattern { written: written.clone(), regex: wildcard(written)? });
            written.iter().map(pattern).collect::<Result<Vec<_>>>()
        };
        Ok(Wanted { roots: patterns(&self.root)?, closures: patterns(&self.root_closure)?, regions: !self.no_regions })
    }

    /// The profile that the user selects.
    pub(crate) fn profile(&self) -> Option<&str> {
        if self.release { Some("release") } else { self.profile.as_deref() }
    }

    /// The arguments for `cargo build`, except the profile.
    pub(crate) fn build_arguments(&self) -> Vec<OsString> {
        let Selection { package, workspace, exclude, bin, bins, example, examples, test, tests, .. } = &self.selection;
        let Selection { bench, benches, all_targets, .. } = &self.selection;
        let mut passed = Vec::new();
        for (option, values) in [
            ("--package", package),
            ("--exclude", exclude),
            ("--bin", bin),
            ("--example", example),
            ("--test", test),
            ("--bench", bench),
        ] {
            passed.extend(values.iter().flat_map(|value| [OsString::from(option), value.into()]));
        }
        for (option, given) in [
            ("--workspace", *workspace),
            ("--bins", *bins),
            ("--examples", *examples),
            ("--tests", *tests),
            ("--benches", *benches),
            ("--all-targets", *all_targets),
            ("--quiet", self.quiet),
        ] {
            passed.extend(given.then(|| option.into()));
        }
        for (option, value) in [("--target", &self.target), ("--jobs", &self.jobs)] {
            passed.extend(value.iter().flat_map(|value| [OsString::from(option), value.into()]));
        }
        if let Some(path) = &self.manifest_path {
            passed.extend(["--manifest-path".into(), path.into()]);
        }
        match self.color {
            ColorChoice::Auto => {}
            choice => passed.extend(["--color".into(), choice.to_string().into()]),
        }
        passed.extend(self.metadata_arguments().into_iter().map(OsString::from));
        passed
    }

    /// Whether the binary is selected. Cargo builds the binaries of a package for its tests too.
    pub(crate) fn selects_binary(&self, name: &str) -> bool {
        let Selection { bin, bins, example, examples, test, tests, bench, benches, all_targets, .. } = &self.selection;
        let others = !(example.is_empty() && test.is_empty() && bench.is_empty()) || *examples || *tests || *benches;
        // For a pattern, every binary that Cargo has built is selected: only Cargo knows its patterns.
        let named = bin.iter().any(|bin| bin == name || bin.contains(['*', '?', '[']));
        named || *bins || *all_targets || (bin.is_empty() && !others)
    }

    /// The settings of `--config`, the last first. A setting that cannot be read is left out: cargo reports it.
    pub(crate) fn settings(&self) -> Vec<toml::Table> {
        let table = |setting: &String| {
            let text = fs::read_to_string(setting).unwrap_or_else(|_| setting.clone());
            toml::from_str(&text).ok()
        };
        self.config.iter().rev().filter_map(table).collect()
    }

    /// The arguments that `cargo metadata` needs too.
    pub(crate) fn metadata_arguments(&self) -> Vec<String> {
        let Features { features, all_features, no_default_features } = &self.features;
        let mut passed: Vec<String> = features.iter().map(|features| format!("--features={features}")).collect();
        passed.extend(self.config.iter().map(|setting| format!("--config={setting}")));
        for (option, given) in [
            ("--all-features", *all_features),
            ("--no-default-features", *no_default_features),
            ("--locked", self.locked),
            ("--offline", self.offline),
            ("--frozen", self.frozen),
        ] {
            passed.extend(given.then(|| option.to_owned()));
        }
        passed
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Options::command().debug_assert();
    }

    #[test]
    fn a_list_of_verdicts_to_deny_is_read_in_either_case() {
        let options = Options::parse_from(["cargo-netns-check", "--deny", "handover,SPAWN"]);
        assert_eq!(options.deny, [Verdict::Handover, Verdict::Spawn]);
        assert!(Options::try_parse_from(["cargo-netns-check", "--deny", "threads"]).is_err());
        assert!(Options::try_parse_from(["cargo-netns-check", "--deny", "spawn,clean"]).is_err());
    }

    #[test]
    fn the_selection_is_passed_on_to_cargo() {
        let options = Options::parse_from(["cargo-netns-check", "-p", "app", "--test", "t", "-F", "a,b", "--locked"]);
        assert_eq!(options.build_arguments(), ["--package", "app", "--test", "t", "--features=a,b", "--locked"]);
        assert_eq!(options.metadata_arguments(), ["--features=a,b", "--locked"]);
        let line =
            ["cargo-netns-check", "--workspace", "--exclude", "app", "--benches", "--config", "net.offline=true"];
        let expected = ["--exclude", "app", "--workspace", "--benches", "--config=net.offline=true"];
        assert_eq!(Options::parse_from(line).build_arguments(), expected);
        assert!(Options::try_parse_from(["cargo-netns-check", "--exclude", "app"]).is_err());
    }

    #[test]
    fn a_binary_is_selected_by_name_or_where_nothing_is() {
        for (line, expected) in [
            ("", true),
            ("--workspace", true),
            ("--bin app", true),
            ("--bin other", false),
            ("--bin a*", true),
            ("--test t", false),
            ("--tests", false),
            ("--tests --bins", true),
            ("--all-targets", true),
        ] {
            let line = std::iter::once("cargo-netns-check").chain(line.split_whitespace());
            assert_eq!(Options::parse_from(line.clone()).selects_binary("app"), expected, "{:?}", line.last());
        }
    }
}
