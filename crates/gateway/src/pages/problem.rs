//! One page for each kind of problem, and one for all of them.

use super::{escape, page, prose};
use crate::problem::{Kind, kinds};

/// The page at `/problems/<slug>`.
pub(crate) fn problem(kind: &Kind) -> String {
    let others: Vec<String> = kinds::ALL
        .iter()
        .map(|other| {
            let here = if *other == kind {
                " aria-current=\"page\""
            } else {
                ""
            };
            format!(
                "<li><a href=\"/problems/{slug}\"{here}><span class=\"status\">{status}</span> \
                 <code>{code}</code></a></li>",
                slug = escape(other.slug),
                status = other.status.as_u16(),
                code = escape(other.code),
            )
        })
        .collect();
    let status = kind.status;
    let body = format!(
        "<main class=\"problem\"><p class=\"over\">Problem <code>{code}</code>, HTTP {number} \
         {reason}</p><h1>{title}</h1><h2>What it means</h2><p>{about}</p><h2>What to do</h2>\
         <p>{next}</p><nav aria-label=\"Other problems\"><h2>All problems</h2><ul>{others}</ul></nav>\
         </main>",
        code = escape(kind.code),
        number = status.as_u16(),
        reason = escape(status.canonical_reason().unwrap_or_default()),
        title = escape(kind.title),
        about = prose(kind.about),
        next = prose(kind.next),
        others = others.concat(),
    );
    page(
        &format!("{} · Candlefish", kind.title),
        "plain",
        super::home::NAV,
        &body,
        "",
    )
}
