//! What the comment says, in Markdown: a line and a row for each preview. Pure.

use candlefish_ids::DeploymentId;

/// Of what somebody else said, as much as is shown.
const WORDS_MAX: usize = 300;

/// What is shown of a site's preview.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::github) struct Shown {
    pub(in crate::github) site: String,
    pub(in crate::github) environment: String,
    pub(in crate::github) deployment: DeploymentId,
    pub(in crate::github) commit: String,
    /// `waiting`, `deploying`, `live`, `failed`, `replaced` (by another release), `ended` or
    /// `closed`.
    pub(in crate::github) state: String,
    /// Of what waits: which of `content`, `hold` and `stop` keep it. Not in whose words: a hold's reason
    /// may be nobody's business who reads pull requests.
    pub(in crate::github) keeps: String,
    pub(in crate::github) message: String,
    pub(in crate::github) close_reason: String,
}

/// By which a comment is found again, shown to nobody. Those after the first are of comments that were
/// made when each site had its own.
pub(super) fn marks(number: i32, shown: &[Shown]) -> Vec<String> {
    let before = shown.iter().map(|one| mark(&one.site, number));
    std::iter::once(mark("pull", number))
        .chain(before)
        .collect()
}

fn mark(word: &str, number: i32) -> String {
    format!("<!-- candlefish:{word}:{number} -->")
}

/// The whole text.
pub(super) fn body(number: i32, shown: &[Shown], address: impl Fn(&Shown) -> String) -> String {
    let names_sites = shown.len() > 1;
    let lines: Vec<String> = shown.iter().map(|one| one.line(&address(one))).collect();
    let rows: Vec<String> = shown.iter().map(|one| one.row(names_sites)).collect();
    let (names, rule) = if names_sites {
        ("| site ", "| --- ")
    } else {
        ("", "")
    };
    format!(
        "{}\n{}\n\n{names}| commit | deployment | state |\n{rule}| --- | --- | --- |\n{}\n",
        mark("pull", number),
        lines.join("\n"),
        rows.join("\n")
    )
}

impl Shown {
    pub(super) fn is_closed(&self) -> bool {
        self.state == "closed"
    }

    fn line(&self, address: &str) -> String {
        let says = match self.state.as_str() {
            "waiting" => format!("waits for {}: {address}", self.waits_for()),
            "deploying" => format!("is on its way: {address}"),
            "live" => format!("is live: {address}"),
            "failed" => format!("did not go live: {}", quoted(&self.message)),
            "replaced" => format!("shows another release: {address}"),
            "closed" => format!("was torn down: {}", quoted(&self.close_reason)),
            _ => "waits for what comes next".to_owned(),
        };
        format!("**The preview of {}** {says}", self.site)
    }

    /// `the content of 4ac21e0, and for its hold to be lifted`.
    fn waits_for(&self) -> String {
        let known = self.keeps.split(' ').filter_map(|word| match word {
            "content" => Some(format!("the content of {}", self.short())),
            "hold" => Some("its hold to be lifted".to_owned()),
            "stop" => Some("a stop to end".to_owned()),
            _ => None,
        });
        let known: Vec<String> = known.collect();
        if known.is_empty() {
            "its turn".to_owned()
        } else {
            known.join(", and for ")
        }
    }

    fn row(&self, names_site: bool) -> String {
        let site = if names_site {
            format!("| {} ", self.site)
        } else {
            String::new()
        };
        let (short, deployment, state) = (self.short(), self.deployment, &self.state);
        format!("{site}| {short} | `{deployment}` | {state} |")
    }

    fn short(&self) -> &str {
        self.commit.get(..7).unwrap_or(&self.commit)
    }
}

/// What others said, so that it is neither markup nor a mention.
fn quoted(words: &str) -> String {
    let plain = words.chars().filter(|c| !c.is_control() && *c != '`');
    let plain: String = plain.take(WORDS_MAX).collect();
    format!("`{}`", plain.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(site: &str, state: &str) -> Shown {
        Shown {
            site: site.to_owned(),
            environment: "pr-12".to_owned(),
            deployment: "dep_01h455vb4pex5vsknk084sn02q".parse().unwrap(),
            commit: "4ac21e05c5f6f4a7bb3b0f4bd1f0a2c3d4e5f607".to_owned(),
            state: state.to_owned(),
            keeps: "content".to_owned(),
            message: "a page\n`is` missing, @ada".to_owned(),
            close_reason: "pull request 12 was merged".to_owned(),
        }
    }

    fn says(previews: &[Shown]) -> String {
        body(12, previews, |one| {
            format!("http://{}--{}.localhost", one.environment, one.site)
        })
    }

    #[test]
    fn it_says_what_is_and_where() {
        assert_eq!(
            says(&[shown("docs", "live")]),
            "<!-- candlefish:pull:12 -->\n\
             **The preview of docs** is live: http://pr-12--docs.localhost\n\n\
             | commit | deployment | state |\n| --- | --- | --- |\n\
             | 4ac21e0 | `dep_01h455vb4pex5vsknk084sn02q` | live |\n"
        );
        let waits = says(&[shown("docs", "waiting")]);
        let words = "waits for the content of 4ac21e0: http://pr-12--docs.localhost";
        assert!(waits.contains(words), "{waits}");
        let replaced = says(&[shown("docs", "replaced")]);
        let words = "shows another release: http://pr-12--docs.localhost";
        assert!(replaced.contains(words), "{replaced}");
        let closed = says(&[shown("docs", "closed")]);
        assert!(
            closed.contains("was torn down: `pull request 12 was merged`"),
            "{closed}"
        );
        assert!(!closed.contains("http"), "{closed}");
    }

    #[test]
    fn what_waits_says_for_what() {
        for (keeps, words) in [
            ("", "its turn"),
            ("hold", "its hold to be lifted"),
            (
                "content stop",
                "the content of 4ac21e0, and for a stop to end",
            ),
            (
                "content hold stop",
                "the content of 4ac21e0, and for its hold to be lifted, and for a stop to end",
            ),
        ] {
            let mut one = shown("docs", "waiting");
            one.keeps = keeps.to_owned();
            let waits = says(&[one]);
            assert!(
                waits.contains(&format!("waits for {words}: http")),
                "{waits}"
            );
        }
    }

    #[test]
    fn several_sites_have_a_line_and_a_row_each() {
        assert_eq!(
            says(&[shown("api", "closed"), shown("docs", "live")]),
            "<!-- candlefish:pull:12 -->\n\
             **The preview of api** was torn down: `pull request 12 was merged`\n\
             **The preview of docs** is live: http://pr-12--docs.localhost\n\n\
             | site | commit | deployment | state |\n| --- | --- | --- | --- |\n\
             | api | 4ac21e0 | `dep_01h455vb4pex5vsknk084sn02q` | closed |\n\
             | docs | 4ac21e0 | `dep_01h455vb4pex5vsknk084sn02q` | live |\n"
        );
    }

    #[test]
    fn what_others_said_is_no_markup() {
        let failed = says(&[shown("docs", "failed")]);
        assert!(
            failed.contains("did not go live: `a pageis missing, @ada`"),
            "{failed}"
        );
    }

    #[test]
    fn it_is_found_by_the_mark_of_its_pull_request_or_of_a_site() {
        let marks = marks(12, &[shown("api", "live"), shown("docs", "live")]);
        let known = ["pull", "api", "docs"].map(|word| format!("<!-- candlefish:{word}:12 -->"));
        assert_eq!(marks, known);
    }
}
