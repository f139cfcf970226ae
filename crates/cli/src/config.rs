//! What the environment says. The only reader of environment variables.

use std::{ffi::OsString, path::PathBuf};

/// The variables that the command line knows; empty ones count as unset.
#[derive(Debug, Default, Clone)]
#[expect(
    clippy::struct_field_names,
    reason = "a site's environment is not the process's"
)]
pub(crate) struct Environment {
    /// `CANDLEFISH_API`: the address of the API.
    pub(crate) api: Option<String>,
    /// `CANDLEFISH_TOKEN`: the secret of an API token.
    pub(crate) token: Option<Secret>,
    /// `CANDLEFISH_CONTEXT`: the context to use instead of the current one.
    pub(crate) context: Option<String>,
    /// `CANDLEFISH_SITE`: the slug of the site.
    pub(crate) site: Option<String>,
    /// `CANDLEFISH_ENVIRONMENT`: the slug of the environment.
    pub(crate) environment: Option<String>,
    /// `HOME`: this person's folder.
    pub(crate) home: Option<PathBuf>,
    /// Where contexts are kept; unset when there is no home.
    pub(crate) folder: Option<PathBuf>,
    /// `NO_COLOR` is set: neither colour nor animation.
    pub(crate) plain: bool,
}

/// Text that is never shown.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[hidden]")
    }
}

impl Environment {
    /// Reads this process's environment.
    pub(crate) fn from_process() -> Self {
        Self::read(variable)
    }

    fn read(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let folder = variable("CANDLEFISH_CONFIG_DIR")
            .map(PathBuf::from)
            .or_else(|| {
                let base = variable("XDG_CONFIG_HOME").map(PathBuf::from);
                let home = || variable("HOME").map(|home| PathBuf::from(home).join(".config"));
                base.or_else(home).map(|base| base.join("candlefish"))
            });
        // Where CI keeps a secret, a line's end is easily pasted with it. What is no text is shown as
        // what nobody knows: to leave it out would be to use something else in its place.
        let word = |name| {
            let text = variable(name)?.to_string_lossy().trim().to_owned();
            Some(text).filter(|text| !text.is_empty())
        };
        Self {
            api: word("CANDLEFISH_API"),
            token: word("CANDLEFISH_TOKEN").map(Secret),
            context: word("CANDLEFISH_CONTEXT"),
            site: word("CANDLEFISH_SITE"),
            environment: word("CANDLEFISH_ENVIRONMENT"),
            home: variable("HOME").map(PathBuf::from),
            folder,
            plain: variable("NO_COLOR").is_some()
                || variable("TERM").is_some_and(|term| term == "dumb"),
        }
    }
}

/// The one place that reads the environment.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Environment {
        Environment::read(|name| {
            let found = variables.iter().find(|(n, _)| *n == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_folder_is_the_named_one_then_xdg_then_home() {
        let home = ("HOME", "/home/ada");
        let xdg = ("XDG_CONFIG_HOME", "/xdg");
        let own = ("CANDLEFISH_CONFIG_DIR", "/own");
        let folder = |variables: &[(&str, &str)]| read(variables).folder;
        assert_eq!(folder(&[home, xdg, own]), Some("/own".into()));
        assert_eq!(folder(&[home, xdg]), Some("/xdg/candlefish".into()));
        assert_eq!(folder(&[home]), Some("/home/ada/.config/candlefish".into()));
        assert_eq!(folder(&[]), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_home_need_not_be_text_and_a_token_that_is_none_is_not_left_out() {
        use std::os::unix::ffi::OsStringExt as _;
        let read = Environment::read(|name| match name {
            "HOME" => Some(OsString::from_vec(b"/home/\xe9va".to_vec())),
            "CANDLEFISH_TOKEN" => Some(OsString::from_vec(b"cft_\xe9".to_vec())),
            _ => None,
        });
        let folder = OsString::from_vec(b"/home/\xe9va/.config/candlefish".to_vec());
        assert_eq!(read.folder, Some(folder.into()));
        assert_eq!(
            read.token.map(|token| token.0).as_deref(),
            Some("cft_\u{fffd}")
        );
    }

    #[test]
    fn what_was_pasted_with_a_line_s_end_is_read_without() {
        let read = read(&[
            ("CANDLEFISH_TOKEN", "cft_secret\n"),
            ("CANDLEFISH_SITE", " \n"),
        ]);
        let token = read.token.map(|token| token.0);
        assert_eq!((token.as_deref(), read.site), (Some("cft_secret"), None));
    }

    #[test]
    fn a_token_is_never_shown() {
        let environment = read(&[("CANDLEFISH_TOKEN", "cft_secret")]);
        assert!(!format!("{environment:?}").contains("cft_secret"));
    }
}
