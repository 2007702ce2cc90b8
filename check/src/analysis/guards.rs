//! Guards: the types whose values mean that their thread is in another namespace, until they are dropped.
//!
//! A guard is recognised by its `drop`, which enters or leaves, or by its name; it must have a `drop` in either case.
//! The debug information of that function tells the path of the type, because symbols and debug information use
//! different paths for a type that is defined in a function.

use std::collections::{BTreeSet, HashSet};

use crate::analysis::roots::Found;
use crate::program::debug::Debug;
use crate::program::graph::Graph;
use crate::program::image::{Kind, Node};
use crate::program::names;
use crate::rules::sinks::Table;

/// The most functions of a future's drop glue that are searched. If there are more, a guard counts as held.
const GLUE: usize = 20_000;

/// The guards of one program.
pub(crate) struct Guards {
    /// Paths as the debug information has them, without generic arguments.
    types: BTreeSet<String>,
    /// The instances that are guards although their generic type is not one, with their generic arguments.
    instances: BTreeSet<String>,
    /// Their methods `drop`.
    drops: HashSet<Node>,
}

impl Guards {
    pub(crate) fn of(found: &Found, graph: &Graph<'_, '_>, table: &Table, debug: &Debug<'_>) -> Self {
        let image = graph.image;
        let (mut types, mut instances, mut drops) = (BTreeSet::new(), BTreeSet::new(), HashSet::new());
        for function in image.functions().filter(|function| image.name(*function).contains("4Drop4drop")) {
            let path = names::path(image.name(function));
            let Some(dropped) = names::dropped(&path) else { continue };
            let name = dropped.rsplit("::").next().unwrap_or(dropped);
            if found.guards.contains(dropped) || table.is_guard(dropped) || table.is_guard(name) {
                let path = debug.receiver(image.address(function));
                types.insert(path.map_or_else(|| dropped.to_owned(), |path| names::split(&path).0.to_owned()));
                drops.insert(function);
            } else if found.closing.contains(&function) {
                instances.extend(debug.receiver(image.address(function)));
                drops.insert(function);
            }
        }
        Self { types, instances, drops }
    }

    /// The paths of the types, without generic arguments.
    pub(crate) fn types(&self) -> Vec<&str> {
        let instances = self.instances.iter().map(|path| names::split(path).0);
        self.types.iter().map(String::as_str).chain(instances).collect()
    }

    /// Whether a type of the debug information is a guard.
    pub(crate) fn is(&self, r#type: &str) -> bool {
        self.types.contains(names::split(r#type).0) || self.instances.contains(r#type)
    }

    /// Whether a future can be dropped with a guard in it.
    ///
    /// A future keeps the place of a value that was borrowed, even after the value was dropped. Its drop glue tells
    /// whether it can still hold the value.
    pub(crate) fn are_dropped_with(&self, graph: &Graph<'_, '_>, table: &Table, poll: u64) -> bool {
        let image = graph.image;
        let Some(future) = image.function_at(poll) else { return true };
        let future = table.known(image.name(future)).identity();
        let mut waiting: Vec<Node> = image
            .functions()
            .filter(|function| image.name(*function).contains("drop_in_place"))
            .filter(|glue| names::generic_arguments(table.known(image.name(*glue)).identity()) == [future])
            .collect();
        if waiting.is_empty() {
            return true;
        }
        let mut met: HashSet<Node> = waiting.iter().copied().collect();
        while let Some(function) = waiting.pop() {
            if self.drops.contains(&function) || met.len() > GLUE {
                return true;
            }
            for edge in &graph.edges(function).references {
                if image.kind(edge.to) == Kind::Function && met.insert(edge.to) {
                    waiting.push(edge.to);
                }
            }
        }
        false
    }
}
