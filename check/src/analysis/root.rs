//! A root of the search: one body.

use serde::Serialize;

use crate::program::image::Node;
use crate::rules::known::Contained;

/// The crate whose calls have bodies.
pub(crate) const LIBRARY: &str = "in_netns";

/// One body.
pub(crate) struct Root {
    /// The path of the function with the attribute, or of the closure.
    pub name: String,
    /// The functions that the search begins with; empty where the program does not say what is called.
    pub functions: Vec<Node>,
    /// The functions that take the body: their debug information says what it captured.
    pub receivers: Vec<Node>,
    /// The bodies that it calls, which are searched separately.
    pub closed: Vec<Node>,
    pub contained: Contained,
    /// The type of the body, if only its caller knows what it calls, and the place where it is given.
    pub opaque: Option<Opaque>,
    pub origin: Origin,
    /// If it awaits while its thread is inside: the function that polls it, and the address where that function polls
    /// what is awaited.
    pub waits: Option<(Node, u64)>,
    /// It is reported only if something is found.
    pub only_if_found: bool,
}

/// Why something is a body.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Origin {
    /// A call of the library.
    Call,
    /// A call of another library's function, of this project.
    Adapter(String),
    /// The user named it.
    Root,
    /// A function that moves its own thread, by a call of this function.
    Region(String),
    /// A future that holds a guard, and is no other body.
    Future,
}

impl Root {
    /// A body that consists of these functions.
    pub(crate) fn of(name: &str, functions: Vec<Node>, contained: Contained, origin: Origin) -> Self {
        Self { functions, ..Self::new(name, contained, origin) }
    }

    /// Adds the functions of another instance of the same body.
    pub(crate) fn merge(&mut self, other: Self) {
        self.only_if_found &= other.only_if_found;
        self.waits = self.waits.or(other.waits);
        for (all, more) in [
            (&mut self.functions, other.functions),
            (&mut self.receivers, other.receivers),
            (&mut self.closed, other.closed),
        ] {
            for node in more {
                if !all.contains(&node) {
                    all.push(node);
                }
            }
        }
    }

    pub(crate) fn new(name: &str, contained: Contained, origin: Origin) -> Self {
        Self {
            name: name.to_owned(),
            functions: Vec::new(),
            receivers: Vec::new(),
            closed: Vec::new(),
            contained,
            opaque: None,
            origin,
            waits: None,
            only_if_found: false,
        }
    }
}

/// A body that is itself a function pointer or a trait object.
pub(crate) struct Opaque {
    pub r#type: String,
    pub caller: Option<(Node, u64)>,
}
