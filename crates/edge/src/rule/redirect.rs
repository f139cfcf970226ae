//! `_redirects`: `from to [status][!]`, one rule a line, the first that matches counts.

use std::fmt::Write as _;

use http::HeaderValue;

use super::{
    Error, MAX_RULES,
    pattern::{Bindings, Pattern},
};
use crate::percent;

pub(super) const FILE: &str = "_redirects";
/// Characters of a target as it is written: browsers and servers take longer URLs, but nobody writes them.
const MAX_TARGET: usize = 2_048;
/// Placeholders of one target.
const MAX_PLACEHOLDERS: usize = 16;
/// Bytes of a target that is filled in: each placeholder may stand for all that a visitor sent, and many
/// visitors come at once.
const MAX_FILLED: usize = 8 * 1024;

/// All rules of a release, in their order.
#[derive(Debug, Default)]
pub(crate) struct Redirects {
    rules: Vec<Rule>,
    forced: bool,
}

#[derive(Debug)]
struct Rule {
    from: Pattern,
    to: String,
    status: Status,
    force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Rewrite,
    Moved(u16),
    NotFound,
}

/// What a rule asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Serve this path (decoded, without its first slash) in place of the one asked for.
    Rewrite(String),
    /// The same, with 404.
    NotFound(String),
    /// Send the visitor elsewhere.
    Redirect(u16, HeaderValue),
}

impl Redirects {
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let mut all = Self::default();
        for (index, line) in text.lines().enumerate() {
            let fault = |why: String| Error {
                file: FILE,
                line: index + 1,
                why,
            };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if all.rules.len() == MAX_RULES {
                return Err(fault(format!("more than {MAX_RULES} rules")));
            }
            let rule = parse_rule(line).map_err(fault)?;
            all.forced |= rule.force;
            all.rules.push(rule);
        }
        Ok(all)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a rule may count where a file is.
    pub(crate) const fn has_forced(&self) -> bool {
        self.forced
    }

    /// What the first matching rule asks for. `path` is decoded and without its first slash; where
    /// a file is, only a forced rule counts, and only if no other matches before it. A rule that would
    /// send a visitor to where it is counts for nothing, and so does one whose target becomes too long.
    pub(crate) fn find(&self, path: &str, query: Option<&str>, file: bool) -> Option<Action> {
        let (rule, target) = self
            .rules
            .iter()
            .find_map(|rule| Some((rule, rule.target(path)?)))?;
        if file && !rule.force {
            return None;
        }
        Some(match rule.status {
            Status::Rewrite => Action::Rewrite(target),
            Status::NotFound => Action::NotFound(target),
            Status::Moved(status) => Action::Redirect(status, location(target, query)?),
        })
    }
}

impl Rule {
    /// Where it leads from `path`, if it counts there: a path of the release, or what `location` begins
    /// with.
    fn target(&self, path: &str) -> Option<String> {
        let bindings = self.from.matches(path)?;
        match self.status {
            Status::Rewrite | Status::NotFound => target_path(&self.to, &bindings),
            Status::Moved(_) => {
                let filled = fill(&self.to, &bindings, encode)?;
                (!self.leads_back(path, &bindings)).then_some(filled)
            }
        }
    }

    /// Whether it sends a visitor of `path` to the same path again, and so for ever: a slash at the end
    /// makes no difference to any rule.
    fn leads_back(&self, path: &str, bindings: &Bindings<'_>) -> bool {
        let is_back = |to: String| to.trim_end_matches('/') == path.trim_end_matches('/');
        self.to.starts_with('/') && target_path(&self.to, bindings).is_some_and(is_back)
    }
}

fn parse_rule(line: &str) -> Result<Rule, String> {
    let mut words = line
        .split_whitespace()
        .take_while(|word| !word.starts_with('#'));
    let from = words.next().unwrap_or_default();
    let to = words.next().ok_or("a rule needs a path and a target")?;
    if to.contains('=') && !to.starts_with('/') && !to.contains("://") {
        return Err(unsupported(to));
    }
    let (status, force) = match words.next() {
        None => (301, false),
        Some(word) if word.contains('=') => return Err(unsupported(word)),
        Some(word) => {
            let digits = word.strip_suffix('!');
            let status = digits.unwrap_or(word).parse::<u16>();
            (
                status.map_err(|error| format!("{word:?} is no status: {error}"))?,
                digits.is_some(),
            )
        }
    };
    if let Some(word) = words.next() {
        return Err(unsupported(word));
    }
    let status = match status {
        200 => Status::Rewrite,
        301 | 302 => Status::Moved(status),
        404 => Status::NotFound,
        _ => return Err(format!("status {status} is not one of 200, 301, 302, 404")),
    };
    let from = Pattern::parse(from)?;
    check_target(to, status, &from)?;
    Ok(Rule {
        from,
        to: to.to_owned(),
        status,
        force,
    })
}

fn unsupported(word: &str) -> String {
    format!("conditions and parameters such as {word:?} are not supported")
}

fn check_target(to: &str, status: Status, from: &Pattern) -> Result<(), String> {
    if to.chars().count() > MAX_TARGET {
        return Err(format!("the target has more than {MAX_TARGET} characters"));
    }
    let bound = placeholders(to).filter(|(name, _)| from.binds(name));
    if bound.count() > MAX_PLACEHOLDERS {
        return Err(format!(
            "the target has more than {MAX_PLACEHOLDERS} placeholders"
        ));
    }
    let elsewhere = to.starts_with("https://") || to.starts_with("http://");
    if !to.starts_with('/') && !elsewhere {
        return Err(format!("the target {to:?} is neither a path nor a URL"));
    }
    if elsewhere && !matches!(status, Status::Moved(_)) {
        return Err("a rewrite must stay on the site: other servers are not asked".to_owned());
    }
    if to.bytes().any(|b| !(b'!'..=b'~').contains(&b)) && matches!(status, Status::Moved(_)) {
        return Err(format!("the target {to:?} must be percent-encoded"));
    }
    let after_host = to.split_once("://").map_or(to, |(_, rest)| rest);
    for (name, _) in placeholders(after_host) {
        let port = name.bytes().all(|b| b.is_ascii_digit());
        if !port && !from.binds(name) {
            return Err(format!("the target's :{name} is not in the path"));
        }
    }
    Ok(())
}

/// Names after a colon, and where the colon is.
fn placeholders(text: &str) -> impl Iterator<Item = (&str, usize)> {
    text.match_indices(':').filter_map(|(at, _)| {
        let rest = text.get(at + 1..)?;
        let end = rest
            .find(|c: char| !super::pattern::is_name(c))
            .unwrap_or(rest.len());
        rest.get(..end)
            .filter(|name| !name.is_empty())
            .map(|name| (name, at))
    })
}

/// The target with its placeholders filled in by `write`; nothing when it becomes too long, which is
/// seen before it takes the memory.
fn fill(to: &str, bindings: &Bindings<'_>, write: impl Fn(&mut String, &str)) -> Option<String> {
    let mut out = String::with_capacity(to.len() + 32);
    let mut done = 0;
    for (name, at) in placeholders(to) {
        let value = bindings.iter().find(|(bound, _)| *bound == name);
        if let Some((_, value)) = value {
            out.push_str(to.get(done..at).unwrap_or_default());
            if out.len() + value.len() > MAX_FILLED {
                return None;
            }
            write(&mut out, value);
            done = at + 1 + name.len();
        }
    }
    out.push_str(to.get(done..).unwrap_or_default());
    (out.len() <= MAX_FILLED).then_some(out)
}

/// A path of the release. Rules are percent-encoded; a percent sign that encodes nothing stands for
/// itself.
fn target_path(to: &str, bindings: &Bindings<'_>) -> Option<String> {
    let path = to.split(['?', '#']).next().unwrap_or_default();
    let filled = match percent::decode(&fill(path, bindings, encode)?) {
        Ok(decoded) => decoded,
        Err(_) => fill(path, bindings, String::push_str)?,
    };
    Some(filled.trim_start_matches('/').to_owned())
}

/// A `location` header. What the visitor sent is encoded, and cannot turn a path into a host.
fn location(mut filled: String, query: Option<&str>) -> Option<HeaderValue> {
    if filled.starts_with('/') {
        // `//host` and `/\host` are other servers to a browser.
        let path = filled.trim_start_matches(['/', '\\']);
        filled = format!("/{path}");
    }
    if let Some(query) = query.filter(|_| !filled.contains('?')) {
        // The fragment, if there is one, comes last.
        let at = filled.find('#').unwrap_or(filled.len());
        filled.insert_str(at, &format!("?{query}"));
    }
    HeaderValue::from_str(&filled).ok()
}

/// Percent-encodes all but what a path may hold as it is.
fn encode(out: &mut String, value: &str) {
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z'
            | b'a'..=b'z'
            | b'0'..=b'9'
            | b'/'
            | b'-'
            | b'.'
            | b'_'
            | b'~'
            | b'!'
            | b'$'
            | b'\''
            | b'('
            | b')'
            | b'*'
            | b'+'
            | b','
            | b';'
            | b'='
            | b':'
            | b'@' => {
                out.push(char::from(byte));
            }
            _ => write!(out, "%{byte:02X}").expect("a String takes all text"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(rules: &str, path: &str) -> Option<Action> {
        Redirects::parse(rules).unwrap().find(path, None, false)
    }

    fn moved(status: u16, to: &'static str) -> Option<Action> {
        let location = HeaderValue::from_static(to);
        [Action::Redirect(status, location)].into_iter().next()
    }

    #[test]
    fn rules_say_where_to() {
        let rules = "# old pages\n\
            /old /new\n\
            /temp /other 302 # for a while\n\
            /blog/:year/:slug /posts/:slug-:year 301\n\
            /docs/* https://docs.example.com/v2/:splat 302\n\
            /app/* /app/index.html 200\n\
            /gone /gone.html 404\n\
            /first /a\n\
            /first /b\n";
        assert_eq!(find(rules, "old"), moved(301, "/new"));
        assert_eq!(find(rules, "old/"), moved(301, "/new"));
        assert_eq!(find(rules, "temp"), moved(302, "/other"));
        assert_eq!(find(rules, "blog/2024/x"), moved(301, "/posts/x-2024"));
        assert_eq!(
            find(rules, "docs/a/b"),
            moved(302, "https://docs.example.com/v2/a/b")
        );
        assert_eq!(
            find(rules, "app/x/y"),
            Some(Action::Rewrite("app/index.html".to_owned()))
        );
        assert_eq!(
            find(rules, "gone"),
            Some(Action::NotFound("gone.html".to_owned()))
        );
        assert_eq!(find(rules, "first"), moved(301, "/a"));
        assert_eq!(find(rules, "nothing"), None);
    }

    #[test]
    fn a_file_wins_unless_the_rule_is_forced() {
        let plain = Redirects::parse("/a /b\n/c /d 301!").unwrap();
        assert!(plain.has_forced());
        assert_eq!(plain.find("a", None, true), None);
        assert_eq!(plain.find("c", None, true), moved(301, "/d"));
        assert!(!Redirects::parse("/a /b").unwrap().has_forced());
    }

    #[test]
    fn a_query_is_kept_unless_the_target_has_one() {
        let rules = Redirects::parse("/a /b\n/c /d?x=1\n/e /f#part").unwrap();
        assert_eq!(rules.find("a", Some("q=1"), false), moved(301, "/b?q=1"));
        assert_eq!(rules.find("c", Some("q=1"), false), moved(301, "/d?x=1"));
        assert_eq!(
            rules.find("e", Some("q=1"), false),
            moved(301, "/f?q=1#part")
        );
    }

    #[test]
    fn a_visitor_cannot_choose_another_host_or_break_a_header() {
        assert_eq!(
            find("/x/* /:splat", "x//evil.example"),
            moved(301, "/evil.example")
        );
        assert_eq!(
            find("/x/* /:splat", "x/\\evil.example"),
            moved(301, "/%5Cevil.example")
        );
        assert_eq!(
            find("/x/* /y/:splat", "x/a\r\nb: c"),
            moved(301, "/y/a%0D%0Ab:%20c")
        );
        assert_eq!(
            find("/x/:a https://h/:a", "x/a?b#c"),
            moved(301, "https://h/a%3Fb%23c")
        );
    }

    #[test]
    fn rules_are_percent_encoded() {
        let rules = "/c%C3%A9line/* /about%20c%C3%A9line/:splat 200\n/a%20b /x%20y\n/c /100% 200";
        let rewritten = |path: &str| Some(Action::Rewrite(path.to_owned()));
        assert_eq!(
            find(rules, "céline/50% off"),
            rewritten("about céline/50% off")
        );
        assert_eq!(find(rules, "a b"), moved(301, "/x%20y"));
        assert_eq!(find(rules, "c"), rewritten("100%"));
    }

    #[test]
    fn nobody_is_sent_to_where_they_are() {
        assert_eq!(find("/a /a/", "a"), None);
        assert_eq!(find("/a /a?x=1 302", "a/"), None);
        assert_eq!(find("/a /a/\n/a /b", "a"), moved(301, "/b"), "the next one");
        assert_eq!(find("/* /:splat", "x/y"), None);
        assert_eq!(find("/%C3%BC/* /%C3%BC/new", "ü/new"), None);
        assert_eq!(find("/x/* /x/new", "x/old"), moved(301, "/x/new"));
        let closed = Redirects::parse("/* /closed 302!").unwrap();
        assert_eq!(closed.find("closed", None, true), None);
        assert_eq!(closed.find("", None, true), moved(302, "/closed"));
    }

    #[test]
    fn a_target_that_becomes_too_long_is_no_match() {
        let rules = "/a/* /:splat:splat:splat:splat 200\n\
            /b/* /:splat:splat:splat:splat 302\n\
            /* /rest 200";
        let rest = Some(Action::Rewrite("rest".to_owned()));
        let (fits, long) = ("x".repeat(2_047), "x".repeat(2_048));
        let four = fits.repeat(4);
        let found = find(rules, &format!("a/{fits}"));
        assert_eq!(found, Some(Action::Rewrite(four.clone())));
        let location = HeaderValue::try_from(format!("/{four}")).unwrap();
        let found = find(rules, &format!("b/{fits}"));
        assert_eq!(found, Some(Action::Redirect(302, location)));
        // As it is sent: of these each character is six.
        let encoded = "ü".repeat(350);
        for sent in [long, encoded] {
            assert_eq!(find(rules, &format!("a/{sent}")), rest);
            assert_eq!(find(rules, &format!("b/{sent}")), rest);
        }
    }

    #[test]
    fn a_port_is_no_placeholder() {
        assert_eq!(
            find("/x http://localhost:8080/y", "x"),
            moved(301, "http://localhost:8080/y")
        );
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_line() {
        for (rules, part) in [
            (
                "\n/a",
                "line 2 of _redirects: a rule needs a path and a target",
            ),
            ("/a b", "neither a path nor a URL"),
            ("/a /b 418", "status 418"),
            ("/a /b many", "\"many\" is no status"),
            ("/a /b 302 Country=de", "\"Country=de\" are not supported"),
            ("/a id=:id /b 301", "\"id=:id\" are not supported"),
            ("/a https://h/x 200", "must stay on the site"),
            ("/a/:b /:c", ":c is not in the path"),
            ("/a /:splat", ":splat is not in the path"),
            ("/a/*/b /c", "* may stand at the end alone"),
            ("https://old.example/* /x", "must begin with a slash"),
        ] {
            let text = Redirects::parse(rules).unwrap_err().to_string();
            assert!(text.contains(part), "{rules:?}: {text}");
        }
        let many = "/a /b\n".repeat(MAX_RULES + 1);
        assert!(Redirects::parse(&many).is_err());
    }

    #[test]
    fn a_target_that_would_grow_without_bound_is_refused_with_its_line() {
        let rule = |to: String| format!("/a /b\n/* /{to}\n");
        for (most, more, why) in [
            (
                "x".repeat(2_047),
                "x".repeat(2_048),
                "more than 2048 characters",
            ),
            (
                ":splat".repeat(16),
                ":splat".repeat(17),
                "more than 16 placeholders",
            ),
        ] {
            assert!(Redirects::parse(&rule(most)).is_ok());
            let refused = Redirects::parse(&rule(more)).unwrap_err().to_string();
            let expected = format!("line 2 of _redirects: the target has {why}");
            assert_eq!(refused, expected);
        }
    }
}
