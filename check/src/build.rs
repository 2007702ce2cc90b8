//! Builds the program as the check needs it: without optimisation, with the generics in every symbol, and with every
//! relocation.
//!
//! This program is also a wrapper around `rustc`, which adds the flags, so that the user's own flags stay as they are,
//! wherever they are set. The build has a directory of its own, so that it does not undo the user's.

mod compiled;
mod configuration;
mod wrapper_of_user;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};
use cargo_metadata::semver::Version;
use cargo_metadata::{Artifact, CrateType, DependencyKind, Message, Metadata, MetadataCommand, PackageId, TargetKind};

use crate::build::compiled::Parts;
use crate::options::Options;
use crate::program::architecture::Architecture;
use crate::program::crates::Crates;
use crate::program::split;

/// The variable that tells this program that it is the wrapper.
const WRAPPED: &str = "CARGO_NETNS_CHECK_WRAPPED";
/// The user's own wrapper, which runs inside ours.
const INNER_WRAPPER: &str = "CARGO_NETNS_CHECK_INNER_WRAPPER";

/// The variable that tells the wrapper to undo the profile's optimisation.
const UNOPTIMISED: &str = "CARGO_NETNS_CHECK_UNOPTIMISED";

/// The variable with the build directory, where the wrapper notes which linker it was given and what it compiled.
const DIRECTORY: &str = "CARGO_NETNS_CHECK_DIRECTORY";

/// For every crate: names that distinguish generic instances, and the source line of each instruction.
const COMPILE_FLAGS: [&str; 3] = ["-Csymbol-mangling-version=v0", "-Cdebuginfo=2", "-Cstrip=none"];
/// Where the debug information is: in the program, or in files beside it, which the linker does not copy.
const TOGETHER_FLAG: &str = "-Csplit-debuginfo=off";
const APART_FLAG: &str = "-Csplit-debuginfo=unpacked";
/// For every program: the relocations.
const LINK_FLAG: &str = "-Clink-arg=-Wl,--emit-relocs";

/// Runs `rustc` with the flags of the check, where cargo called this program as its wrapper.
pub(crate) fn wrapper() -> Option<Result<ExitCode>> {
    std::env::var_os(WRAPPED)?;
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(inner) = std::env::var_os(INNER_WRAPPER) {
        arguments.insert(0, inner);
    }
    let (program, rest) = arguments.split_first()?;
    let mut command = Command::new(program);
    command.args(rest);
    if compiles_for_the_program(rest) {
        if let Err(error) = compiled::note(rest) {
            return Some(Err(error));
        }
        // A wrapper that keeps what was compiled may not keep the files of the debug information.
        let apart = std::env::var_os(INNER_WRAPPER).is_none();
        command.args(COMPILE_FLAGS).arg(if apart { APART_FLAG } else { TOGETHER_FLAG });
        if let Err(error) = remove_old_debug_information(rest) {
            return Some(Err(error));
        }
        if std::env::var_os(UNOPTIMISED).is_some() {
            command.arg("-Copt-level=0");
        }
        if links_a_program(rest) {
            command.arg(LINK_FLAG);
            if tests_macros(rest) {
                command.arg("-Cprefer-dynamic=no");
            }
            if let Err(error) = note_linker(rest) {
                return Some(Err(error));
            }
        }
    }
    let error = command.exec();
    Some(Err(error).with_context(|| format!("run {}", program.display())))
}

/// Notes the linker for another target, which only Cargo knows: it links the canaries too.
fn note_linker(arguments: &[OsString]) -> Result<()> {
    let (Some(directory), Some(target)) = (std::env::var_os(DIRECTORY), value_of(arguments, "--target")) else {
        return Ok(());
    };
    let note = linker_note(Path::new(&directory), target);
    fs::write(&note, linker_of(arguments).unwrap_or_default()).with_context(|| format!("write {}", note.display()))
}

fn linker_note(directory: &Path, target: &OsStr) -> PathBuf {
    // A target may be given as a file that describes it.
    let name = Path::new(target).file_stem().unwrap_or(target);
    directory.join(format!("linker-{}", name.display()))
}

/// The linker among the arguments of `rustc`.
fn linker_of(arguments: &[OsString]) -> Option<&str> {
    code_generation(arguments, "linker")
}

/// The value of an option of code generation, which is named last if it is named twice.
fn code_generation<'a>(arguments: &'a [OsString], option: &str) -> Option<&'a str> {
    code_generation_options(arguments).filter_map(|given| given.strip_prefix(option)?.strip_prefix('=')).last()
}

/// The options of code generation: `-Cname=value`, `-C name=value`, and the same with `--codegen`.
fn code_generation_options(arguments: &[OsString]) -> impl Iterator<Item = &str> {
    let before = std::iter::once(OsStr::new("")).chain(arguments.iter().map(OsString::as_os_str));
    before.zip(arguments).filter_map(|(before, argument)| {
        let argument = argument.to_str()?;
        let apart = before == "-C" || before == "--codegen";
        if apart { Some(argument) } else { argument.strip_prefix("-C").or(argument.strip_prefix("--codegen=")) }
    })
}

fn value_of<'a>(arguments: &'a [OsString], option: &str) -> Option<&'a OsStr> {
    let at = arguments.iter().position(|argument| argument == option)?;
    arguments.get(at + 1).map(OsString::as_os_str)
}

fn compiles_for_the_program(arguments: &[OsString]) -> bool {
    value_of(arguments, "--crate-name").is_some_and(|name| name != "build_script_build" && name != "___")
}

/// Removes the files of debug information that an earlier compilation of the same crate left.
///
/// Incremental compilation gives them new names each time, and removes none.
fn remove_old_debug_information(arguments: &[OsString]) -> Result<()> {
    let (Some(_), Some(krate), Some(folder)) = (
        code_generation(arguments, "incremental"),
        value_of(arguments, "--crate-name"),
        value_of(arguments, "--out-dir"),
    ) else {
        return Ok(());
    };
    let own = format!("{}{}.", krate.display(), code_generation(arguments, "extra-filename").unwrap_or_default());
    let folder = Path::new(folder);
    // Without the folder there is nothing to remove.
    for file in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = file.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(&own) && name.ends_with(split::EXTENSION)) {
            fs::remove_file(file.path()).with_context(|| format!("remove {}", file.path().display()))?;
        }
    }
    Ok(())
}

/// Whether `rustc` links a program. It does without a crate type, as Cargo calls it for tests and benchmarks that have
/// a `main` of their own.
fn links_a_program(arguments: &[OsString]) -> bool {
    value_of(arguments, "--crate-type").is_none_or(|kind| kind == "bin")
        || arguments.iter().any(|argument| argument == "--test")
}

/// Whether `rustc` links the unit tests of macros. Cargo links them to the standard library as a shared object, whose
/// code the check does not read.
fn tests_macros(arguments: &[OsString]) -> bool {
    arguments.windows(2).any(|pair| pair[0] == "--extern" && pair[1] == "proc_macro")
}

/// The result of the build.
pub(crate) struct Built {
    pub programs: Vec<Executable>,
    pub libraries: Vec<Library>,
    pub crates: Crates,
    /// The folders of the libraries, and of the files beside them.
    pub folders: Vec<PathBuf>,
    /// The folders that may have files of debug information: those, and the folders of the programs.
    pub debug_folders: Vec<PathBuf>,
    /// The search paths for libraries: Rust's, then native ones.
    pub search: Vec<OsString>,
    pub directory: PathBuf,
    /// The target that Cargo was asked for; none: the host.
    pub target: Option<String>,
}

/// A program to check.
pub(crate) struct Executable {
    pub package: String,
    pub target: String,
    pub kind: String,
    pub path: PathBuf,
}

/// A library of the programs, for the canaries.
pub(crate) struct Library {
    pub package: String,
    pub version: Version,
    pub name: String,
    pub features: Vec<String>,
    pub rlib: PathBuf,
}

/// How the programs are built.
pub(crate) struct Profile {
    /// The profile that the user selected; none: cargo's default.
    selected: Option<String>,
    /// The selected profile optimises, so a profile that inherits it is used.
    optimises: bool,
    /// Whether there is a profile of this name. If there is none, cargo says so.
    is_defined: bool,
}

/// The profile that inherits the selected one.
const DERIVED: &str = "netns-check";

impl Profile {
    pub(crate) fn of(options: &Options, metadata: &Metadata) -> Result<Self> {
        let selected = options.profile().map(str::to_owned);
        let (optimises, is_defined) = match &selected {
            Some(name) => {
                let settings = settings(options, metadata)?;
                (inherits_release(name, &settings), is_defined(name, &settings))
            }
            None => (false, true),
        };
        Ok(Self { selected, optimises, is_defined })
    }

    /// Tells the user how the build differs from that of the profile.
    pub(crate) fn description(&self) -> String {
        match &self.selected {
            Some(name) if self.optimises => format!(
                "for the check: like profile `{name}` (the same features and `cfg`s), but with opt-level = 0, lto = \
                 \"off\" and debug information"
            ),
            Some(name) => format!("for the check: profile `{name}`"),
            None => "for the check: unoptimised".to_owned(),
        }
    }

    fn arguments(&self) -> Vec<OsString> {
        let name = match &self.selected {
            Some(name) if self.optimises => name,
            selected => {
                let mut arguments: Vec<OsString> = Vec::new();
                if let Some(name) = selected {
                    arguments.extend(["--profile".into(), name.into()]);
                }
                if self.is_defined {
                    // With `lto` the linker generates the code, and so optimises it.
                    let name = selected.as_deref().unwrap_or("dev");
                    arguments.push(format!("--config=profile.{name}.lto=\"off\"").into());
                }
                return arguments;
            }
        };
        let settings = [
            format!("inherits={name:?}"),
            "opt-level=0".to_owned(),
            "lto=\"off\"".to_owned(),
            "debug=1".to_owned(),
            "strip=\"none\"".to_owned(),
        ];
        let settings = settings
            .iter()
            .flat_map(|setting| [OsString::from("--config"), OsString::from(format!("profile.{DERIVED}.{setting}"))]);
        [OsString::from("--profile"), OsString::from(DERIVED)].into_iter().chain(settings).collect()
    }
}

/// What may define profiles. The first setting counts: options, then the configuration, then the manifest.
fn settings(options: &Options, metadata: &Metadata) -> Result<Vec<toml::Table>> {
    let mut settings = options.settings();
    settings.extend(configuration::files()?.into_iter().map(|file| file.settings));
    let manifest = metadata.workspace_root.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).with_context(|| format!("read {manifest}"))?;
    settings.push(toml::from_str(&text).with_context(|| format!("read {manifest}"))?);
    Ok(settings)
}

/// Whether a profile is `release` or `bench`, or inherits one of them.
fn inherits_release(name: &str, settings: &[toml::Table]) -> bool {
    let mut name = name;
    // The bound is for a cycle, which Cargo itself refuses.
    for _ in 0..16 {
        if name == "release" || name == "bench" {
            return true;
        }
        let parent = settings.iter().find_map(|settings| settings.get("profile")?.get(name)?.get("inherits")?.as_str());
        let Some(parent) = parent else { break };
        name = parent;
    }
    false
}

fn is_defined(name: &str, settings: &[toml::Table]) -> bool {
    let has_profile = |settings: &toml::Table| settings.get("profile").is_some_and(|all| all.get(name).is_some());
    ["dev", "test", "release", "bench"].contains(&name) || settings.iter().any(has_profile)
}

/// Asks cargo for the metadata of the workspace. It takes much longer with `dependencies`, which are then resolved.
pub(crate) fn metadata(options: &Options, dependencies: bool) -> Result<Metadata> {
    let mut command = MetadataCommand::new();
    command.other_options(options.metadata_arguments());
    if !dependencies {
        command.no_deps();
    }
    if let Some(path) = &options.manifest_path {
        command.manifest_path(path);
    }
    command.exec().context("ask cargo about the workspace")
}

/// Whether the wrapper undoes all optimisation. A profile that optimises may do so for single packages too.
fn undoes_optimisation(options: &Options, profile: &Profile) -> bool {
    options.unoptimised || profile.optimises
}

/// The build directory. Cargo does not know the flags that the wrapper adds, so a build with other flags has another
/// directory.
fn directory(options: &Options, workspace: &Metadata, profile: &Profile) -> PathBuf {
    let directory = options.target_dir.clone().unwrap_or_else(|| workspace.target_directory.as_std_path().to_owned());
    directory.join(if undoes_optimisation(options, profile) { "netns-check-unoptimised" } else { "netns-check" })
}

/// The file in which one run stores what it knows of names, for the next.
pub(crate) fn names_file(options: &Options, workspace: &Metadata, profile: &Profile) -> PathBuf {
    directory(options, workspace, profile).join("names")
}

/// The command that builds what the options select.
fn cargo_build(options: &Options, profile: &Profile, directory: &Path) -> Result<Command> {
    let absolute = std::path::absolute(directory).context("find the path of the build directory")?;
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .arg("build")
        .arg("--message-format=json-render-diagnostics")
        .arg("--target-dir")
        .arg(directory)
        .args(options.build_arguments())
        .args(profile.arguments())
        .env(WRAPPED, "1")
        .env(DIRECTORY, &absolute)
        .env("RUSTC_WRAPPER", std::env::current_exe().context("find the path of this program")?)
        .stdout(Stdio::piped());
    // Cargo's configuration may name another directory for intermediate files. Cargo takes braces for variables.
    let build_directory = absolute.to_string_lossy();
    if !build_directory.contains(['{', '}']) {
        command.arg(format!("--config=build.build-dir={}", toml::Value::from(&*build_directory)));
    }
    if let Some(inner) = wrapper_of_user::find()? {
        command.env(INNER_WRAPPER, inner);
    }
    if undoes_optimisation(options, profile) {
        command.env(UNOPTIMISED, "1");
    }
    Ok(command)
}

/// Builds what the options select. `workspace`: without its dependencies.
pub(crate) fn build(options: &Options, workspace: &Metadata, profile: &Profile) -> Result<Built> {
    let target = target_asked_for(options);
    let unoptimised = undoes_optimisation(options, profile);
    let directory = directory(options, workspace, profile);
    let mut command = cargo_build(options, profile, &directory)?;
    let mut child = command.spawn().context("run `cargo build`")?;
    let output = child.stdout.take().context("read what `cargo build` says")?;
    let messages: Vec<_> = Message::parse_stream(BufReader::new(output)).collect();
    let status = child.wait().context("wait for `cargo build`")?;
    let mut built = Built {
        programs: Vec::new(),
        libraries: Vec::new(),
        crates: Crates::default(),
        folders: Vec::new(),
        debug_folders: Vec::new(),
        search: Vec::new(),
        directory,
        target,
    };
    if !status.success() {
        let missing = built.target.as_deref().and_then(|target| what_is_missing(target, &built.directory));
        bail!("the build failed ({status}): nothing was checked{}", missing.unwrap_or_default());
    }
    let mut native: Vec<OsString> = Vec::new();
    let mut optimised: BTreeMap<String, String> = BTreeMap::new();
    let messages = messages.into_iter().collect::<io::Result<Vec<_>>>().context("read what `cargo build` says")?;
    let executables = messages.iter().filter_map(|message| match message {
        Message::CompilerArtifact(artifact) => artifact.executable.as_ref(),
        _ => None,
    });
    let parts = compiled::parts(&built.directory, executables.map(|path| path.as_std_path()))?;
    let packages = match &parts {
        Some(parts) if messages.iter().all(names_its_package) => {
            built.crates = parts.crates();
            None
        }
        // Cargo's metadata has the packages too, but takes longer.
        _ => {
            let metadata = self::metadata(options, true)?;
            built.crates = Crates::of(&metadata);
            Some((linked_packages(&metadata), metadata))
        }
    };
    for message in messages {
        match message {
            // With `--target`, macros are in another folder than the libraries that need them.
            Message::CompilerArtifact(artifact) if is_macro_library(&artifact) => {
                let folders = artifact.filenames.iter().filter_map(|file| file.parent());
                native.extend(folders.map(|folder| OsString::from(format!("dependency={folder}"))));
            }
            Message::CompilerArtifact(artifact)
                if packages.as_ref().is_none_or(|(linked, _)| linked.contains(&artifact.package_id))
                    && is_selected(&artifact, options) =>
            {
                let (name, version) = match &packages {
                    Some((_, metadata)) => {
                        let package = &metadata[&artifact.package_id];
                        (package.name.to_string(), package.version.clone())
                    }
                    None => name_and_version(&artifact.package_id.repr).context("read the name of a package")?,
                };
                note_artifact(&artifact, &name, &version, parts.as_ref(), &mut built, &mut optimised);
            }
            Message::BuildScriptExecuted(script) => {
                native.extend(script.linked_paths.iter().map(|path| OsString::from(path.as_str())));
            }
            _ => {}
        }
    }
    if unoptimised {
        // The wrapper only undoes levels of optimisation.
        optimised.retain(|_, level| level.starts_with('-'));
    }
    refuse_optimised(&optimised)?;
    if built.programs.is_empty() {
        bail!(
            "nothing to check: the selection has no program, and a library alone has no bodies that are compiled to \
             the end. Select programs that use it: --tests, --examples, --bin NAME, --test NAME, --example NAME"
        );
    }
    built.target = built.target.or_else(|| {
        let directory = fs::canonicalize(&built.directory).ok()?;
        target_of(&directory, &fs::canonicalize(&built.programs.first()?.path).ok()?)
    });
    // Cargo reports them as they are finished. The report has the same order every run.
    built
        .programs
        .sort_by(|a, b| (&a.kind, &a.target, &a.package, &a.path).cmp(&(&b.kind, &b.target, &b.package, &b.path)));
    built.folders = folders_of(built.libraries.iter().map(|library| &library.rlib));
    let programs = built.programs.iter().map(|program| &program.path);
    built.debug_folders = folders_of(programs.chain(built.libraries.iter().map(|library| &library.rlib)));
    let dependency = |folder: &PathBuf| format!("dependency={}", folder.display()).into();
    let mut search: Vec<OsString> = built.folders.iter().map(dependency).collect();
    search.extend(native);
    search.sort();
    search.dedup();
    built.search = search;
    Ok(built)
}

/// The folders of these files, and the folders `deps` in them: Cargo puts the results of a member of the workspace
/// beside the folder of all others.
fn folders_of<'f>(files: impl Iterator<Item = &'f PathBuf>) -> Vec<PathBuf> {
    let folders = files.filter_map(|file| file.parent()).flat_map(|folder| [folder.to_owned(), folder.join("deps")]);
    folders.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Whether a program is selected. Cargo builds the binaries of a package for its tests too, selected or not.
fn is_selected(artifact: &Artifact, options: &Options) -> bool {
    let binary = artifact.target.kind.contains(&TargetKind::Bin) && !artifact.profile.test;
    !binary || options.selects_binary(&artifact.target.name)
}

/// Whether an artifact is a library of macros, which is loaded by the compiler. Its unit tests are a program.
fn is_macro_library(artifact: &Artifact) -> bool {
    artifact.target.kind.contains(&TargetKind::ProcMacro) && artifact.executable.is_none()
}

fn note_artifact(
    artifact: &Artifact,
    package: &str,
    version: &Version,
    parts: Option<&Parts>,
    built: &mut Built,
    optimised: &mut BTreeMap<String, String>,
) {
    let target = &artifact.target;
    if target.kind.contains(&TargetKind::CustomBuild) || is_macro_library(artifact) {
        return;
    }
    // A package may be compiled a second time, for build scripts.
    let level = match parts {
        Some(parts) => {
            let files = artifact.executable.iter().chain(&artifact.filenames);
            let Some(level) = files.into_iter().find_map(|file| parts.level(file.as_std_path())) else { return };
            level
        }
        None => &artifact.profile.opt_level,
    };
    if level != "0" {
        optimised.insert(package.to_owned(), level.to_owned());
    }
    if let Some(path) = &artifact.executable {
        let kind = match target.kind.first() {
            // Unit tests have the kind of the target that contains them.
            Some(kind) if !artifact.profile.test || *kind == TargetKind::Bench => kind.to_string(),
            _ => TargetKind::Test.to_string(),
        };
        built.programs.push(Executable {
            package: package.to_owned(),
            target: target.name.clone(),
            kind,
            path: path.clone().into_std_path_buf(),
        });
    }
    let rlib = artifact.filenames.iter().find(|file| file.extension() == Some("rlib"));
    if let (Some(rlib), true) =
        (rlib, target.crate_types.iter().any(|kind| matches!(kind, CrateType::Lib | CrateType::RLib)))
    {
        built.libraries.push(Library {
            package: package.to_owned(),
            version: version.clone(),
            name: target.name.replace('-', "_"),
            features: artifact.features.clone(),
            rlib: rlib.clone().into_std_path_buf(),
        });
    }
}

/// Whether the package of a message is known by the message alone.
fn names_its_package(message: &Message) -> bool {
    match message {
        Message::CompilerArtifact(artifact) => name_and_version(&artifact.package_id.repr).is_some(),
        _ => true,
    }
}

/// The name and the version in the id of a package: `kind+url#name@version`, or `kind+url/name#version`.
fn name_and_version(id: &str) -> Option<(String, Version)> {
    let (url, rest) = id.rsplit_once('#')?;
    let (name, version) = rest.rsplit_once('@').unwrap_or_else(|| {
        let path = url.split('?').next().unwrap_or(url);
        (path.rsplit('/').next().unwrap_or_default(), rest)
    });
    Some((name.to_owned(), Version::parse(version).ok()?)).filter(|_| !name.is_empty())
}

/// The packages whose code is in a program, and not only in a build script or macro.
fn linked_packages(metadata: &Metadata) -> HashSet<PackageId> {
    let nodes: HashMap<_, _> =
        metadata.resolve.iter().flat_map(|resolve| &resolve.nodes).map(|node| (&node.id, node)).collect();
    let mut linked: HashSet<PackageId> = HashSet::new();
    let mut waiting: Vec<&PackageId> = metadata.workspace_members.iter().collect();
    while let Some(id) = waiting.pop() {
        let macros = metadata[id].targets.iter().any(|target| target.kind.contains(&TargetKind::ProcMacro));
        // A package of macros in the workspace may have tests, which are programs.
        if macros && !metadata.workspace_members.contains(id) || !linked.insert(id.clone()) {
            continue;
        }
        let Some(node) = nodes.get(id) else { continue };
        for dependency in &node.deps {
            if dependency.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Build) {
                waiting.push(&dependency.pkg);
            }
        }
    }
    linked
}

/// The target that Cargo is asked for; none: the host, or the one of its configuration.
fn target_asked_for(options: &Options) -> Option<String> {
    options.target.clone().or_else(|| std::env::var("CARGO_BUILD_TARGET").ok())
}

/// Refuses a build for an architecture that the check does not understand.
pub(crate) fn refuse_other_architectures(options: &Options) -> Result<()> {
    let triple = match target_asked_for(options) {
        Some(triple) => triple,
        None => host()?,
    };
    refuse_other_architecture(&triple)
}

fn refuse_other_architecture(triple: &str) -> Result<()> {
    if Architecture::of_triple(triple).is_none() || !triple.contains("-linux-") {
        bail!(
            "the check does not read programs for {triple}: only Linux on {} is understood, because relocations and \
             instructions differ by architecture. Check a build for {}-unknown-linux-gnu (--target); what a body \
             reaches hardly differs",
            Architecture::ALL.map(Architecture::name).join(" and "),
            Architecture::X86_64.name()
        );
    }
    Ok(())
}

/// The target that Cargo's configuration names: a program for it is in a folder of that name.
fn target_of(directory: &Path, program: &Path) -> Option<String> {
    let folder = program.strip_prefix(directory).ok()?.iter().next()?.to_str()?;
    Architecture::of_triple(folder).map(|_| folder.to_owned())
}

/// The cause of a failed build for another target, if something that it needs is missing.
fn what_is_missing(target: &str, directory: &Path) -> Option<String> {
    if host().is_ok_and(|host| host == target) {
        return None;
    }
    let libraries = rustc().args(["--print", "target-libdir", "--target", target]).output().ok()?;
    let libraries = PathBuf::from(String::from_utf8_lossy(&libraries.stdout).trim_end());
    let mut files = fs::read_dir(&libraries).into_iter().flatten().flatten();
    if !files.any(|file| file.file_name().as_encoded_bytes().starts_with(b"libstd-")) {
        return Some(format!(
            ". Rust's standard library for {target} is not installed: `rustup target add {target}`, or a package of \
             the distribution"
        ));
    }
    let linker = fs::read_to_string(linker_note(directory, OsStr::new(target))).unwrap_or_default();
    linker.is_empty().then(|| {
        format!(
            ". If a program was not linked: no linker for {target} is named. Install one, with the C library for that \
             target, and name it by {} or by `target.{target}.linker` in Cargo's configuration",
            linker_variable(target)
        )
    })
}

/// The variable that names the linker to Cargo.
fn linker_variable(target: &str) -> String {
    format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace(['-', '.'], "_"))
}

fn host() -> Result<String> {
    let output = rustc().arg("-vV").output().context("ask rustc for its host")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("ask rustc for its host: `rustc -vV` names none")
}

fn rustc() -> Command {
    Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
}

fn refuse_optimised(optimised: &BTreeMap<String, String>) -> Result<()> {
    let Some((package, level)) = optimised.first_key_value() else {
        return Ok(());
    };
    let others = match optimised.len() - 1 {
        0 => String::new(),
        others => format!(" (and {others} more)"),
    };
    let (how, way_out) = if level.starts_with('-') {
        (format!("is compiled with {level}"), "Leave out")
    } else {
        let way_out = "Check with --unoptimised, which compiles everything without, or name a profile (--profile) with \
                       opt-level = 0 and leave out";
        (format!("has opt-level {level}"), way_out)
    };
    bail!(
        "the profile, or a flag for rustc, optimises: `{package}` {how}{others}. An optimiser puts functions into each \
         other, and with them the calls that are looked for, so that a clean verdict would mean nothing. {way_out} the \
         flag (RUSTFLAGS, `rustflags` in Cargo's configuration)"
    )
}

/// Builds a program of one file against libraries that are built already.
pub(crate) fn compile(source: &Path, libraries: &[(String, PathBuf)], built: &Built) -> Result<PathBuf> {
    let linker = built.target.as_ref().map(|target| linker_note(&built.directory, OsStr::new(target)));
    let linker = linker.and_then(|note| fs::read_to_string(note).ok()).filter(|linker| !linker.is_empty());
    let output = source.with_extension("");
    let run = |extra: &[&str]| {
        let mut command = rustc();
        command.arg(source).arg("-o").arg(&output).args(["--edition=2024", "--cap-lints=allow", "-Copt-level=0"]);
        command.args(COMPILE_FLAGS).args([TOGETHER_FLAG, LINK_FLAG]).args(extra);
        for (name, rlib) in libraries {
            let mut value = OsString::from(format!("{name}="));
            value.push(rlib);
            command.arg("--extern").arg(value);
        }
        for search in &built.search {
            command.arg("-L").arg(search);
        }
        if let Some(target) = &built.target {
            command.arg("--target").arg(target);
        }
        if let Some(linker) = &linker {
            command.arg(format!("-Clinker={linker}"));
        }
        command.output().context("run rustc")
    };
    let mut result = run(&[])?;
    // Libraries with `panic = "abort"` can only be linked into programs with it.
    if !result.status.success() && String::from_utf8_lossy(&result.stderr).contains("panic strategy") {
        result = run(&["-Cpanic=abort"])?;
    }
    if !result.status.success() {
        bail!("compile {}:\n{}", source.display(), String::from_utf8_lossy(&result.stderr).trim_end());
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn only_programs_keep_relocations_and_build_scripts_stay_as_they_are() {
        let library = arguments("--crate-name tokio src/lib.rs --crate-type lib");
        assert!(compiles_for_the_program(&library) && !links_a_program(&library));
        let program = arguments("--crate-name app src/main.rs --crate-type bin");
        assert!(compiles_for_the_program(&program) && links_a_program(&program));
        assert!(links_a_program(&arguments("--crate-name app src/lib.rs --test")));
        assert!(links_a_program(&arguments("--crate-name own_main benches/own_main.rs --emit=dep-info,link")));
        assert!(!compiles_for_the_program(&arguments("--crate-name build_script_build build.rs --crate-type bin")));
        assert!(!compiles_for_the_program(&arguments("-vV")));
    }

    #[test]
    fn the_linker_is_the_one_that_was_named_last() {
        assert_eq!(
            linker_of(&arguments("--crate-name app -C linker=cc -C opt-level=0 -Clinker=/bin/ld")),
            Some("/bin/ld")
        );
        assert_eq!(linker_of(&arguments("--crate-name app -C linker=cc")), Some("cc"));
        assert_eq!(linker_of(&arguments("--crate-name app -C linker-flavor=gcc")), None);
        assert_eq!(linker_of(&arguments("--crate-name app --extern linker=/deps/liblinker.rmeta")), None);
        assert_eq!(linker_variable("aarch64-unknown-linux-gnu"), "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER");
    }

    #[test]
    fn a_configured_target_is_known_by_the_folder_of_its_programs() {
        let of = |program: &str| target_of(Path::new("/build"), Path::new(program));
        assert_eq!(of("/build/aarch64-unknown-linux-gnu/debug/app").as_deref(), Some("aarch64-unknown-linux-gnu"));
        assert_eq!(of("/build/debug/app"), None);
    }

    #[test]
    fn other_architectures_are_refused_by_name() {
        for triple in ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-musl"] {
            assert!(refuse_other_architecture(triple).is_ok(), "{triple}");
        }
        for triple in ["riscv64gc-unknown-linux-gnu", "aarch64-apple-darwin"] {
            let message = refuse_other_architecture(triple).unwrap_err().to_string();
            assert!(message.contains(triple) && message.contains("x86_64 and aarch64"), "{message}");
        }
    }

    #[test]
    fn the_id_of_a_package_has_its_name_and_version() {
        for (id, name, version) in [
            ("registry+https://github.com/rust-lang/crates.io-index#tokio@1.54.1", "tokio", "1.54.1"),
            ("path+file:///work/app#0.1.0", "app", "0.1.0"),
            ("path+file:///work/app#other@0.1.0-a.1+b", "other", "0.1.0-a.1+b"),
            ("git+https://example.org/team/app?branch=a/b#0.1.0", "app", "0.1.0"),
        ] {
            assert_eq!(name_and_version(id), Some((name.to_owned(), Version::parse(version).unwrap())), "{id}");
        }
        for id in ["tokio 1.54.1 (registry+https://github.com/rust-lang/crates.io-index)", "path+file:///work/app#x"] {
            assert_eq!(name_and_version(id), None, "{id}");
        }
    }

    #[test]
    fn an_optimised_package_is_refused_by_name() {
        assert!(refuse_optimised(&BTreeMap::new()).is_ok());
        let optimised = BTreeMap::from([("rayon".to_owned(), "3".to_owned())]);
        let message = refuse_optimised(&optimised).unwrap_err().to_string();
        assert!(message.contains("`rayon` has opt-level 3"), "{message}");
    }
}
