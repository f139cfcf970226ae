//! Sites.

use candlefish_proto::deploy::{
    ListSitesResponse, PreviewRule, Site, preview_rule::From, site::Source,
};

use super::{Look, deployment::labelled, table::Table, words};

/// All sites.
pub(crate) fn list(answer: &ListSitesResponse, look: &Look) -> String {
    let mut table = Table::new(["SITE", "NAME", "REPOSITORY", "MADE"]);
    for site in &answer.sites {
        let made = words::ago(site.created_at.as_ref(), &look.now);
        table.row([
            site.slug.clone(),
            site.name.clone(),
            site.repository.clone(),
            made,
        ]);
    }
    table.text("There is no site yet. Make one: candlefish sites create SLUG")
}

/// One site in full.
pub(crate) fn full(site: &Site, look: &Look) -> String {
    let title = match site.name.as_str() {
        "" => site.slug.clone(),
        name => format!("{}  {name}", site.slug),
    };
    let repository = match site.repository.as_str() {
        "" => "none",
        repository => repository,
    };
    let made = words::ago(site.created_at.as_ref(), &look.now);
    let rule = site.previews.unwrap_or_default();
    [
        ("Site", title),
        ("Repository", repository.to_owned()),
        ("Content", content(site)),
        ("Previews", previews(&rule)),
        ("Made", format!("{made}, by {}", site.created_by)),
    ]
    .iter()
    .map(|(label, value)| labelled(label, value, "", look))
    .collect::<Vec<_>>()
    .join("\n")
}

/// Where the content of a pushed commit comes from.
fn content(site: &Site) -> String {
    match (site.source(), site.folder.as_str()) {
        (Source::Upload | Source::Unspecified, _) => {
            "uploaded by whoever builds a pushed commit".to_owned()
        }
        (Source::Repository, "") => "all of the repository".to_owned(),
        (Source::Repository, folder) => format!("the folder {folder} of the repository"),
    }
}

fn previews(rule: &PreviewRule) -> String {
    let whose = match rule.from() {
        From::Off | From::Unspecified => "of no pull request",
        From::Repository => "of the repository's own pull requests",
        From::Forks => "of every pull request, forks' too",
    };
    let age = words::length(rule.max_age.as_ref())
        .map_or_else(|| "the default time".to_owned(), words::duration);
    format!("{whose}; one is closed {age} after its last push")
}
