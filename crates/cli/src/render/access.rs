//! Who calls: principals and their tokens.

use candlefish_proto::access::{
    ListPrincipalsResponse, ListTokensResponse, Principal, Role, Token, WhoAmIResponse, principal,
};

use super::{Look, Tone, table::Table, words};

/// A role's name.
pub(crate) fn role(role: Role) -> &'static str {
    match role {
        Role::Unspecified => "no role",
        Role::Viewer => "viewer",
        Role::Deployer => "deployer",
        Role::Approver => "approver",
        Role::Admin => "admin",
    }
}

/// Who the caller is.
pub(crate) fn whoami(
    answer: &WhoAmIResponse,
    api: &str,
    context: Option<&str>,
    look: &Look,
) -> String {
    let name = answer
        .principal
        .as_ref()
        .map(|principal| principal.name.as_str())
        .unwrap_or_default();
    let mut text = format!("{name} at {api}");
    if let Some(context) = context {
        text = format!("{text} (context {context})");
    }
    if let Some(token) = &answer.token {
        let sites = if token.sites.is_empty() {
            "all sites".to_owned()
        } else {
            token.sites.join(", ")
        };
        text = format!(
            "{text}\n{} of {sites}, by the token \"{}\"{}",
            role(token.role()),
            token.name,
            end(token, look)
        );
    }
    text
}

fn end(token: &Token, look: &Look) -> String {
    match words::moment(token.expires_at.as_ref()) {
        Some(end) => format!(", until {}", words::clock(end, &look.now)),
        None => String::new(),
    }
}

/// `tok_… ("github" of ci-docs)`; the id alone where nothing else is known.
pub(super) fn named(id: &str, token: Option<&Token>) -> String {
    match token {
        Some(token) => format!("{id} (\"{}\" of {})", token.name, token.principal),
        None => id.to_owned(),
    }
}

/// Asks before a token is ended.
pub(crate) fn revokes(id: &str, token: Option<&Token>) -> String {
    let token = named(id, token);
    format!("  End {token}? Whoever uses it is refused from then on.")
}

/// Tokens without their secrets; `all` when nothing narrowed them.
pub(crate) fn tokens(answer: &ListTokensResponse, all: bool, look: &Look) -> String {
    let mut table = Table::new([
        "TOKEN",
        "NAME",
        "PRINCIPAL",
        "ROLE",
        "SITES",
        "MADE",
        "STATE",
    ]);
    for token in &answer.tokens {
        table.row([
            token.id.clone(),
            token.name.clone(),
            token.principal.clone(),
            role(token.role()).to_owned(),
            if token.sites.is_empty() {
                "all".to_owned()
            } else {
                token.sites.join(", ")
            },
            words::ago(token.created_at.as_ref(), &look.now),
            state(token, look),
        ]);
    }
    table.text(if all {
        "There is no token."
    } else {
        "There is no token of this principal."
    })
}

/// Whether a token works, and until when.
fn state(token: &Token, look: &Look) -> String {
    if token.revoked_at.is_some() {
        return look.paint(Tone::Bad, "revoked");
    }
    let passed = words::moment(token.expires_at.as_ref());
    let passed = passed.filter(|at| *at <= look.now.timestamp());
    match passed {
        Some(at) => {
            let at = words::clock(at, &look.now);
            look.paint(Tone::Bad, &format!("expired {at}"))
        }
        None => format!("works{}", end(token, look)),
    }
}

/// All principals.
pub(crate) fn principals(answer: &ListPrincipalsResponse, look: &Look) -> String {
    let mut table = Table::new(["PRINCIPAL", "KIND", "ADDRESSES", "MADE"]);
    for principal in &answer.principals {
        table.row([
            principal.name.clone(),
            kind_of(principal).to_owned(),
            principal.emails.join(", "),
            words::ago(principal.created_at.as_ref(), &look.now),
        ]);
    }
    table.text("There is no principal.")
}

fn kind_of(principal: &Principal) -> &'static str {
    match principal.kind() {
        principal::Kind::Unspecified => "unknown",
        principal::Kind::Person => "person",
        principal::Kind::Machine => "machine",
    }
}
