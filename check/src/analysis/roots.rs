//! Where a search begins: the bodies.
//!
//! A body is a closure that was given to a function of the library, or what `#[in_netns]` made of a function. The
//! library's own threads are no concern of a body, so that no search begins in the library.

use std::collections::BTreeMap;

use crate::program::graph::Graph;
use crate::program::image::Node;
use crate::program::names;
use crate::rules::sinks::{Contained, Table};

/// The attribute calls the body from a function whose name begins so.
const BODY: &str = "__in_netns_body_";

/// The crate whose calls have bodies.
pub(crate) const LIBRARY: &str = "in_netns";

/// What the attribute's expansion calls.
const PRIVATE: &str = "in_netns::__private::";

/// One body.
pub(crate) struct Root {
    /// Of the function with the attribute, or of the closure.
    pub name: String,
    /// Where the search begins; empty where the program does not say what is called.
    pub functions: Vec<Node>,
    /// The functions that take the body: their debug information says what it captured.
    pub receivers: Vec<Node>,
    pub contained: Contained,
    /// What the body is, where only its caller knows what it calls; and where it is given.
    pub opaque: Option<Opaque>,
}

/// A body that is itself a function pointer or a trait object.
pub(crate) struct Opaque {
    pub r#type: String,
    pub caller: Option<(Node, u64)>,
}

/// Every function by its identity: a generic argument names one so.
pub(crate) struct Functions {
    by_identity: BTreeMap<String, Vec<Node>>,
}

impl Functions {
    pub(crate) fn new(graph: &Graph<'_, '_>) -> Self {
        let mut by_identity: BTreeMap<String, Vec<Node>> = BTreeMap::new();
        for function in graph.image.functions() {
            let mangled = graph.image.name(function);
            if mangled.starts_with("_R") {
                by_identity.entry(names::identity(mangled)).or_default().push(function);
            }
        }
        // Beside a test stands a constant of its name, with a closure that calls the test: none of the test's own.
        let runs_test = |function: &Node| {
            graph.edges(*function).references.iter().any(|edge| {
                let called = graph.image.name(edge.to);
                called.contains("assert_test_result") && names::path(called).starts_with("test::assert_test_result")
            })
        };
        for (_, functions) in by_identity.iter_mut().filter(|(name, all)| all.len() > 1 && names::is_closure(name)) {
            functions.retain(|function| !runs_test(function));
        }
        Self { by_identity }
    }

    /// The code of the closures, futures and functions among the generic arguments of a function.
    pub(crate) fn given_to(&self, mangled: &str) -> Vec<Node> {
        let identity = names::identity(mangled);
        let code = |argument: &&str| match self.named(argument) {
            [] => self.polled(argument),
            called => called,
        };
        names::generic_arguments(&identity).iter().flat_map(code).copied().collect()
    }

    /// The code of a type that can be called: a closure, the future of an async block, a function, or what wraps one.
    fn named(&self, r#type: &str) -> &[Node] {
        if let Some(own) = self.by_identity.get(r#type) {
            return own;
        }
        if names::is_indirect(r#type) {
            return &[];
        }
        self.method(r#type, |method| method.contains("]::ops::function::Fn") && method.contains("::call"))
    }

    /// The code of a future that has a type of its own.
    fn polled(&self, r#type: &str) -> &[Node] {
        self.method(r#type, |method| method.ends_with("]::future::future::Future>::poll"))
    }

    /// The code of a type's method of a trait of `core`.
    fn method(&self, r#type: &str, is: impl Fn(&str) -> bool) -> &[Node] {
        let r#impl = format!("<{type} as core");
        self.by_identity
            .range(r#impl.clone()..)
            .take_while(|(identity, _)| identity.starts_with(&r#impl))
            .find(|(identity, _)| is(&identity[r#impl.len()..]))
            .map_or(&[], |(_, nodes)| nodes.as_slice())
    }
}

/// Finds every body of the program.
pub(crate) fn find(graph: &Graph<'_, '_>, functions: &Functions, table: &Table) -> Vec<Root> {
    // By identity: a body that was compiled twice is one, and bodies of two crates of one name are two.
    let mut bodies: BTreeMap<String, Root> = BTreeMap::new();
    let mut closures: BTreeMap<String, Root> = BTreeMap::new();
    for function in graph.image.functions() {
        let mangled = graph.image.name(function);
        if !mangled.contains(LIBRARY) {
            continue;
        }
        let path = names::path(mangled);
        if let Some(name) = annotated(&path) {
            let identity = names::identity(mangled);
            // Of an async body the helper is an `async fn`: calling it makes a future, and what runs is that.
            let future = functions.named(&format!("{identity}::{{closure#0}}"));
            let contained = Contained(!future.is_empty());
            let root = bodies.entry(names::split(&identity).0.to_owned()).or_insert_with(|| Root::new(name, contained));
            root.receivers.push(function);
            root.functions.push(function);
            root.functions.extend(future);
            root.functions
                .extend(names::generic_arguments(&identity).iter().flat_map(|argument| functions.named(argument)));
        } else if let Some(contained) = table.entry(&path) {
            for (identity, root) in entered(graph, functions, function, contained) {
                closures.entry(identity).or_insert(root);
            }
        }
    }
    for (identity, root) in closures {
        if !leads_into_annotated(graph, &root, &bodies) {
            bodies.insert(identity, root);
        }
    }
    let mut bodies: Vec<_> = bodies.into_values().collect();
    bodies.sort_by(|a, b| a.name.cmp(&b.name));
    bodies
}

impl Root {
    /// A body that is these functions.
    pub(crate) fn of(name: &str, functions: Vec<Node>, contained: Contained) -> Self {
        Self { functions, ..Self::new(name, contained) }
    }

    fn new(name: &str, contained: Contained) -> Self {
        Self { name: name.to_owned(), functions: Vec::new(), receivers: Vec::new(), contained, opaque: None }
    }
}

/// Whether a function of this path takes a body, which is found by itself.
pub(crate) fn takes_body(path: &str, table: &Table) -> bool {
    path.starts_with(PRIVATE) || table.entry(path).is_some()
}

/// The bodies that one instance of a function of the library takes.
fn entered(graph: &Graph<'_, '_>, functions: &Functions, function: Node, contained: Contained) -> Vec<(String, Root)> {
    let identity = names::identity(graph.image.name(function));
    let mut found: Vec<(String, Root)> = Vec::new();
    let arguments = names::generic_arguments(&identity);
    for argument in &arguments {
        let code = functions.named(argument);
        let Some(first) = code.first() else { continue };
        // One function of the library passes the body on to the next, in a closure of its own.
        if names::krate(argument) == LIBRARY {
            return Vec::new();
        }
        // The future that a body makes belongs to that body.
        let name = names::path(graph.image.name(*first));
        if let Some((_, root)) = found.last_mut().filter(|(_, root)| name.starts_with(&root.name)) {
            root.functions.extend(code);
            continue;
        }
        let mut root = Root::new(&name, contained);
        root.functions.extend(code);
        root.receivers.push(function);
        found.push(((*argument).to_owned(), root));
    }
    if found.is_empty() && contained.0 {
        found.extend(future(graph, functions, function, contained));
    }
    if found.is_empty() {
        found.extend(opaque(graph, function, contained));
    }
    found
}

/// A body that is a future of a named type: known by where it is given.
fn future(graph: &Graph<'_, '_>, functions: &Functions, function: Node, contained: Contained) -> Vec<(String, Root)> {
    let polled = functions.given_to(graph.image.name(function));
    if polled.is_empty() {
        return Vec::new();
    }
    let body = |(name, _): (String, _)| (name.clone(), Root::of(&name, polled.clone(), contained));
    call_sites(graph, function).into_iter().map(body).collect()
}

/// Bodies that are values: a function pointer, a boxed closure. There is one wherever such a value is given.
fn opaque(graph: &Graph<'_, '_>, function: Node, contained: Contained) -> Vec<(String, Root)> {
    let path = names::path(graph.image.name(function));
    let arguments = names::generic_arguments(&path);
    let r#type = arguments.iter().find(|argument| names::is_indirect(argument)).or(arguments.first());
    let r#type = r#type.map_or_else(String::new, |name| (*name).to_owned());
    let body = |(name, caller): (String, _)| {
        let opaque = Opaque { r#type: r#type.clone(), caller };
        (name.clone(), Root { opaque: Some(opaque), ..Root::new(&name, contained) })
    };
    call_sites(graph, function).into_iter().map(body).collect()
}

/// Who calls a function of the library, by name and place; the function itself where nobody is known.
fn call_sites(graph: &Graph<'_, '_>, function: Node) -> Vec<(String, Option<(Node, u64)>)> {
    let callers = graph.callers(function);
    if callers.is_empty() {
        return vec![(names::path(graph.image.name(function)), None)];
    }
    callers
        .into_iter()
        .map(|(caller, at)| (names::path(graph.image.name(caller)), Some((caller, at))))
        .filter(|(name, _)| names::krate(name) != LIBRARY)
        .collect()
}

/// The path of the function with the attribute, out of the path of the helper that its expansion nests in it.
fn annotated(path: &str) -> Option<&str> {
    let (base, _) = names::split(path);
    let (function, helper) = base.rsplit_once("::")?;
    // In an `async fn` the helper is nested in that one's future.
    helper.starts_with(BODY).then(|| function.strip_suffix("::{closure#0}").unwrap_or(function))
}

/// The attribute's own closure is given to the library too: one body is one.
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
