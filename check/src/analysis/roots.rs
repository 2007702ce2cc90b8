//! The roots of the search: the bodies.
//!
//! A body is a closure that is given to a function of the library, or what `#[in_netns]` made of a function. Code that
//! does not use the library has roots too: closures given to the functions of an adapter, functions that the user
//! names, and regions, which are functions that move their own thread to another namespace.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::mem;

use anyhow::{Result, bail};
use regex::Regex;

use crate::analysis::functions::Functions;
use crate::analysis::regions;
use crate::analysis::root::{LIBRARY, Opaque, Origin, Root};
use crate::program::debug::{Debug, Passes};
use crate::program::graph::Graph;
use crate::program::image::Node;
use crate::program::names;
use crate::rules::known::{Contained, Known};
use crate::rules::sinks::Table;

/// The beginning of the name of the function that the attribute nests in the user's function.
const BODY: &str = "__in_netns_body_";

/// The module whose functions the attribute's expansion calls.
const PRIVATE: &str = "in_netns::__private::";

/// What the user asks for beside the bodies that are found.
pub(crate) struct Wanted {
    /// Functions.
    pub roots: Vec<Pattern>,
    /// Functions whose closures are bodies.
    pub closures: Vec<Pattern>,
    /// Whether regions are looked for.
    pub regions: bool,
}

/// A path in which `*` stands for anything, as the user wrote it.
pub(crate) struct Pattern {
    pub written: String,
    pub regex: Regex,
}

/// The bodies of one program, and the types that are guards in it.
pub(crate) struct Found {
    pub roots: Vec<Root>,
    /// Paths without generic arguments.
    pub guards: BTreeSet<String>,
    /// The methods `drop` of instances that are guards although their generic type is not one.
    pub closing: HashSet<Node>,
    /// The patterns of the user that a function fits.
    pub named: Vec<String>,
}

/// Finds every body of the program.
pub(crate) fn find<'d>(
    graph: &Graph<'_, 'd>,
    functions: &Functions,
    table: &Table,
    debug: &Debug<'d>,
    wanted: &Wanted,
) -> Found {
    // By identity: a body that was compiled twice counts once, and two crates of the same name are distinguished.
    let mut bodies: BTreeMap<String, Root> = BTreeMap::new();
    let mut closures: BTreeMap<String, Root> = BTreeMap::new();
    let mut named = BTreeSet::new();
    let library = memchr::memmem::Finder::new(LIBRARY);
    for function in graph.image.functions() {
        let mangled = graph.image.name(function);
        if !wanted.roots.is_empty() || !wanted.closures.is_empty() {
            named.extend(note_wanted(graph, functions, table, debug, function, wanted, &mut closures));
        }
        if library.find(mangled.as_bytes()).is_some() {
            let known = table.known(mangled);
            if let Some(name) = annotated(known.path()) {
                note_annotated(graph, functions, function, name, &mut bodies);
                continue;
            }
            if let Some(contained) = known.entry(table) {
                for (identity, root) in entered(graph, functions, table, debug, function, contained, &Origin::Call) {
                    closures.entry(identity).or_insert(root);
                }
                continue;
            }
        }
        if let Some((project, contained)) = table.adapter(mangled) {
            let origin = Origin::Adapter(project.to_owned());
            for (identity, root) in entered(graph, functions, table, debug, function, contained, &origin) {
                closures.entry(identity).or_insert(root);
            }
        }
    }
    for (identity, root) in closures {
        if root.origin == Origin::Root || !leads_into_annotated(graph, &root, &bodies) {
            bodies.insert(identity, root);
        }
    }
    let (mut guards, mut closing) = (BTreeSet::new(), HashSet::new());
    let named = named.into_iter().collect();
    if wanted.regions {
        let regions = regions::find(graph, functions, table, debug);
        (guards, closing) = (regions.guards, regions.closing);
        let known: HashSet<Node> = bodies.values().flat_map(|body| body.functions.iter().copied()).collect();
        for (identity, mut root) in regions.roots {
            root.functions.retain(|function| !known.contains(function));
            if !root.functions.is_empty() {
                bodies.entry(identity).or_insert(root);
            }
        }
    }
    let mut bodies: Vec<_> = bodies.into_values().collect();
    bodies.sort_by(|a, b| a.name.cmp(&b.name));
    Found { roots: bodies, guards, closing, named }
}

fn note_annotated(
    graph: &Graph<'_, '_>,
    functions: &Functions,
    function: Node,
    name: &str,
    bodies: &mut BTreeMap<String, Root>,
) {
    let identity = names::identity(graph.image.name(function));
    // The helper of an async body is an `async fn`: a call makes a future, which runs the body.
    let future = functions.named(&format!("{identity}::{{closure#0}}"));
    let contained = Contained(!future.is_empty());
    let root =
        bodies.entry(names::split(&identity).0.to_owned()).or_insert_with(|| Root::new(name, contained, Origin::Call));
    root.receivers.push(function);
    root.functions.push(function);
    root.functions.extend(future);
    root.functions.extend(names::generic_arguments(&identity).iter().flat_map(|argument| functions.named(argument)));
}

/// Adds a function that the user named, or the closures that it takes. Returns the patterns that match it.
fn note_wanted(
    graph: &Graph<'_, '_>,
    functions: &Functions,
    table: &Table,
    debug: &Debug<'_>,
    function: Node,
    wanted: &Wanted,
    closures: &mut BTreeMap<String, Root>,
) -> Vec<String> {
    let mangled = graph.image.name(function);
    let path = names::path(mangled);
    let base = names::split(&path).0;
    let mut named = Vec::new();
    let mut is = |patterns: &[Pattern]| {
        let fitting: Vec<_> = patterns.iter().filter(|pattern| pattern.regex.is_match(base)).collect();
        named.extend(fitting.iter().map(|pattern| pattern.written.clone()));
        !fitting.is_empty()
    };
    if is(&wanted.roots) {
        let identity = names::identity(mangled);
        // A call of an `async fn` makes a future, which runs the body.
        let future = functions.named(&format!("{identity}::{{closure#0}}"));
        let root = closures
            .entry(names::split(&identity).0.to_owned())
            .or_insert_with(|| Root::new(base, Contained(false), Origin::Root));
        root.functions.push(function);
        root.functions.extend(future);
    }
    if is(&wanted.closures) {
        for (identity, root) in entered(graph, functions, table, debug, function, Contained(false), &Origin::Root) {
            closures.entry(identity).or_insert(root);
        }
    }
    named
}

/// Refuses a name that no program has. Otherwise a misspelt root would count as clean.
pub(crate) fn refuse_unknown(wanted: &Wanted, found: impl Fn(&Pattern) -> bool) -> Result<()> {
    for (option, patterns) in [("--root", &wanted.roots), ("--root-closure", &wanted.closures)] {
        if let Some(pattern) = patterns.iter().find(|pattern| !found(pattern)) {
            bail!(
                "{option} {}: no program that was checked has such a function. The path begins with the crate's name \
                 (`app::module::function`, `<app::Type>::method`), `*` stands for anything, and a function that is \
                 never called is not linked",
                pattern.written
            );
        }
    }
    Ok(())
}

/// Whether a function of this name takes a body, which has a root of its own.
pub(crate) fn takes_body(name: &Known, table: &Table) -> bool {
    name.path().starts_with(PRIVATE) || name.entry(table).is_some()
}

/// The bodies that one instance of a function of the library takes.
fn entered(
    graph: &Graph<'_, '_>,
    functions: &Functions,
    table: &Table,
    debug: &Debug<'_>,
    function: Node,
    contained: Contained,
    origin: &Origin,
) -> Vec<(String, Root)> {
    let known = table.known(graph.image.name(function));
    let identity = known.identity();
    let library = owner(graph, function);
    let code = |argument| Some((argument, functions.named(argument))).filter(|(_, code)| !code.is_empty());
    let arguments = names::generic_arguments(identity);
    let arguments = arguments.into_iter().map(|argument| functions.callee(argument));
    let mut given: Vec<_> = arguments.map(code).skip_while(Option::is_none).collect();
    if library == LIBRARY {
        // The body comes first, then the future that it makes, and then its result.
        given.truncate(if contained.0 { 2 } else { 1 });
    }
    let mut bodies: Vec<(&str, Root)> = Vec::new();
    for (argument, code) in given.into_iter().flatten() {
        // The library passes the body on to another of its functions, in a closure of its own.
        if is_foreign(&library) && owner(graph, code[0]) == library {
            return Vec::new();
        }
        let name = names::path(graph.image.name(code[0]));
        bodies.push((argument, Root::of(&name, code.to_vec(), contained, origin.clone())));
    }
    let outer_of = |inner: &Root| bodies.iter().position(|(_, outer)| is_nested(&inner.name, &outer.name));
    let outer: Vec<Option<usize>> = bodies.iter().map(|(_, inner)| outer_of(inner)).collect();
    let address = graph.image.address(function);
    for (index, outer) in outer.iter().enumerate() {
        let Some(outer) = *outer else { continue };
        let (argument, inner) = (bodies[index].0, mem::take(&mut bodies[index].1.functions));
        // A closure that a body returns does not run in it. The future that it makes belongs to that body.
        if contained.0 || !debug.passes(address, Passes::Result, |r#type: &str| is_same_closure(r#type, argument)) {
            bodies[outer].1.functions.extend(inner);
        }
    }
    let mut found: Vec<(String, Root)> = Vec::new();
    for (argument, mut root) in bodies.into_iter().filter(|(_, root)| !root.functions.is_empty()) {
        root.receivers.push(function);
        found.push((argument.to_owned(), root));
    }
    if found.is_empty() && contained.0 {
        found.extend(future(graph, functions, identity, function, contained, origin));
    }
    if found.is_empty() {
        found.extend(opaque(graph, function, contained, origin));
    }
    found
}

/// The crate that has the code of a function.
fn owner(graph: &Graph<'_, '_>, function: Node) -> String {
    let mangled = graph.image.name(function);
    names::owner(mangled, &names::path(mangled)).to_owned()
}

/// Whether a crate contains no bodies. A function of the shape of an adapter may be in the user's own crate, whose
/// closures are bodies.
fn is_foreign(krate: &str) -> bool {
    krate == LIBRARY || regions::ADAPTERS.contains(&krate)
}

/// Whether a closure or future is written in this function or closure.
fn is_nested(name: &str, outer: &str) -> bool {
    name.strip_prefix(outer).is_some_and(|rest| rest.starts_with("::{"))
}

/// Whether a type of the debug information seems to be this closure or future, which is written in another closure.
fn is_same_closure(r#type: &str, argument: &str) -> bool {
    let r#type = names::split(r#type).0.replace("{closure_env#", "{closure#").replace("{async_block_env#", "{closure#");
    r#type.rsplit("::").take(2).eq(names::split(argument).0.rsplit("::").take(2))
}

/// A body that is a future of a named type: known by where it is given.
fn future(
    graph: &Graph<'_, '_>,
    functions: &Functions,
    identity: &str,
    function: Node,
    contained: Contained,
    origin: &Origin,
) -> Vec<(String, Root)> {
    let polled = functions.given_to(identity);
    if polled.is_empty() {
        return Vec::new();
    }
    // One function may give several futures.
    let body = |(name, _): (String, _)| {
        (format!("{name} {identity}"), Root::of(&name, polled.clone(), contained, origin.clone()))
    };
    call_sites(graph, function).into_iter().map(body).collect()
}

/// Bodies that are values, such as a function pointer or a boxed closure. There is one for each place that gives such a
/// value.
fn opaque(graph: &Graph<'_, '_>, function: Node, contained: Contained, origin: &Origin) -> Vec<(String, Root)> {
    let path = names::path(graph.image.name(function));
    let arguments = names::generic_arguments(&path);
    let r#type = arguments.iter().find(|argument| names::is_indirect(argument)).or(arguments.first());
    let r#type = r#type.map_or_else(String::new, |name| (*name).to_owned());
    let body = |(name, caller): (String, _)| {
        let opaque = Opaque { r#type: r#type.clone(), caller };
        let root = Root { opaque: Some(opaque), ..Root::new(&name, contained, origin.clone()) };
        (format!("{name} {type}"), root)
    };
    call_sites(graph, function).into_iter().map(body).collect()
}

/// The callers of a function of a library, by name and place; the function itself where no caller is known.
fn call_sites(graph: &Graph<'_, '_>, function: Node) -> Vec<(String, Option<(Node, u64)>)> {
    let library = owner(graph, function);
    let callers = graph.callers(function);
    if callers.is_empty() {
        return vec![(names::path(graph.image.name(function)), None)];
    }
    callers
        .into_iter()
        .filter(|(caller, _)| !is_foreign(&library) || owner(graph, *caller) != library)
        .map(|(caller, at)| (names::path(graph.image.name(caller)), Some((caller, at))))
        .collect()
}

/// The path of the function with the attribute, out of the path of the helper that its expansion nests in it.
fn annotated(path: &str) -> Option<&str> {
    let (base, _) = names::split(path);
    let (function, helper) = base.rsplit_once("::")?;
    // In an `async fn` the helper is nested in that one's future.
    helper.starts_with(BODY).then(|| function.strip_suffix("::{closure#0}").unwrap_or(function))
}

/// Whether a closure is the attribute's own, which is given to the library too. Its body is already known.
fn leads_into_annotated(graph: &Graph<'_, '_>, root: &Root, bodies: &BTreeMap<String, Root>) -> bool {
    root.functions.iter().any(|function| {
        graph.edges(*function).references.iter().any(|edge| {
            bodies.values().any(|body| root.name.starts_with(&body.name) && body.functions.contains(&edge.to))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_begins_like_another_is_not_nested_in_it() {
        assert!(is_nested("app::f::{closure#0}::{closure#0}", "app::f::{closure#0}"));
        assert!(!is_nested("app::work_more", "app::work"));
        assert!(!is_nested("app::work::<u8>", "app::work"));
    }

    #[test]
    fn a_closure_of_a_closure_is_known_in_debug_information() {
        let closure = "<app::T>::f::{closure#0}::{closure#1}";
        assert!(is_same_closure("app::{impl#0}::f::{closure#0}::{closure_env#1}", closure));
        assert!(is_same_closure("app::{impl#0}::f::{closure#0}::{async_block_env#1}<u8>", closure));
        assert!(!is_same_closure("app::{impl#0}::f::{closure_env#1}", closure));
    }

    #[test]
    fn an_annotated_function_is_named_by_the_function_and_not_by_its_helper() {
        let helper = "app::pods::list::__in_netns_body_list::<app::pods::list::{closure#0}, u32>";
        assert_eq!(annotated(helper), Some("app::pods::list"));
        let method = "<app::Pod>::list::__in_netns_body_list::<<app::Pod>::list::{closure#0}, u32>";
        assert_eq!(annotated(method), Some("<app::Pod>::list"));
        let r#async = "app::list::{closure#0}::__in_netns_body_list::<u32, app::list::{closure#0}::{closure#0}>";
        assert_eq!(annotated(r#async), Some("app::list"));
        assert_eq!(annotated("app::pods::list::{closure#0}"), None);
        let inside = "core::ops::function::FnOnce::call_once::<app::list::__in_netns_body_list<u8>::{closure#0}, ()>";
        assert_eq!(annotated(inside), None);
    }
}
