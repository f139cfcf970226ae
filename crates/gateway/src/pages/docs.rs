//! The documentation: every method with its fields, its role, lines to paste, and a form to try it.

use prost_reflect::ServiceDescriptor;

use super::{SCRIPT, escape, page, prose, spaced};
use crate::{
    auth::role_name,
    contract::{Contract, Method, Route},
    openapi::{self, sample, schema::Schemas},
};

mod form;
mod types;

/// The page, for an API that is reached at `base_url` (without a slash at the end).
pub(crate) fn docs(contract: &Contract, base_url: &str) -> String {
    let schemas = Schemas::new(contract);
    let services = openapi::services(contract);
    let methods: Vec<String> = services
        .iter()
        .map(|service| section(contract, &schemas, service, base_url))
        .collect();
    let header = "<nav><a href=\"/\">Status</a><a href=\"/docs\" aria-current=\"page\">API</a>\
                  <a href=\"/openapi.json\">OpenAPI</a></nav>\
                  <label class=\"token\">Token <input id=\"token\" type=\"password\" \
                  placeholder=\"cft_…\" autocomplete=\"off\" spellcheck=\"false\"></label>";
    let body = format!(
        "<div class=\"columns\">\n{side}\n<main>\n{intro}\n{methods}\n{types}\n</main>\n</div>",
        side = side(contract, &services),
        intro = intro(base_url),
        methods = methods.join("\n"),
        types = types::section(&schemas),
    );
    page("Candlefish API", "docs", header, &body, SCRIPT)
}

fn methods_of<'c>(
    contract: &'c Contract,
    service: &ServiceDescriptor,
) -> impl Iterator<Item = &'c Method> {
    let name = service.full_name().to_owned();
    let methods = contract.methods().iter();
    methods
        .filter(move |method| method.service == name)
        .map(AsRef::as_ref)
}

fn side(contract: &Contract, services: &[ServiceDescriptor]) -> String {
    let groups: Vec<String> = services
        .iter()
        .map(|service| {
            let links: Vec<String> = methods_of(contract, service)
                .map(|method| {
                    let verb = method
                        .routes
                        .first()
                        .map_or("", |route| route.verb.as_str());
                    format!(
                        "<li><a href=\"#{anchor}\"><span>{name}</span>{verb}</a></li>",
                        anchor = anchor(method),
                        name = escape(&spaced(&method.name)),
                        verb = badge(verb),
                    )
                })
                .collect();
            format!(
                "<li><a class=\"group\" href=\"#{tag}\">{tag}</a><ul>{}</ul></li>",
                links.concat(),
                tag = escape(&spaced(openapi::tag(service.full_name()))),
            )
        })
        .collect();
    format!(
        "<nav class=\"side\" aria-label=\"Methods\"><input id=\"find\" type=\"search\" \
         placeholder=\"Find a call\" aria-label=\"Find a call\"><ul><li><a class=\"group\" \
         href=\"#start\">Start</a></li>{}<li><a class=\"group\" href=\"#types\">Types</a></li></ul>\
         </nav>",
        groups.concat()
    )
}

fn intro(base_url: &str) -> String {
    let about: Vec<String> = openapi::ABOUT
        .split("\n\n")
        .map(|paragraph| format!("<p>{}</p>", prose(paragraph)))
        .collect();
    let first = format!(
        "export CANDLEFISH_TOKEN=cft_…\ncurl -H \"Authorization: Bearer $CANDLEFISH_TOKEN\" \\\n  \
         '{}/v1/whoami'",
        sample::plain(base_url)
    );
    format!(
        "<section id=\"start\" class=\"intro\"><h1>The API of Candlefish</h1>{about}{first}<p>The \
         same calls go over gRPC and gRPC-Web on this port; reflection lists them. With a token in \
         the field above, every call below can be tried here: it really happens.</p></section>",
        about = about.concat(),
        first = lines(&first),
    )
}

fn section(
    contract: &Contract,
    schemas: &Schemas<'_>,
    service: &ServiceDescriptor,
    base_url: &str,
) -> String {
    let articles: Vec<String> = methods_of(contract, service)
        .map(|method| article(contract, schemas, method, base_url))
        .collect();
    let tag = spaced(openapi::tag(service.full_name()));
    format!(
        "<section id=\"{tag}\" class=\"service\"><h2>{tag}</h2><p>{about}</p>\n{articles}</section>",
        tag = escape(&tag),
        about = prose(&openapi::about_service(service)),
        articles = articles.join("\n"),
    )
}

fn article(contract: &Contract, schemas: &Schemas<'_>, method: &Method, base: &str) -> String {
    let calls: Vec<String> = method.routes.iter().map(call).collect();
    let route = method.routes.first();
    let tried = route.map(|route| {
        let curl = sample::curl(contract, method, route, base);
        let form = form::form(method, route);
        format!(
            "{}<details class=\"try\"><summary>Try it</summary>{form}</details>",
            lines(&curl)
        )
    });
    let grpc = method.path.as_str().trim_start_matches('/');
    format!(
        "<article id=\"{anchor}\"><h3><a href=\"#{anchor}\">{name}</a><span class=\"role\" \
         title=\"The lowest role that may call it\">{role}</span></h3>{calls}<p>{comment}</p>\
         {fields}{answer}{tried}<p class=\"grpc\">gRPC <code>{grpc}</code></p></article>",
        anchor = anchor(method),
        name = escape(&spaced(&method.name)),
        role = role_name(method.role),
        calls = calls.concat(),
        comment = prose(&method.comment),
        fields = types::request(schemas, method, route),
        answer = answer(schemas, method),
        tried = tried.unwrap_or_default(),
        grpc = escape(grpc),
    )
}

fn call(route: &Route) -> String {
    format!(
        "<p class=\"call\">{}<code>{}</code></p>",
        badge(route.verb.as_str()),
        escape(&route.template.to_string())
    )
}

fn answer(schemas: &Schemas<'_>, method: &Method) -> String {
    let name = types::link(&schemas.name(&method.output));
    let words = if method.streams {
        format!(
            "Answers a stream of {name}, over REST as server-sent events{}.",
            if method.stream_ids.is_some() {
                ", resumable by <code>Last-Event-ID</code>"
            } else {
                ""
            }
        )
    } else if method.creates.is_some() {
        format!("Answers 201 and {name}, with <code>Location</code> where it can be read.")
    } else {
        format!("Answers {name}.")
    };
    format!("<p class=\"answer\">{words}</p>")
}

/// Lines for a shell, with a button that copies them.
fn lines(text: &str) -> String {
    format!(
        "<div class=\"lines\"><button type=\"button\" class=\"copy\">Copy</button><pre><code>{}\
         </code></pre></div>",
        escape(text)
    )
}

fn badge(verb: &str) -> String {
    let class = verb.to_ascii_lowercase();
    format!(
        "<span class=\"verb {}\">{}</span>",
        escape(&class),
        escape(verb)
    )
}

fn anchor(method: &Method) -> String {
    escape(&method.name)
}
