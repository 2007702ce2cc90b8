//! Paths in the body that show the network of the process, not of the calling thread.
//!
//! `/proc/self` is the process, so `/proc/net`, a link to `/proc/self/net`, shows the namespace of the process's main
//! thread. A sysfs shows the namespace that it was mounted in. A body that reads either gets the tables and interfaces
//! of home without an error. So a string literal that is such a path, or begins with one, is refused.
//!
//! A macro sees the text alone. It does not see a path that is built at run time from parts, nor what a called function
//! reads; `cargo netns-check` is for those.
//!
//! Like the check of hand-overs, this one reads tokens, so that it reaches into the arguments of macros and does not
//! depend on a body that parses.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::{Error, Lit};

use crate::errors::Errors;
use crate::tokens::{is_attribute, is_punct, macro_name, method_name};

/// A path and everything below it.
struct Tree {
    path: &'static str,
    shows: Shows,
    /// What to write in place of `path`.
    instead: &'static str,
}

/// Which namespace a path shows.
#[derive(Clone, Copy)]
enum Shows {
    /// That of the main thread of the process.
    MainThread,
    /// The one in which the sysfs was mounted.
    Mount,
}

const TREES: [Tree; 5] = [
    Tree { path: "/proc/net", shows: Shows::MainThread, instead: "/proc/thread-self/net" },
    Tree { path: "/proc/self/net", shows: Shows::MainThread, instead: "/proc/thread-self/net" },
    Tree { path: "/proc/self/ns/net", shows: Shows::MainThread, instead: "/proc/thread-self/ns/net" },
    Tree { path: "/sys/class/net", shows: Shows::Mount, instead: "/proc/thread-self/net/dev" },
    Tree { path: "/sys/devices/virtual/net", shows: Shows::Mount, instead: "/proc/thread-self/net/dev" },
];

/// Refuses each such path at its own literal. In a view the sysfs is that of the namespace.
pub(crate) fn validate(body: &TokenStream, in_view: bool, errors: &mut Errors) {
    scan(body, Place { in_view, in_child_arguments: false }, errors);
}

/// Where the tokens of a group are.
#[derive(Clone, Copy)]
struct Place {
    /// The body is `view = …`.
    in_view: bool,
    /// In the arguments that a method passes on to a child process. That child is inside, and `/proc/self` is the
    /// child.
    in_child_arguments: bool,
}

fn scan(tokens: &TokenStream, place: Place, errors: &mut Errors) {
    let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Literal(literal) => {
                if let Some(text) = text_of(&Lit::new(literal.clone())) {
                    check(&text, literal.to_token_stream(), place, errors);
                }
            }
            TokenTree::Group(group) => {
                let before = &tokens[..at];
                match macro_name(before).as_deref() {
                    // The compiler reads these files, and it is not inside.
                    Some("include" | "include_str" | "include_bytes") => continue,
                    Some("concat") => {
                        if let Some(text) = concatenated(&group.stream()) {
                            check(&text, group.stream(), place, errors);
                            continue;
                        }
                    }
                    _ => {}
                }
                if is_attribute(before, group) {
                    continue;
                }
                let place = match method_name(before).as_deref() {
                    Some("arg" | "args") => Place { in_child_arguments: true, ..place },
                    _ => place,
                };
                scan(&group.stream(), place, errors);
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) => {}
        }
    }
}

fn check(text: &str, tokens: TokenStream, place: Place, errors: &mut Errors) {
    let Some(tree) = TREES.iter().find(|tree| tree.contains(text)) else { return };
    let is_right = match tree.shows {
        Shows::MainThread => place.in_child_arguments,
        Shows::Mount => place.in_view,
    };
    if is_right {
        return;
    }
    errors.push(Error::new_spanned(tokens, tree.message()));
}

impl Tree {
    fn contains(&self, text: &str) -> bool {
        let path = normalized(text);
        path.strip_prefix(self.path).is_some_and(|rest| {
            // The end of the last component: of the literal, of a C string, of the component, or before `{}`.
            rest.is_empty() || rest.starts_with(['/', '\0', '{'])
        })
    }

    fn message(&self) -> String {
        let Self { path, instead, .. } = self;
        match self.shows {
            Shows::MainThread => format!(
                "`{path}` shows the network namespace of the process's main thread, not of this body: write \
                 `{instead}`; where the other one is meant, `#[in_netns(…, allow(process_network))]`"
            ),
            Shows::Mount => format!(
                "`{path}` shows the network namespace in which this sysfs was mounted, not that of this body: read \
                 `{instead}`, or ask netlink; where a sysfs of the namespace is mounted, or the other one is meant, \
                 `#[in_netns(…, allow(process_network))]`"
            ),
        }
    }
}

/// The text of a string, byte string or C string.
fn text_of(literal: &Lit) -> Option<String> {
    match literal {
        Lit::Str(text) => Some(text.value()),
        Lit::ByteStr(bytes) => Some(String::from_utf8_lossy(&bytes.value()).into_owned()),
        Lit::CStr(text) => Some(text.value().to_string_lossy().into_owned()),
        _ => None,
    }
}

/// What `concat!` makes of string literals; `None` if there is anything else among its arguments.
fn concatenated(arguments: &TokenStream) -> Option<String> {
    let mut text = String::new();
    for token in arguments.clone() {
        match token {
            TokenTree::Literal(literal) => text += &text_of(&Lit::new(literal))?,
            comma if is_punct(&comma, ',') => {}
            _ => return None,
        }
    }
    Some(text)
}

/// The path without `//`, `.` and `..`, as far as its text shows.
///
/// `/proc/self/task/../net` -> `/proc/self/net`
fn normalized(text: &str) -> String {
    if !text.starts_with('/') {
        return text.to_owned();
    }
    let mut components = Vec::new();
    for component in text.split('/') {
        match component {
            "" | "." => {}
            ".." => _ = components.pop(),
            component => components.push(component),
        }
    }
    format!("/{}", components.join("/"))
}
