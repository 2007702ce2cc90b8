//! Hand-overs in the body: work given to an executor that may exist already, whose threads are elsewhere.
//!
//! A macro sees names and no types. So this check refuses paths that lead to an executor, also through the `use` items of
//! the body, and the methods that start rayon's parallel iterators. It does not see what a `use` outside of the function
//! brings in, what a variable holds, or what a called function does: the audit and `cargo netns-check` are for those.
//!
//! It reads tokens, so that it reaches into the arguments of macros and does not depend on a body that parses.

use std::collections::HashMap;

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::{Error, ItemUse, UseTree};

use crate::errors::Errors;
use crate::tokens::{is_attribute, is_punct, plain};

/// An executor and the paths that hand work to it.
struct Executor {
    /// The module or crate.
    path: &'static [&'static str],
    /// Its items that hand work over. An empty list stands for all of them.
    items: &'static [&'static str],
    /// The destination, as the message names it.
    to: &'static str,
    /// Whether an async function under the attribute has one of its own, inside the namespace.
    contained: bool,
}

/// Everything that is refused by path.
const EXECUTORS: [Executor; 11] = [
    tokio(&["tokio"], &["spawn"]),
    tokio(&["tokio", "task"], &["spawn", "spawn_blocking"]),
    RAYON,
    pool(&["rayon_core"], &[], "rayon's pool"),
    pool(&["smol"], &["spawn", "unblock"], "smol's executor"),
    pool(&["blocking"], &["unblock", "Unblock"], "the pool of `blocking`"),
    pool(&["async_std", "task"], &["spawn", "spawn_blocking", "Builder"], "async-std's executor"),
    pool(&["async_global_executor"], &["spawn", "spawn_blocking"], "the global executor"),
    pool(&["futures", "executor"], &["ThreadPool", "ThreadPoolBuilder"], "a thread pool"),
    pool(&["futures_executor"], &["ThreadPool", "ThreadPoolBuilder"], "a thread pool"),
    pool(&["threadpool"], &[], "a thread pool"),
];

const RAYON: Executor = pool(&["rayon"], &[], "rayon's pool");

/// The methods of rayon's traits that start a parallel iteration.
const PARALLEL: [&str; 29] = [
    "into_par_iter",
    "par_iter",
    "par_iter_mut",
    "par_bridge",
    "par_bytes",
    "par_char_indices",
    "par_chars",
    "par_chunk_by",
    "par_chunk_by_mut",
    "par_chunks",
    "par_chunks_exact",
    "par_chunks_exact_mut",
    "par_chunks_mut",
    "par_drain",
    "par_encode_utf16",
    "par_extend",
    "par_lines",
    "par_matches",
    "par_rchunks",
    "par_rchunks_exact",
    "par_rchunks_mut",
    "par_sort",
    "par_sort_by",
    "par_sort_by_key",
    "par_sort_unstable",
    "par_sort_unstable_by",
    "par_split",
    "par_split_whitespace",
    "par_windows",
];

const fn tokio(path: &'static [&'static str], items: &'static [&'static str]) -> Executor {
    Executor { path, items, to: "tokio's runtime", contained: true }
}

const fn pool(path: &'static [&'static str], items: &'static [&'static str], to: &'static str) -> Executor {
    Executor { path, items, to, contained: false }
}

impl Executor {
    fn named_by(path: &[String]) -> Option<&'static Executor> {
        EXECUTORS.iter().find(|executor| executor.is_named_by(path))
    }

    /// Whether the path is, or begins with, one of the items.
    fn is_named_by(&self, path: &[String]) -> bool {
        let begins = self.path.len() < path.len() && self.path.iter().zip(path).all(|(wanted, is)| wanted == is);
        begins && (self.items.is_empty() || self.items.iter().any(|item| *item == path[self.path.len()]))
    }
}

/// The types that make a tokio runtime. A body that names one makes its runtime inside, and `tokio::spawn` finds no other
/// there. A body that `#[tokio::test]` has rewritten looks like this too.
const RUNTIME: Executor = tokio(&["tokio", "runtime"], &["Builder", "Runtime"]);

/// Refuses each hand-over at its own tokens. `contained`: the body has a tokio runtime of its own, inside the namespace.
pub(crate) fn validate(body: &TokenStream, contained: bool, errors: &mut Errors) {
    let mut scan = Scan { contained, found: Vec::new() };
    scan.block(body, &Scope::default());
    for (executor, error) in scan.found {
        if !(executor.contained && scan.contained) {
            errors.push(error);
        }
    }
}

struct Scan {
    contained: bool,
    found: Vec<(&'static Executor, Error)>,
}

impl Scan {
    /// The tokens between two delimiters. The items of a block are in scope in all of it, also before their place.
    fn block(&mut self, tokens: &TokenStream, outer: &Scope<'_>) {
        let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
        let mut scope = Scope { outer: Some(outer), ..Scope::default() };
        for at in 0..tokens.len() {
            if let Some((item, _)) = use_item(&tokens[at..]) {
                scope.import(&item);
            } else if let Some(name) = declared(&tokens[at..]) {
                scope.names.insert(name, Meaning::Own);
            }
        }

        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            if let Some((item, length)) = use_item(&tokens[at..]) {
                self.import(&item, &scope);
                at += length;
                continue;
            }
            match token {
                TokenTree::Group(group) => {
                    if !is_attribute(&tokens[..at], group) {
                        self.block(&group.stream(), &scope);
                    }
                    at += 1;
                }
                TokenTree::Ident(_) => {
                    let path = Written::at(&tokens, at);
                    self.path(&path, &scope);
                    at += path.length;
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => at += 1,
            }
        }
    }

    /// Refuses the `use` item itself where it imports a hand-over: its uses may have another name.
    fn import(&mut self, item: &ItemUse, scope: &Scope<'_>) {
        for leaf in leaves(item) {
            let mut path = if item.leading_colon.is_some() { leaf.path } else { scope.resolve(leaf.path) };
            if leaf.name.is_none() {
                path.push("*".to_owned());
            }
            self.check(&path, &leaf.shown, &leaf.tokens);
        }
    }

    fn path(&mut self, written: &Written, scope: &Scope<'_>) {
        let Some(last) = written.segments.last() else { return };
        if written.is_member || written.segments.len() > 1 {
            let parallel = PARALLEL.iter().any(|method| last == method);
            if parallel && written.is_called {
                self.refuse(&RAYON, last, &written.tokens);
                return;
            }
        }
        if written.is_member {
            return;
        }
        if written.is_global {
            self.check(&written.segments, &written.shown(), &written.tokens);
            return;
        }
        if written.segments.len() == 1 && !written.is_called {
            // A name alone may be a variable or a field.
            return;
        }
        let globs = scope.globs_for(&written.segments[0]);
        let through_globs = globs.into_iter().map(|glob| [glob, &written.segments].concat());
        let meanings = std::iter::once(scope.resolve(written.segments.clone())).chain(through_globs);
        for path in meanings {
            if self.check(&path, &written.shown(), &written.tokens) {
                break;
            }
        }
    }

    fn check(&mut self, path: &[String], shown: &str, tokens: &TokenStream) -> bool {
        self.contained |= RUNTIME.is_named_by(path);
        let Some(executor) = Executor::named_by(path) else { return false };
        self.refuse(executor, shown, tokens);
        true
    }

    fn refuse(&mut self, executor: &'static Executor, what: &str, tokens: &TokenStream) {
        let to = executor.to;
        let inside = if executor.contained {
            "or make this an `async fn` (feature `tokio` of `in-netns`), whose runtime is inside, \
             or use `std::thread::scope` for what must run inside"
        } else {
            "or use `std::thread::scope` for what must run inside"
        };
        let message = format!(
            "`{what}` hands its work to {to}, whose threads need not be in the namespace: do it before or after the call, \
             {inside}; where those threads are known to be inside, `#[in_netns(…, allow(handover))]`"
        );
        self.found.push((executor, Error::new_spanned(tokens, message)));
    }
}

/// The names that the `use` items and the declarations of a block bring into scope.
#[derive(Default)]
struct Scope<'o> {
    outer: Option<&'o Scope<'o>>,
    names: HashMap<String, Meaning>,
    globs: Vec<Vec<String>>,
}

enum Meaning {
    /// An item of the body, whatever its name; or an import that was refused already.
    Own,
    Imported(Vec<String>),
}

impl Scope<'_> {
    fn import(&mut self, item: &ItemUse) {
        for leaf in leaves(item) {
            let path = if item.leading_colon.is_some() { leaf.path } else { self.resolve(leaf.path) };
            // Refused at the import, so not once more at its uses.
            let is_refused = |path: &[String]| Executor::named_by(path).is_some();
            match leaf.name {
                Some(name) if is_refused(&path) => {
                    self.names.insert(name, Meaning::Own);
                }
                Some(name) if path.first() != Some(&name) || path.len() > 1 => {
                    self.names.insert(name, Meaning::Imported(path));
                }
                Some(_) => {}
                None if is_refused(&[&path[..], &["*".to_owned()]].concat()) => {}
                None => self.globs.push(path),
            }
        }
    }

    /// The path with its first segment replaced by the path that this segment stands for.
    fn resolve(&self, path: Vec<String>) -> Vec<String> {
        match path.first().and_then(|first| self.meaning(first)) {
            Some(Meaning::Imported(meaning)) => [meaning, &path[1..]].concat(),
            Some(Meaning::Own) => Vec::new(),
            None => path,
        }
    }

    fn meaning(&self, name: &str) -> Option<&Meaning> {
        self.names.get(name).or_else(|| self.outer?.meaning(name))
    }

    /// The modules from which a glob import may bring in a name that is not declared.
    fn globs_for(&self, name: &str) -> Vec<&[String]> {
        if self.meaning(name).is_some() {
            return Vec::new();
        }
        let outer = self.outer.map_or_else(Vec::new, |outer| outer.globs_for(name));
        self.globs.iter().map(Vec::as_slice).chain(outer).collect()
    }
}

/// One name that a `use` item brings in.
struct Leaf {
    path: Vec<String>,
    /// `None` for a glob.
    name: Option<String>,
    shown: String,
    tokens: TokenStream,
}

fn leaves(item: &ItemUse) -> Vec<Leaf> {
    fn walk(tree: &UseTree, path: &mut Vec<String>, leaves: &mut Vec<Leaf>) {
        let leaf = |last: Option<&Ident>, name: Option<&Ident>, tokens: TokenStream, path: &[String]| {
            let mut path = path.to_vec();
            path.extend(last.map(plain).filter(|last| last != "self"));
            let shown = if last.is_some() { path.join("::") } else { path.join("::") + "::*" };
            let name = match name.map(plain) {
                // `use tokio::task::{self}`
                Some(name) if name == "self" => path.last().cloned(),
                name => name,
            };
            Leaf { path, name, shown, tokens }
        };
        match tree {
            UseTree::Path(branch) => {
                path.push(plain(&branch.ident));
                walk(&branch.tree, path, leaves);
                path.pop();
            }
            UseTree::Name(name) => {
                leaves.push(leaf(Some(&name.ident), Some(&name.ident), name.to_token_stream(), path));
            }
            UseTree::Rename(rename) => {
                leaves.push(leaf(Some(&rename.ident), Some(&rename.rename), rename.to_token_stream(), path));
            }
            UseTree::Glob(glob) => leaves.push(leaf(None, None, glob.to_token_stream(), path)),
            UseTree::Group(group) => group.items.iter().for_each(|tree| walk(tree, path, leaves)),
        }
    }
    let mut found = Vec::new();
    walk(&item.tree, &mut Vec::new(), &mut found);
    if !matches!(item.tree, UseTree::Group(_)) && found.len() == 1 {
        // A single path is shown as a whole.
        found[0].tokens = item.tree.to_token_stream();
    }
    found
}

/// The `use` item at the head of the tokens, and its number of tokens.
fn use_item(tokens: &[TokenTree]) -> Option<(ItemUse, usize)> {
    if !matches!(tokens.first(), Some(TokenTree::Ident(word)) if word == "use") {
        return None;
    }
    let end = tokens.iter().position(|token| is_punct(token, ';'))?;
    let item: TokenStream = tokens[..=end].iter().cloned().collect();
    syn::parse2(item).ok().map(|item| (item, end + 1))
}

/// The name of the item at the head of the tokens.
fn declared(tokens: &[TokenTree]) -> Option<String> {
    const ITEMS: [&str; 6] = ["fn", "mod", "struct", "enum", "trait", "type"];
    match tokens {
        [TokenTree::Ident(keyword), TokenTree::Ident(name), ..] if ITEMS.iter().any(|item| keyword == item) => {
            Some(plain(name))
        }
        _ => None,
    }
}

/// A path or a member, as written.
struct Written {
    segments: Vec<String>,
    tokens: TokenStream,
    length: usize,
    /// It follows a dot.
    is_member: bool,
    /// It begins with `::`.
    is_global: bool,
    /// Arguments follow, of a call or of types.
    is_called: bool,
}

impl Written {
    /// The path whose first segment is at `start`.
    fn at(tokens: &[TokenTree], start: usize) -> Self {
        let before = &tokens[..start];
        let is_global = is_path_separator(before.len().checked_sub(2).map_or(&[][..], |from| &before[from..]));
        let is_member = before.last().is_some_and(|token| is_punct(token, '.'))
            // `0..len`: not a member of anything.
            && !before.len().checked_sub(2).is_some_and(|at| is_punct(&before[at], '.'));
        let mut segments = Vec::new();
        let mut at = start;
        while let Some(TokenTree::Ident(segment)) = tokens.get(at) {
            segments.push(plain(segment));
            at += 1;
            if !(is_path_separator(&tokens[at..]) && matches!(tokens.get(at + 2), Some(TokenTree::Ident(_)))) {
                break;
            }
            at += 2;
        }
        let is_called = match tokens.get(at) {
            Some(TokenTree::Group(arguments)) => arguments.delimiter() == Delimiter::Parenthesis,
            _ => is_path_separator(&tokens[at..]),
        };
        let is_global = is_global && !names_a_type(&before[..before.len().saturating_sub(2)]);
        // The segments after `>::` belong to a type that was checked already.
        let is_member = is_member || (!is_global && is_path_separator(&before[before.len().saturating_sub(2)..]));
        Self {
            segments,
            tokens: tokens[start..at].iter().cloned().collect(),
            length: at - start,
            is_member,
            is_global,
            is_called,
        }
    }

    fn shown(&self) -> String {
        self.segments.join("::")
    }
}

/// Whether a `::` after these tokens continues a type: `Vec::<u8>::`, `<T>::`, `$crate::`.
fn names_a_type(before: &[TokenTree]) -> bool {
    match before.last() {
        Some(TokenTree::Ident(_)) => true,
        Some(TokenTree::Punct(punct)) => punct.as_char() == '>',
        _ => false,
    }
}

fn is_path_separator(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [first, second, ..] if is_punct(first, ':') && is_punct(second, ':'))
}
