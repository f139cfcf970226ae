use std::collections::BTreeSet;

use super::{
    home::{Acting, Edge, EdgeState, Environment, Hold, Live, Replica, Service, Shown, Site, Stop},
    *,
};
use crate::{contract::Contract, openapi, problem::kinds};

const BASE: &str = "http://127.0.0.1:8090";
const HOSTILE: &str = "<script>alert('x')</script>\"&";

fn contract() -> Contract {
    Contract::read(candlefish_proto::DESCRIPTORS).unwrap()
}

/// The values of an attribute, wherever it stands.
fn attributes<'p>(page: &'p str, name: &str) -> Vec<&'p str> {
    let start = format!(" {name}=\"");
    page.split(&start)
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect()
}

fn is_balanced(page: &str) -> bool {
    [
        "main", "section", "article", "table", "tr", "ul", "li", "form", "details", "nav", "pre",
    ]
    .iter()
    .all(|tag| {
        let open =
            page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        open == page.matches(&format!("</{tag}>")).count()
    })
}

fn some_home(text: &str) -> Home {
    let text = || text.to_owned();
    let time = Some("2026-11-20T15:00:02Z".parse().unwrap());
    let replica = |answers| Replica {
        address: text(),
        answers,
    };
    Home {
        base_url: BASE.to_owned(),
        services: Shown::These(vec![Service {
            name: text(),
            version: text(),
            replicas: [true, false].map(replica).into(),
        }]),
        sites: Shown::These(vec![Site {
            slug: text(),
            name: text(),
            environments: vec![Environment {
                slug: text(),
                url: format!("http://{}", text()),
                live: Some(Live {
                    release_id: text(),
                    commit: text(),
                    message: text(),
                    since: time,
                }),
                hold: Some(Hold {
                    by: text(),
                    reason: text(),
                    since: time,
                }),
                stops: vec![Stop {
                    everything: true,
                    by: text(),
                    reason: text(),
                    until: time,
                }],
                acting: Some(Acting {
                    deployment_id: text(),
                    message: text(),
                    weight: 10,
                }),
                pending: 2,
                not_restorable: text(),
            }],
            more: true,
        }]),
        more_sites: true,
        edges: Shown::These(vec![Edge {
            id: text(),
            address: text(),
            state: EdgeState::Failing,
            message: text(),
            staged: 3,
            routes: 4,
        }]),
    }
}

#[test]
fn every_method_and_every_type_is_in_the_documentation() {
    let contract = contract();
    let page = docs(&contract, BASE);
    for method in contract.methods() {
        assert!(
            page.contains(&format!("<article id=\"{}\">", method.name)),
            "{}",
            method.name
        );
        assert!(page.contains(&prose(&method.comment)), "{}", method.name);
        for route in &method.routes {
            let path = format!("<code>{}</code>", route.template);
            assert!(page.contains(&path), "{path}");
            let curl = openapi::sample::curl(&contract, method, &method.routes[0], BASE);
            assert!(page.contains(&escape(&curl)), "{curl}");
        }
    }
    assert_eq!(page.matches("<form ").count(), contract.methods().len());
}

#[test]
fn every_link_within_the_documentation_leads_somewhere_and_no_id_is_there_twice() {
    let page = docs(&contract(), BASE);
    let ids = attributes(&page, "id");
    let unique: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(unique.len(), ids.len());
    for target in attributes(&page, "href") {
        if let Some(anchor) = target.strip_prefix('#') {
            assert!(unique.contains(anchor), "{target}");
        }
    }
}

#[test]
fn pages_fetch_nothing_from_elsewhere_and_are_whole() {
    let pages = [
        docs(&contract(), BASE),
        home(&some_home("docs")),
        problem(&kinds::NOT_FOUND),
    ];
    for page in &pages {
        assert!(is_balanced(page));
        for target in attributes(page, "href") {
            let local = target.starts_with('/') || target.starts_with('#');
            let site = target == "http://docs";
            assert!(local || site || target.starts_with("data:"), "{target}");
        }
        for never in [
            " src=",
            "@import",
            "url(",
            " style=",
            " onclick=",
            "<iframe",
            "javascript:",
        ] {
            assert!(!page.contains(never), "{never}");
        }
    }
    assert_eq!(pages[0].matches("<script>").count(), 1);
    assert!(!pages[1].contains("<script") && !pages[2].contains("<script"));
}

#[test]
fn the_policy_allows_exactly_what_the_pages_hold() {
    let page = docs(&contract(), BASE);
    let within = |tag: &str| {
        let open = format!("<{tag}>");
        let rest = page.split(&open).nth(1).unwrap();
        rest.split(&format!("</{tag}>")).next().unwrap()
    };
    let policy = docs_policy();
    assert!(policy.contains(&format!("style-src '{}'", hash(within("style")))));
    assert!(policy.contains(&format!("script-src '{}'", hash(within("script")))));
    assert!(!super::policy().contains("script-src"));
    for policy in [policy, super::policy()] {
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        http::HeaderValue::from_str(&policy).unwrap();
    }
}

#[test]
fn hostile_text_stays_text() {
    let page = home(&some_home(HOSTILE));
    assert!(!page.contains("<script"), "{page}");
    assert!(!page.contains("alert('x')"), "{page}");
    // Every place of the page that shows text shows this one.
    assert!(page.matches("&lt;script&gt;alert(&#39;x&#39;)").count() >= 20);
    let page = docs(&contract(), "http://a$(reboot)'`\"<b>");
    for never in ["$(reboot)", "<b>"] {
        assert!(!page.contains(never), "{never}");
    }
    let mut unlinked = some_home("x");
    if let Shown::These(sites) = &mut unlinked.sites {
        "javascript:alert(1)".clone_into(&mut sites[0].environments[0].url);
    }
    assert!(!home(&unlinked).contains("javascript:"));
}

#[test]
fn whoever_may_not_see_what_runs_is_not_told_of_it() {
    let version = env!("CARGO_PKG_VERSION");
    let mut hidden = some_home("10.0.0.7:9000");
    let page = home(&hidden);
    for shown in [version, "10.0.0.7:9000", ">1 of 2 up<"] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    hidden.services = Shown::Hidden;
    hidden.sites = Shown::Hidden;
    hidden.edges = Shown::Hidden;
    let page = home(&hidden);
    for never in [version, "10.0.0.7:9000", ">1 of 2 up<"] {
        assert!(!page.contains(never), "{never}: {page}");
    }
}

#[test]
fn an_environment_says_its_most_pressing_state() {
    let live = Some(Live::default());
    let hold = Some(Hold::default());
    let stops = vec![Stop::default()];
    let acting = Some(Acting::default());
    let table = [
        (None, None, vec![], None, "nothing live"),
        (live.clone(), None, vec![], None, ">live<"),
        (live.clone(), hold.clone(), vec![], None, ">held<"),
        (live.clone(), hold.clone(), stops.clone(), None, ">stopped<"),
        (live, hold, stops, acting, ">deploying<"),
    ];
    for (live, hold, stops, acting, word) in table {
        let mut shown = some_home("docs");
        if let Shown::These(sites) = &mut shown.sites {
            sites[0].environments = vec![Environment {
                live,
                hold,
                stops,
                acting,
                ..Environment::default()
            }];
        }
        shown.edges = Shown::Hidden;
        assert!(home(&shown).contains(word), "{word}");
    }
}

#[test]
fn a_hold_and_how_to_lift_it_are_shown_whatever_else_goes_on() {
    let page = home(&some_home("docs"));
    assert!(page.contains(">deploying<"), "{page}");
    let held = "Held by docs <time datetime=\"2026-11-20T15:00:02Z\">";
    assert!(page.contains(held), "{page}");
    assert!(page.contains("candlefish hold lift docs/docs --reason"));
}

#[test]
fn what_is_live_has_a_name_with_a_commit_and_without() {
    let of = |commit: &str, message: &str| {
        let mut shown = some_home("docs");
        if let Shown::These(sites) = &mut shown.sites {
            sites[0].environments[0].live = Some(Live {
                release_id: "rel_01k8qv2h8cfk2t0v1e6m7r8x9c".to_owned(),
                commit: commit.to_owned(),
                message: message.to_owned(),
                since: None,
            });
        }
        home(&shown)
    };
    for (commit, message, words) in [
        ("4ac21e0b5d2f", "", "<p>Live: <code>4ac21e0</code></p>"),
        ("", "", "<p>Live: <code>rel_01k8qv2h8c</code></p>"),
        (
            "",
            "By hand",
            "<p>Live: <code>rel_01k8qv2h8c</code> “By hand”</p>",
        ),
    ] {
        let page = of(commit, message);
        assert!(page.contains(words), "{words}: {page}");
    }
}

#[test]
fn an_edge_says_how_much_it_holds() {
    let mut shown = some_home("docs");
    assert!(home(&shown).contains("4 routes, 3 releases staged"));
    if let Shown::These(edges) = &mut shown.edges {
        edges[0].routes = 1;
        edges[0].staged = 1;
    }
    assert!(home(&shown).contains("1 route, 1 release staged"));
}

#[test]
fn what_is_hidden_unknown_or_empty_says_so() {
    let mut shown = some_home("docs");
    shown.sites = Shown::Hidden;
    shown.edges = Shown::Unknown("no replica <answers>".to_owned());
    let page = home(&shown);
    assert!(page.contains("who have a token") && page.contains("no replica &lt;answers&gt;"));
    shown.sites = Shown::These(Vec::new());
    shown.edges = Shown::These(Vec::new());
    let page = home(&shown);
    assert!(page.contains("No site yet") && page.contains("No edge is known"));
}

#[test]
fn the_commands_to_try_name_what_is_there() {
    let site = |slug: &str, environments: &[&str]| Site {
        slug: slug.to_owned(),
        name: String::new(),
        environments: environments
            .iter()
            .map(|slug| Environment {
                slug: (*slug).to_owned(),
                ..Environment::default()
            })
            .collect(),
        more: false,
    };
    let (book, docs) = (
        site("book", &["staging"]),
        site("docs", &["staging", "production"]),
    );
    for (sites, place) in [
        (vec![book.clone(), docs], "docs/production"),
        (vec![book], "book/staging"),
        (vec![site("new", &[])], "new/production"),
        (vec![], "docs/production"),
    ] {
        let mut shown = some_home("docs");
        shown.sites = Shown::These(sites);
        let page = home(&shown);
        assert!(
            page.contains(&format!("candlefish why {place}<")),
            "{place}"
        );
    }
}

#[test]
fn a_list_that_is_not_whole_says_so_and_how_to_see_the_rest() {
    let mut shown = some_home("docs");
    let page = home(&shown);
    let more = [
        "There are more sites: <code>candlefish sites</code>",
        "There are more environments: <code>candlefish env list docs</code>",
    ];
    for words in more {
        assert!(page.contains(words), "{words}: {page}");
    }
    shown.more_sites = false;
    if let Shown::These(sites) = &mut shown.sites {
        sites[0].more = false;
    }
    assert!(!home(&shown).contains("There are more"));
}

#[test]
fn every_problem_has_its_page() {
    for kind in kinds::ALL {
        let page = problem(kind);
        assert!(page.contains(&prose(kind.about)) && page.contains(&prose(kind.next)));
        assert!(page.contains(&format!("/problems/{}\" aria-current", kind.slug)));
        assert!(is_balanced(&page), "{}", kind.slug);
    }
}

#[test]
fn prose_knows_code_and_weight_and_nothing_else() {
    assert_eq!(
        prose("a `b<c` **d** <e>"),
        "a <code>b&lt;c</code> <strong>d</strong> &lt;e&gt;"
    );
    assert_eq!(spaced("ListMissingBlobs"), "List missing blobs");
    assert_eq!(spaced("WhoAmI"), "Who am I");
}
