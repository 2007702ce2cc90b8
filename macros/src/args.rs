//! The arguments of `#[in_netns(…)]`: the namespace or `view = …`, then options.
//!
//! An option is read in two steps: its shape first (`word`, `name = value`, `name(list)`), its meaning after. So an
//! error in one option does not hide the errors in the others, and a new option is one more arm in [`Args::accept`].

use proc_macro2::{Group, Ident, Span, TokenStream, TokenTree};
use syn::ext::IdentExt as _;
use syn::parse::{Parse, ParseStream, Parser as _};
use syn::punctuated::Punctuated;
use syn::{Error, Expr, LitStr, Path, Result, Token};

use crate::errors::Errors;

/// The options as error messages list them. Each has an arm in [`Args::accept`], and its name is in [`NAMES`].
const OPTIONS: &str = "`fresh`, `owned`, `audit`, `audit = \"panic\"`, `audit = \"off\"`, `allow(handover)`, \
                       `allow(process_network)`, `error = \"panic\"`, `error = \"return\"`, `crate = path`";

/// The names of the options.
const NAMES: [&str; 6] = ["fresh", "owned", "audit", "allow", "error", "crate"];

/// The words of `allow`, as error messages list them.
const ALLOW: &str = "`allow(handover)`, `allow(process_network)` or `allow(handover, process_network)`";

/// The arguments of the attribute.
pub(crate) struct Args {
    pub(crate) target: Target,
    pub(crate) fresh: bool,
    pub(crate) audit: Option<Audit>,
    pub(crate) allow: Allow,
    /// The place of the word `owned`.
    pub(crate) owned: Option<Span>,
    pub(crate) error: Option<OnError>,
    pub(crate) krate: Option<Path>,
}

/// The namespace that the body runs in.
pub(crate) enum Target {
    /// `new`: created for this call, gone after it.
    New,
    /// Any expression of a type that is `IntoNetNs`.
    Given(Box<Expr>),
    /// `view = EXPR`: an expression of type `View` or `&View`.
    View(Box<Expr>),
}

/// Whether to look for threads that outlive the call, and what happens if there is one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audit {
    Off,
    Report,
    Panic,
}

/// The option `error`.
pub(crate) struct OnError {
    pub(crate) action: ErrorAction,
    pub(crate) span: Span,
}

/// What a failure to enter the namespace becomes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorAction {
    Panic,
    Return,
    /// Returned if the return type turns out to be a `Result`, a panic otherwise: the compiler decides.
    ByType,
}

/// What the body may contain although it is refused by default.
#[derive(Clone, Copy, Default)]
pub(crate) struct Allow {
    /// Work for executors that may have threads elsewhere.
    pub(crate) handover: bool,
    /// Paths that show the network of the process.
    pub(crate) process_network: bool,
}

impl Args {
    /// Parses all arguments and reports every error at once.
    pub(crate) fn parse(tokens: TokenStream) -> Result<Self> {
        Self::parse_stream.parse2(tokens)
    }

    fn parse_stream(input: ParseStream) -> Result<Self> {
        let mut args = Self {
            target: Target::New,
            fresh: false,
            audit: None,
            allow: Allow::default(),
            owned: None,
            error: None,
            krate: None,
        };
        let mut errors = Errors::default();
        let mut is_missing = false;

        if input.is_empty() {
            return Err(missing_namespace(Span::call_site()));
        }
        if let Some(view) = leading_view(input) {
            input.parse::<Ident>()?;
            input.parse::<Token![=]>()?;
            if input.is_empty() || input.peek(Token![,]) {
                errors.push(missing_value(&view, "&view"));
            } else {
                // The expression may contain commas: `view = view_of::<A, B>()`.
                args.target = Target::View(Box::new(input.parse()?));
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        } else if let Some(option) = leading_option(input) {
            if is_option(&option) {
                errors.push(missing_namespace(option.span()));
                is_missing = true;
            } else if option != "new" {
                input.parse::<RawOption>()?;
                errors.push(not_an_option(&option));
                if !input.is_empty() {
                    input.parse::<Token![,]>()?;
                }
            }
        } else {
            args.target = input.parse()?;
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }

        let options = match Punctuated::<RawOption, Token![,]>::parse_terminated(input) {
            Ok(options) => options,
            Err(error) => {
                // Without a namespace, what is no option may be the namespace: it is not the first argument.
                if !is_missing {
                    errors.push(error);
                }
                return errors.into_result().map(|()| args);
            }
        };
        let mut seen: Vec<Ident> = Vec::new();
        for option in options {
            if is_missing && matches!(option.value, RawValue::None) && !is_option(&option.name) {
                // As above.
                continue;
            }
            if seen.contains(&option.name) {
                errors.push(Error::new(option.name.span(), format!("option `{}` is given twice", option.name)));
                continue;
            }
            seen.push(option.name.clone());
            if let Err(error) = args.accept(option) {
                errors.push(error);
            }
        }
        errors.into_result().map(|()| args)
    }

    /// Applies one option.
    fn accept(&mut self, option: RawOption) -> Result<()> {
        let RawOption { name, value } = option;
        match name.to_string().as_str() {
            "fresh" => {
                value.none(&name)?;
                self.fresh = true;
            }
            "audit" => {
                self.audit = Some(match value {
                    RawValue::None => Audit::Report,
                    value => value.equals(&name, "\"panic\"` or `audit = \"off\"")?,
                });
            }
            "allow" => self.allow = value.list::<Allow>(&name, ALLOW)?,
            "owned" => {
                value.none(&name)?;
                self.owned = Some(name.span());
            }
            "error" => self.error = Some(value.equals(&name, "\"panic\"` or `error = \"return\"")?),
            "crate" => self.krate = Some(value.equals::<CratePath>(&name, "path")?.0),
            "view" => {
                let message = "`view = …` is written in place of a namespace: a view has its own";
                return Err(Error::new(name.span(), message));
            }
            "new" => {
                return Err(Error::new(name.span(), "`new` is written in place of a namespace: `#[in_netns(new)]`"));
            }
            _ => {
                let message = match similar(&name, &NAMES) {
                    Some(meant) => {
                        format!("unknown option `{name}`: did you mean `{meant}`? The options are {OPTIONS}")
                    }
                    None => format!("unknown option `{name}`; the options are {OPTIONS}"),
                };
                return Err(Error::new(name.span(), message));
            }
        }
        Ok(())
    }
}

impl Parse for Target {
    fn parse(input: ParseStream) -> Result<Self> {
        let ahead = input.fork();
        if ahead.call(Ident::parse_any).is_ok_and(|word| word == "new") && (ahead.is_empty() || ahead.peek(Token![,])) {
            input.call(Ident::parse_any)?;
            return Ok(Self::New);
        }
        input.parse().map(|expr| Self::Given(Box::new(expr)))
    }
}

impl Parse for OnError {
    fn parse(input: ParseStream) -> Result<Self> {
        let span = input.span();
        let action = match input.parse::<LitStr>().map(|text| text.value()).as_deref() {
            Ok("panic") => ErrorAction::Panic,
            Ok("return") => ErrorAction::Return,
            _ => {
                return Err(Error::new(span, "expected `error = \"panic\"` or `error = \"return\"`"));
            }
        };
        Ok(Self { action, span })
    }
}

impl Parse for Allow {
    fn parse(input: ParseStream) -> Result<Self> {
        let mut allow = Self::default();
        let word = |input: ParseStream| {
            input.call(Ident::parse_any).map_err(|error| Error::new(error.span(), format!("expected {ALLOW}")))
        };
        for word in Punctuated::<Ident, Token![,]>::parse_terminated_with(input, word)? {
            let allowed = match word.to_string().as_str() {
                "handover" => &mut allow.handover,
                "process_network" => &mut allow.process_network,
                _ => return Err(Error::new(word.span(), format!("expected {ALLOW}"))),
            };
            if std::mem::replace(allowed, true) {
                return Err(Error::new(word.span(), format!("`{word}` is listed twice")));
            }
        }
        Ok(allow)
    }
}

impl Parse for Audit {
    fn parse(input: ParseStream) -> Result<Self> {
        let span = input.span();
        match input.parse::<LitStr>().map(|text| text.value()).as_deref() {
            Ok("panic") => Ok(Self::Panic),
            Ok("off") => Ok(Self::Off),
            _ => Err(Error::new(span, "expected `audit`, `audit = \"panic\"` or `audit = \"off\"`")),
        }
    }
}

/// The path after `crate =`: `::renamed`, `crate::reexport::in_netns`.
struct CratePath(Path);

impl Parse for CratePath {
    fn parse(input: ParseStream) -> Result<Self> {
        let span = input.span();
        match input.call(Path::parse_mod_style) {
            Ok(path) => Ok(Self(path)),
            Err(_) => Err(Error::new(span, "expected a path: `crate = path`")),
        }
    }
}

/// An option whose name has not been interpreted yet.
struct RawOption {
    name: Ident,
    value: RawValue,
}

enum RawValue {
    None,
    Equals(TokenStream),
    List(TokenStream),
}

impl Parse for RawOption {
    fn parse(input: ParseStream) -> Result<Self> {
        let span = input.span();
        let Ok(name) = input.call(Ident::parse_any) else {
            return Err(Error::new(span, format!("expected an option: the options are {OPTIONS}")));
        };
        let value = if input.peek(Token![=]) {
            input.parse::<Token![=]>()?;
            RawValue::Equals(until_comma(input)?)
        } else if input.peek(syn::token::Paren) {
            let list = input.parse::<Group>()?;
            RawValue::List(list.stream())
        } else {
            RawValue::None
        };
        Ok(Self { name, value })
    }
}

impl RawValue {
    /// For an option that is a word alone.
    fn none(self, name: &Ident) -> Result<()> {
        match self {
            Self::None => Ok(()),
            Self::Equals(_) | Self::List(_) => Err(Error::new(name.span(), format!("option `{name}` takes no value"))),
        }
    }

    /// For an option that is written `name = value`; `value` is how the message spells it.
    fn equals<T: Parse>(self, name: &Ident, value: &str) -> Result<T> {
        match self {
            Self::Equals(tokens) if !tokens.is_empty() => value_before_comma.parse2(tokens),
            Self::None | Self::Equals(_) | Self::List(_) => Err(missing_value(name, value)),
        }
    }

    /// For an option that is written `name(list)`; `list` is how the message spells it.
    fn list<T: Parse>(self, name: &Ident, list: &str) -> Result<T> {
        match self {
            Self::List(tokens) if !tokens.is_empty() => syn::parse2(tokens),
            Self::None | Self::Equals(_) | Self::List(_) => Err(Error::new(name.span(), format!("expected {list}"))),
        }
    }
}

fn value_before_comma<T: Parse>(input: ParseStream) -> Result<T> {
    let value = input.parse()?;
    if input.is_empty() { Ok(value) } else { Err(input.error("expected `,`")) }
}

/// `value` is how the message spells it.
fn missing_value(name: &Ident, value: &str) -> Error {
    Error::new(name.span(), format!("option `{name}` takes a value: `{name} = {value}`"))
}

fn missing_namespace(span: Span) -> Error {
    Error::new(
        span,
        "missing namespace: the first argument is an expression for it, such as `#[in_netns(\"blue\")]`, \
         or `new` for a new one",
    )
}

/// For a first argument `name = …`.
fn not_an_option(name: &Ident) -> Error {
    let meant = similar(name, &NAMES).or_else(|| similar(name, &["view"]));
    let meant = meant.map_or_else(String::new, |meant| format!(" (did you mean `{meant}`?)"));
    let message = format!(
        "`{name}` is no option{meant}: the namespace is written without a name, such as `#[in_netns(\"blue\")]`, or as \
         `view = …`, and the options after it are {OPTIONS}"
    );
    Error::new(name.span(), message)
}

/// The name that may have been misspelt as this word: at most half of its letters differ, and at most two.
fn similar(word: &Ident, names: &[&'static str]) -> Option<&'static str> {
    let word = word.to_string();
    names.iter().copied().find(|name| {
        let differences = differences(word.as_bytes(), name.as_bytes());
        differences <= 2 && 2 * differences <= name.len()
    })
}

/// The number of letters that are to be inserted, removed or replaced to make one word the other (Levenshtein).
fn differences(word: &[u8], name: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=name.len()).collect();
    for (index, letter) in word.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, other) in name.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[name.len()]
}

fn is_option(name: &Ident) -> bool {
    NAMES.iter().any(|option| name == option)
}

/// The name of the first argument, if that is an option and so no namespace: `fresh`, or any name before `=`.
fn leading_option(input: ParseStream) -> Option<Ident> {
    let ahead = input.fork();
    let word = ahead.call(Ident::parse_any).ok()?;
    let ends = ahead.is_empty() || ahead.peek(Token![,]);
    let assigns = ahead.peek(Token![=]) && !ahead.peek(Token![==]);
    let lists = word == "allow" && ahead.peek(syn::token::Paren);
    let stands_alone = ends && (word == "fresh" || word == "audit" || word == "owned");
    (assigns || lists || stands_alone).then_some(word)
}

/// The word `view` of a first argument `view = EXPR`.
fn leading_view(input: ParseStream) -> Option<Ident> {
    let ahead = input.fork();
    let word = ahead.parse::<Ident>().ok()?;
    (word == "view" && ahead.peek(Token![=]) && !ahead.peek(Token![==])).then_some(word)
}

fn until_comma(input: ParseStream) -> Result<TokenStream> {
    let mut tokens = TokenStream::new();
    while !input.is_empty() && !input.peek(Token![,]) {
        tokens.extend([input.parse::<TokenTree>()?]);
    }
    Ok(tokens)
}
