//! Reads paths from mangled names, and types from paths.

use std::fmt::{self, Write as _};

use rustc_demangle::try_demangle;

/// The path for people and for patterns, without crate hashes.
pub(crate) fn path(mangled: &str) -> String {
    match try_demangle(mangled) {
        Ok(name) => format!("{name:#}"),
        Err(_) => mangled.to_owned(),
    }
}

/// The path that distinguishes two crates of one name. It has the same form for functions and for types.
pub(crate) fn identity(mangled: &str) -> String {
    match try_demangle(mangled) {
        Ok(name) => {
            let mut identity = Identity(String::with_capacity(mangled.len() * 3));
            // Writing to a string does not fail.
            let _ = write!(identity, "{name}");
            identity.0
        }
        Err(_) => mangled.to_owned(),
    }
}

/// Writes `<` in the place of `::<`.
struct Identity(String);

impl fmt::Write for Identity {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive("::<") {
            let part = match part.strip_suffix("::<") {
                Some(before) => {
                    self.0.push_str(before);
                    "<"
                }
                None => part,
            };
            if part.starts_with('<') && self.0.ends_with("::") {
                self.0.truncate(self.0.len() - 2);
            }
            self.0.push_str(part);
        }
        Ok(())
    }
}

/// A path without the generic arguments of the function itself, and these arguments.
pub(crate) fn split(path: &str) -> (&str, Vec<&str>) {
    let Some(inner) = path.strip_suffix('>') else {
        return (path, Vec::new());
    };
    let bytes = inner.as_bytes();
    let mut depth = 0;
    for (index, &byte) in bytes.iter().enumerate().rev() {
        match byte {
            _ if is_quoted(bytes, index) => {}
            // The `>` of an arrow, as in `fn() -> u32`, does not count.
            b'>' if index == 0 || bytes[index - 1] != b'-' => depth += 1,
            b'<' if depth == 0 => {
                let base = &inner[..index];
                return (base.strip_suffix("::").unwrap_or(base), split_arguments(&inner[index + 1..]));
            }
            b'<' => depth -= 1,
            _ => {}
        }
    }
    (path, Vec::new())
}

/// Whether this character is a constant in quotes, as in `f::<'>'>`.
fn is_quoted(bytes: &[u8], index: usize) -> bool {
    index > 0 && bytes[index - 1] == b'\'' && bytes.get(index + 1) == Some(&b'\'')
}

/// The generic arguments of the function itself.
pub(crate) fn generic_arguments(path: &str) -> Vec<&str> {
    split(path).1
}

fn split_arguments(list: &str) -> Vec<&str> {
    let bytes = list.as_bytes();
    let mut depth = 0;
    let mut start = 0;
    let mut arguments = Vec::new();
    for (index, &byte) in bytes.iter().enumerate() {
        match byte {
            _ if is_quoted(bytes, index) => {}
            b'<' | b'(' | b'[' | b'{' => depth += 1,
            b'>' if index > 0 && bytes[index - 1] == b'-' => {}
            b'>' | b')' | b']' | b'}' => depth -= 1,
            b',' if depth == 0 => {
                arguments.push(list[start..index].trim());
                start = index + 1;
            }
            _ => {}
        }
    }
    arguments.push(list[start..].trim());
    arguments
}

/// Whether a type is a closure, or the future of an async block. (The future of an async closure has arguments that the
/// compiler adds.)
pub(crate) fn is_closure(r#type: &str) -> bool {
    let (base, _) = split(r#type);
    base.ends_with('}') && base.rsplit("::").next().is_some_and(|segment| segment.starts_with("{closure"))
}

/// Whether a type can be called, and only its value tells what is called.
pub(crate) fn is_indirect(r#type: &str) -> bool {
    r#type.contains("dyn ") || r#type.contains("fn(")
}

/// The type in a type of the standard library that calls it when it is called: `F` of `&mut F` and `Box<F>`.
pub(crate) fn called_through(r#type: &str) -> Option<&str> {
    if let Some(referent) = r#type.strip_prefix('&') {
        return Some(referent.strip_prefix("mut ").unwrap_or(referent));
    }
    let (base, arguments) = split(r#type);
    let name = base.rsplit("::").next()?;
    let of_std = ["alloc", "core"].contains(&krate(base));
    (of_std && ["AssertUnwindSafe", "Box"].contains(&name)).then(|| arguments.first().copied()).flatten()
}

/// The crate that a path begins in, without its hash.
pub(crate) fn krate(path: &str) -> &str {
    let start = path.trim_start_matches(['<', '&', '*', '(', '[']);
    let start = start.strip_prefix("mut ").unwrap_or(start);
    let end = start.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(start.len());
    &start[..end]
}

/// The crate that has the code of a function, without its hash: for a method of a trait, the crate of the `impl`, and
/// for one that the trait provides, the crate of the trait.
pub(crate) fn owner<'n>(mangled: &'n str, path: &'n str) -> &'n str {
    crate_of_mangled(mangled).unwrap_or_else(|| match of_trait(path) {
        Some(r#trait) => krate(r#trait),
        None => krate(path),
    })
}

/// The crate of the first module in a mangled name; none for a method that a trait provides.
fn crate_of_mangled(mangled: &str) -> Option<&str> {
    let name = mangled.strip_prefix("_R")?;
    let bytes = name.as_bytes();
    let mut at = 0;
    loop {
        let tag = *bytes.get(at)?;
        at += 1;
        match tag {
            b'I' => {}
            b'N' => at += 1,
            b'M' | b'X' => at = after_disambiguator(bytes, at)?,
            b'C' => {
                at = after_disambiguator(bytes, at)?;
                at += usize::from(bytes.get(at) == Some(&b'u'));
                let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                let length: usize = name[at..at + digits].parse().ok()?;
                at += digits;
                at += usize::from(bytes.get(at) == Some(&b'_'));
                return name.get(at..at + length);
            }
            // A reference to an earlier part of the name.
            b'B' => {
                let (to, _) = base_62(bytes, at)?;
                at = Some(to).filter(|to| *to + 1 < at)?;
            }
            _ => return None,
        }
    }
}

fn after_disambiguator(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b's' => base_62(bytes, at + 1).map(|(_, after)| after),
        _ => Some(at),
    }
}

/// A number in base 62, and the index after it.
fn base_62(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let length = bytes.get(at..)?.iter().position(|byte| *byte == b'_')?;
    let mut value: usize = 0;
    for byte in &bytes[at..at + length] {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'z' => byte - b'a' + 10,
            b'A'..=b'Z' => byte - b'A' + 36,
            _ => return None,
        };
        // The disambiguator of a crate may overflow. Its value is not used.
        value = value.wrapping_mul(62).wrapping_add(usize::from(digit));
    }
    let value = if length == 0 { 0 } else { value.wrapping_add(1) };
    Some((value, at + length + 1))
}

/// The trait, in the path of a method of a trait: `<type as trait>::method`.
fn of_trait(path: &str) -> Option<&str> {
    let bytes = path.strip_prefix('<')?.as_bytes();
    let mut depth = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        match byte {
            _ if is_quoted(bytes, index) => {}
            b'>' if index > 0 && bytes[index - 1] == b'-' => {}
            b'>' if depth == 0 => return None,
            b'<' => depth += 1,
            b'>' => depth -= 1,
            b' ' if depth == 0 && bytes[index..].starts_with(b" as ") => return path.get(index + 5..),
            _ => {}
        }
    }
    None
}

/// The type whose `drop` this function is, without generic arguments.
pub(crate) fn dropped(path: &str) -> Option<&str> {
    let r#type = path.strip_prefix('<')?.strip_suffix(" as core::ops::drop::Drop>::drop")?;
    Some(split(r#type).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_split_at_their_own_level() {
        let path = "in_netns::with_netns<&str, app::f<u8, u16>::{closure#0}, (fn(u8) -> u8, Vec<(u8, u8)>)>";
        assert_eq!(generic_arguments(path), ["&str", "app::f<u8, u16>::{closure#0}", "(fn(u8) -> u8, Vec<(u8, u8)>)"]);
        assert_eq!(generic_arguments("<in_netns::Call<&str>>::run<app::f, fn() -> u8>"), ["app::f", "fn() -> u8"]);
        assert!(generic_arguments("app::f::{closure#0}").is_empty());
    }

    #[test]
    fn a_constant_character_divides_nothing() {
        assert_eq!(split("app::f::<'>'>"), ("app::f", vec!["'>'"]));
        assert_eq!(split("app::f::<'<', ',', u8>"), ("app::f", vec!["'<'", "','", "u8"]));
        assert_eq!(split("app::f::<'>'>::{closure#0}"), ("app::f::<'>'>::{closure#0}", vec![]));
        assert_eq!(of_trait("<app::S<'>'> as app::T>::f"), Some("app::T>::f"));
    }

    #[test]
    fn a_closure_is_told_from_a_type_that_mentions_one() {
        assert!(is_closure("app::f::{closure#0}"));
        assert!(is_closure("app::f<app::g::{closure#1}>::{closure#0}"));
        assert!(is_closure("app::f::{closure#0}::{closure#0}::<i32>"));
        assert!(!is_closure("app::f<app::g::{closure#1}>"));
        assert!(!is_closure("&str"));
    }

    #[test]
    fn a_type_is_called_through_those_around_it() {
        assert_eq!(called_through("&app::f::{closure#0}"), Some("app::f::{closure#0}"));
        assert_eq!(called_through("&mut app::f::{closure#0}"), Some("app::f::{closure#0}"));
        let boxed = "alloc[ab]::boxed::Box<app::f::<u8>::{closure#0}, alloc[ab]::alloc::Global>";
        assert_eq!(called_through(boxed), Some("app::f::<u8>::{closure#0}"));
        assert_eq!(called_through("core::panic::unwind_safe::AssertUnwindSafe<app::f>"), Some("app::f"));
        assert_eq!(called_through("app::Box<app::f>"), None);
        assert_eq!(called_through("app::f::{closure#0}"), None);
    }

    #[test]
    fn the_same_path_is_written_alike_as_function_and_as_type() {
        // `a::f::<a::main::{closure#0}>`, a function; inside it, the closure is a type.
        let function = "_RINvCs1234_1a1fNCNvB2_4main0EB2_";
        assert_eq!(path(function), "a::f::<a::main::{closure#0}>");
        let closure = "_RNCNvCs1234_1a4main0B3_";
        assert_eq!(generic_arguments(&identity(function)), [identity(closure)]);
    }

    #[test]
    fn an_identity_has_no_turbofish_however_it_is_written() {
        for pieces in [&["a::b::<c::d::<e>>"][..], &["a", "::", "b", "::", "<", "c::d", "::<e", ">", ">"]] {
            let mut identity = Identity(String::new());
            for piece in pieces {
                identity.write_str(piece).unwrap();
            }
            assert_eq!(identity.0, "a::b<c::d<e>>");
        }
    }

    #[test]
    fn a_path_begins_in_a_crate() {
        assert_eq!(krate("<std::thread::scoped::Scope>::spawn::<f>"), "std");
        assert_eq!(krate("<&mut alloc::vec::Vec<u8>>::len"), "alloc");
        assert_eq!(krate("pthread_create"), "pthread_create");
    }

    #[test]
    fn the_code_of_a_method_is_in_the_crate_of_its_impl() {
        // Compiled from `impl Enter for File` and from a closure in `impl Probe for NetNs`, in crates of these names.
        for (mangled, krate) in [
            ("_RNvXCs1234_3appNtNtCs5678_3std2fs4FileNtB2_5Enter5enter", "app"),
            ("_RNCNvXs_Cs1234_3appNtCs5678_8in_netns5NetNsNtB5_5Probe6within0B5_", "app"),
            ("_RINvNtCs5678_3std6thread5spawnNCNvCs1234_3app4main0uEB1c_", "std"),
            ("_RNvMs_NtCs5678_3std2fsNtB4_4File4open", "std"),
        ] {
            assert_eq!(owner(mangled, &path(mangled)), krate, "{mangled}");
        }
        assert_eq!(owner("", "<app::Own<fn() -> <u8 as a::B>::C> as std::io::Read>::read_to_end"), "std");
        assert_eq!(owner("setns", "setns"), "setns");
    }

    #[test]
    fn a_guard_is_the_type_that_is_dropped() {
        assert_eq!(dropped("<app::Guard as core::ops::drop::Drop>::drop"), Some("app::Guard"));
        assert_eq!(dropped("<app::Guard<u8> as core::ops::drop::Drop>::drop"), Some("app::Guard"));
        assert_eq!(dropped("<app::Guard>::drop"), None);
    }
}
