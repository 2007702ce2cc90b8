//! The table of entries and sinks: where a search begins, and which calls it reports.
//!
//! The table is data: `data/sinks.toml` and `data/canaries.toml`, and a file of the user's own in the same form.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use cargo_metadata::semver::VersionReq;
use regex::{Regex, RegexSet, bytes};
use serde::Deserialize;

use crate::program::names;
use crate::rules::known::{Contained, Known, Names};
use crate::rules::verdict::Verdict;

const SINKS: &str = include_str!("../../data/sinks.toml");
const CANARIES: &str = include_str!("../../data/canaries.toml");
const ADAPTERS: &str = include_str!("../../data/adapters.toml");

/// One file of the table, as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    remove: Vec<String>,
    #[serde(default)]
    entry: Vec<Entry>,
    #[serde(default)]
    adapter: Vec<Adapter>,
    #[serde(default)]
    enter: Vec<Enter>,
    #[serde(default)]
    guard: Vec<Guard>,
    #[serde(default)]
    sink: Vec<Sink>,
    #[serde(default)]
    canary: Vec<Canary>,
    #[serde(default)]
    foreign: Foreign,
}

/// A function of the library that takes a body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    r#match: String,
    #[serde(default)]
    contained: bool,
}

/// A function of another library that takes a body.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Adapter {
    project: String,
    /// A part of the mangled name: the pattern is tried only where it occurs.
    word: String,
    r#match: String,
    #[serde(default)]
    contained: bool,
}

/// A function that moves the calling thread to another namespace.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Enter {
    word: String,
    r#match: String,
}

/// A type whose values mean that the thread is in another namespace.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Guard {
    r#type: String,
}

/// A kind of call that is reported.
#[derive(Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of its own in the table")]
#[serde(deny_unknown_fields)]
pub(crate) struct Sink {
    pub id: String,
    pub verdict: Verdict,
    #[serde(default)]
    r#match: Vec<String>,
    /// Patterns on the bytes of a constant.
    #[serde(default)]
    literal: Vec<String>,
    /// It counts only if a parameter of the function has a part of such a type.
    #[serde(default, deserialize_with = "pattern")]
    pub takes: Option<Regex>,
    /// It counts only if the target of the function's `self` has a part of such a type.
    #[serde(default, deserialize_with = "pattern")]
    pub holds: Option<Regex>,
    /// Of `takes` and `holds`: the parts of such types do not count.
    #[serde(default, deserialize_with = "pattern")]
    pub apart_from: Option<Regex>,
    /// It counts only if no function of this path is reached.
    #[serde(default, deserialize_with = "pattern")]
    pub unless: Option<Regex>,
    /// It counts only if a function of the body's own crate makes the call.
    #[serde(default)]
    pub direct: bool,
    /// It uses the runtime that is current on the calling thread.
    #[serde(default)]
    pub ambient: bool,
    pub says: String,
    #[serde(default = "yes")]
    pub stop: bool,
    #[serde(default)]
    pub contained: bool,
    #[serde(default, deserialize_with = "pattern")]
    pub only_with: Option<Regex>,
    pub hint: Option<String>,
    #[serde(default, deserialize_with = "pattern")]
    pub hint_with: Option<Regex>,
}

/// A function in which the search must find a sink.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub(crate) struct Canary {
    pub sink: String,
    pub library: Option<String>,
    pub versions: Option<VersionReq>,
    #[serde(default)]
    pub features: Vec<String>,
    /// The code is a call with a body, which the check must find.
    #[serde(default)]
    pub body: bool,
    pub code: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Foreign {
    #[serde(default)]
    libraries: Vec<String>,
    #[serde(default)]
    symbols: Vec<String>,
}

fn yes() -> bool {
    true
}

fn pattern<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Regex>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Regex::new(&text).map(Some).map_err(serde::de::Error::custom)
}

/// The whole table, ready to match.
pub(crate) struct Table {
    sinks: Vec<Sink>,
    canaries: Vec<Canary>,
    entries: Vec<Entry>,
    entry_patterns: RegexSet,
    adapters: Vec<Adapter>,
    adapter_patterns: RegexSet,
    enter_patterns: RegexSet,
    /// Parts of the mangled names of functions that enter, and of adapters.
    enter_words: Regex,
    adapter_words: Regex,
    guard_patterns: RegexSet,
    literal_patterns: bytes::RegexSet,
    literal_owner: Vec<usize>,
    sink_patterns: RegexSet,
    /// The sink that each pattern belongs to.
    owner: Vec<usize>,
    foreign_libraries: RegexSet,
    foreign_symbols: RegexSet,
    names: Names,
    additions: String,
}

/// A pattern that finds any of these texts.
fn any_of<'w>(words: impl Iterator<Item = &'w String>) -> Result<Regex> {
    let words: Vec<_> = words.map(|word| regex::escape(word)).collect();
    // Without words the pattern is an empty class, which matches nothing.
    let pattern = if words.is_empty() { "[a&&b]".to_owned() } else { words.join("|") };
    Regex::new(&pattern).context("compile the words of the table")
}

impl Table {
    /// The built-in table, and the user's additions to it.
    pub(crate) fn load(additions: Option<&Path>) -> Result<Self> {
        let mut files = vec![
            toml::from_str(SINKS).context("read the built-in table of sinks")?,
            toml::from_str(CANARIES).context("read the built-in table of canaries")?,
            toml::from_str(ADAPTERS).context("read the built-in table of adapters")?,
        ];
        let mut text = String::new();
        if let Some(path) = additions {
            text = fs::read_to_string(path).with_context(|| format!("read the table of sinks {}", path.display()))?;
            let file = toml::from_str(&text).with_context(|| {
                format!(
                    "read the table of sinks {}: it has the form of the built-in one (--print-sinks)",
                    path.display()
                )
            })?;
            files.push(file);
        }
        Ok(Self { additions: text, ..Self::from_files(files)? })
    }

    /// The text of the user's own table.
    pub(crate) fn additions(&self) -> &str {
        &self.additions
    }

    /// The built-in table as text, for a user to start from.
    pub(crate) fn built_in() -> String {
        format!("{SINKS}\n{ADAPTERS}\n{CANARIES}")
    }

    fn from_files(files: Vec<File>) -> Result<Self> {
        let mut removed = HashSet::new();
        let (mut sinks, mut canaries, mut entries, mut foreign) =
            (Vec::new(), Vec::new(), Vec::new(), Foreign::default());
        let (mut adapters, mut enters, mut guards) = (Vec::new(), Vec::new(), Vec::new());
        for file in files {
            removed.extend(file.remove);
            sinks.extend(file.sink);
            canaries.extend(file.canary);
            entries.extend(file.entry);
            adapters.extend(file.adapter);
            enters.extend(file.enter);
            guards.extend(file.guard);
            foreign.libraries.extend(file.foreign.libraries);
            foreign.symbols.extend(file.foreign.symbols);
        }
        let ids: HashSet<_> = sinks.iter().map(|sink: &Sink| sink.id.clone()).collect();
        if let Some(id) = removed.iter().find(|id| !ids.contains(*id)) {
            bail!("the table of sinks removes `{id}`, which it does not have: --print-sinks lists the ids");
        }
        // The canary of a removed sink stays, so that a sink that is removed by mistake is noticed.
        if let Some(canary) = canaries.iter().find(|canary: &&Canary| !ids.contains(&canary.sink)) {
            bail!("a canary of the table expects the sink `{}`, which the table does not have", canary.sink);
        }
        sinks.retain(|sink| !removed.contains(&sink.id));
        let mut owner = Vec::new();
        let mut patterns = Vec::new();
        let mut literal_owner = Vec::new();
        let mut literals = Vec::new();
        for (index, sink) in sinks.iter().enumerate() {
            if matches!(sink.verdict, Verdict::Clean | Verdict::Await) {
                bail!("the sink `{}` has the verdict {}, which no sink can have", sink.id, sink.verdict);
            }
            if sink.r#match.is_empty() && sink.literal.is_empty() {
                bail!("the sink `{}` has neither `match` nor `literal`: it can never be found", sink.id);
            }
            literal_owner.extend(sink.literal.iter().map(|_| index));
            literals.extend(&sink.literal);
            owner.extend(sink.r#match.iter().map(|_| index));
            patterns.extend(&sink.r#match);
        }
        Ok(Self {
            sink_patterns: RegexSet::new(patterns).context("compile the patterns of the table of sinks")?,
            entry_patterns: RegexSet::new(entries.iter().map(|entry| &entry.r#match))
                .context("compile the patterns of the table's entries")?,
            adapter_patterns: RegexSet::new(adapters.iter().map(|adapter| &adapter.r#match))
                .context("compile the patterns of the table's adapters")?,
            enter_patterns: RegexSet::new(enters.iter().map(|enter| &enter.r#match))
                .context("compile the patterns of the table's functions that enter")?,
            guard_patterns: RegexSet::new(guards.iter().map(|guard: &Guard| &guard.r#type))
                .context("compile the patterns of the table's guards")?,
            literal_patterns: bytes::RegexSet::new(literals).context("compile the literals of the table of sinks")?,
            literal_owner,
            enter_words: any_of(enters.iter().map(|enter: &Enter| &enter.word))?,
            adapter_words: any_of(adapters.iter().map(|adapter: &Adapter| &adapter.word))?,
            names: Names::default(),
            additions: String::new(),
            adapters,
            foreign_libraries: RegexSet::new(foreign.libraries).context("compile the table's foreign libraries")?,
            foreign_symbols: RegexSet::new(foreign.symbols).context("compile the table's foreign symbols")?,
            sinks,
            canaries,
            entries,
            owner,
        })
    }

    pub(crate) fn canaries(&self) -> &[Canary] {
        &self.canaries
    }

    pub(crate) fn sink(&self, index: usize) -> &Sink {
        &self.sinks[index]
    }

    /// What is known of a mangled name.
    pub(crate) fn known(&self, mangled: &str) -> &'static Known {
        self.names.get(mangled)
    }

    /// Looks up many names at once.
    pub(crate) fn prepare(&self, mangled: &[&str], threads: usize) -> Vec<&'static Known> {
        self.names.prepare(mangled, threads)
    }

    /// See [`Names::recall`].
    pub(crate) fn recall(&self, file: &Path) {
        self.names.recall(file, |known| _ = known.sinks(self));
    }

    /// See [`Names::remember`].
    pub(crate) fn remember(&self, file: &Path) {
        self.names.remember(file);
    }

    /// The sinks that match a function of this path.
    pub(crate) fn sinks_of(&self, path: &str) -> Vec<usize> {
        let mut found: Vec<_> =
            self.sink_patterns.matches(names::split(path).0).into_iter().map(|pattern| self.owner[pattern]).collect();
        found.dedup();
        found
    }

    /// Whether a function of this path takes a body, and then whether it contains what the body spawns.
    pub(crate) fn entry(&self, path: &str) -> Option<Contained> {
        let entry = self.entry_patterns.matches(names::split(path).0).into_iter().next()?;
        Some(Contained(self.entries[entry].contained))
    }

    /// The sinks that match a constant of these bytes, each with the text that was found.
    pub(crate) fn sinks_of_literal(&self, bytes: &[u8]) -> Vec<(usize, String)> {
        let mut found: Vec<(usize, String)> = Vec::new();
        for pattern in self.literal_patterns.matches(bytes) {
            let sink = self.literal_owner[pattern];
            if found.iter().any(|(other, _)| *other == sink) {
                continue;
            }
            let text = bytes::Regex::new(&self.literal_patterns.patterns()[pattern]).ok().and_then(|pattern| {
                pattern.find(bytes).map(|text| String::from_utf8_lossy(text.as_bytes()).into_owned())
            });
            found.push((sink, text.unwrap_or_default()));
        }
        found
    }

    /// The project whose function takes a body, if a function of this mangled name is one.
    pub(crate) fn adapter(&self, mangled: &str) -> Option<(&str, Contained)> {
        if !self.adapter_words.is_match(mangled) {
            return None;
        }
        self.adapter_of(self.known(mangled).path())
    }

    /// The project whose function takes a body, if a function of this path is one.
    pub(crate) fn adapter_of(&self, path: &str) -> Option<(&str, Contained)> {
        let index = self.adapter_patterns.matches(names::split(path).0).into_iter().next()?;
        Some((&self.adapters[index].project, Contained(self.adapters[index].contained)))
    }

    /// Whether a function moves the calling thread to another namespace.
    pub(crate) fn enters(&self, mangled: &str) -> bool {
        self.enter_words.is_match(mangled) && self.enter_patterns.is_match(names::split(self.known(mangled).path()).0)
    }

    /// Whether a type, given by its path without generic arguments, is a known guard.
    pub(crate) fn is_guard(&self, path: &str) -> bool {
        self.guard_patterns.is_match(path)
    }

    /// Whether a symbol of a shared object is known to start no thread and to call no unknown code.
    pub(crate) fn knows_foreign(&self, symbol: &str, library: Option<&str>) -> bool {
        library.is_some_and(|library| self.is_safe_library(library)) || self.foreign_symbols.is_match(symbol)
    }

    /// Whether all symbols of a shared object are known to be safe.
    pub(crate) fn is_safe_library(&self, library: &str) -> bool {
        self.foreign_libraries.is_match(library)
    }
}

/// What the table says of a name is found out once.
impl Known {
    /// The sinks that match this name.
    pub(crate) fn sinks(&self, table: &Table) -> &[usize] {
        self.sinks.get_or_init(|| table.sinks_of(self.path()))
    }

    /// Whether a function of this name takes a body, and then whether it contains what the body spawns.
    pub(crate) fn entry(&self, table: &Table) -> Option<Contained> {
        *self.entry.get_or_init(|| table.entry(self.path()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(addition: &str) -> Result<Table> {
        Table::from_files(vec![toml::from_str(SINKS)?, toml::from_str(CANARIES)?, toml::from_str(addition)?])
    }

    fn ids(table: &Table, path: &str) -> Vec<String> {
        table.sinks_of(path).into_iter().map(|sink| table.sink(sink).id.clone()).collect()
    }

    #[test]
    fn every_sink_of_a_library_has_a_canary() {
        let table = Table::load(None).unwrap();
        let with_canary: HashSet<_> = table.canaries.iter().map(|canary| canary.sink.as_str()).collect();
        let without: Vec<_> =
            table.sinks.iter().map(|sink| sink.id.as_str()).filter(|id| !with_canary.contains(id)).collect();
        // The names of C are its ABI, and do not drift.
        assert_eq!(without, ["threads-of-libc", "io-uring-of-c", "loaded-code"]);
    }

    #[test]
    fn a_local_task_is_no_handover() {
        let table = Table::load(None).unwrap();
        assert_eq!(ids(&table, "tokio::task::spawn::spawn::<app::main::{closure#0}>"), ["tokio-spawn"]);
        assert!(ids(&table, "tokio::task::local::spawn_local::<app::main::{closure#0}>").is_empty());
        assert_eq!(ids(&table, "<tokio::task::join_set::JoinSet<()>>::spawn::<app::f>"), ["tokio-join-set"]);
        assert!(ids(&table, "<tokio::task::join_set::JoinSet<()>>::spawn_local::<app::f>").is_empty());
    }

    #[test]
    fn a_channel_of_numbers_is_no_channel_of_closures() {
        let table = Table::load(None).unwrap();
        let of_closures = "<std::sync::mpsc::Sender<alloc::boxed::Box<dyn core::ops::function::FnOnce<(), Output = ()> \
                           + core::marker::Send>>>::send";
        assert_eq!(ids(&table, of_closures), ["std-channel", "channel", "task-channel"]);
        // The types decide between these, and only the debug information has them.
        let takes_of = |id| table.sinks.iter().find(|sink| sink.id == id).and_then(|sink| sink.takes.clone()).unwrap();
        let (takes, takes_task) = (takes_of("channel"), takes_of("task-channel"));
        for path in [
            "<std::sync::mpsc::Sender<u32>>::send",
            "<std::sync::mpsc::Sender<alloc::boxed::Box<dyn core::error::Error>>>::send",
        ] {
            assert_eq!(ids(&table, path), ["channel", "task-channel"]);
            assert!(!takes.is_match(path) && !takes_task.is_match(path));
        }
        for path in [
            "<std::sync::mpsc::Sender<core::pin::Pin<alloc::boxed::Box<dyn core::future::future::Future<Output = ()> + \
             core::marker::Send>>>>::send",
            "<flume::Sender<async_task::runnable::Runnable>>::send",
            "<std::sync::mpsc::SyncSender<(u8, extern \"C\" fn(u8))>>::try_send",
        ] {
            assert!(takes_task.is_match(path) && !takes.is_match(path), "{path}");
        }
        let queue = "<ringbuf::wrap::caching::Caching<alloc::sync::Arc<app::Ring>, true, false> as \
                     ringbuf::traits::producer::Producer>::try_push";
        assert_eq!(ids(&table, queue), ["channel", "task-channel"]);
        // Executors have queues of their own: a task stays in them.
        let of_executor = "<concurrent_queue::ConcurrentQueue<async_task::runnable::Runnable>>::push";
        assert_eq!(ids(&table, of_executor), ["channel"]);
        assert!(!takes.is_match(of_executor));
        assert!(takes.is_match(of_closures));
    }

    #[test]
    fn a_users_table_adds_and_removes() {
        let addition = r#"
            remove = ["threadpool"]
            [[sink]]
            id = "mine"
            verdict = "HANDOVER"
            match = ['^pool::submit$']
            says = "runs on my pool"
            [foreign]
            symbols = ['^sqlite3_']
        "#;
        let table = table(addition).unwrap();
        assert_eq!(ids(&table, "pool::submit"), ["mine"]);
        assert!(ids(&table, "<threadpool::ThreadPool>::execute::<f>").is_empty());
        assert!(table.knows_foreign("sqlite3_open", Some("libsqlite3.so.0")));
        assert!(!table.knows_foreign("deflate", Some("libz.so.1")));
        assert!(table.knows_foreign("getaddrinfo", Some("libc.so.6")));
    }

    #[test]
    fn without_words_no_name_has_one() {
        let none: [String; 0] = [];
        assert!(!any_of(none.iter()).unwrap().is_match("_RNvCs1234_1a1b"));
        assert!(any_of([String::from("a.b")].iter()).unwrap().is_match("xa.b"));
        assert!(!any_of([String::from("a.b")].iter()).unwrap().is_match("acb"));
    }

    #[test]
    fn a_table_that_removes_what_is_not_there_is_refused() {
        let error = table("remove = [\"rayonn\"]").err().unwrap();
        assert!(error.to_string().contains("rayonn"), "{error}");
    }

    #[test]
    fn entries_are_found_in_any_module_and_no_closure_of_theirs_is_one() {
        let table = Table::load(None).unwrap();
        let entry = |path| table.entry(path).map(|Contained(contained)| contained);
        assert_eq!(entry("in_netns::calls::with_netns::<&str, app::f::{closure#0}, ()>"), Some(false));
        assert_eq!(entry("<in_netns::call::Call<&str>>::outcome::<app::f::{closure#0}, ()>"), Some(false));
        assert_eq!(entry("<in_netns::netns::NetNs>::run_async::<app::f, app::g>"), Some(true));
        assert_eq!(entry("<in_netns::call::view::View>::try_run::<app::f, (), app::Error>"), Some(false));
        assert_eq!(entry("<in_netns::call::view::View>::spawn_async::<app::f, app::g, ()>"), Some(true));
        assert_eq!(entry("in_netns::async_call::walk::walk_async::<app::I, app::f, app::g, ()>"), Some(true));
        assert_eq!(entry("in_netns::with_netns::<&str, app::f, ()>::{closure#0}"), None);
        assert_eq!(entry("std::scope::<in_netns::with_netns<&str, app::f, ()>::{closure#0}>"), None);
        assert_eq!(entry("in_netns::pool_stats"), None);
    }
}
