//! Which events a watcher gets: those it asked for, of the sites that it may see.

use candlefish_proto::event::{Envelope, WatchEventsRequest};
use candlefish_runtime::{
    identity::Caller,
    refusal::{Code, Refusal},
};

use crate::field::{self, Faults};

const MOST_TYPES: usize = 20;
const MOST_TYPE_LEN: usize = 100;
const MOST_ENVIRONMENT_LEN: usize = 26;

/// Says which events pass.
#[derive(Debug)]
pub(super) struct Filter {
    /// Empty for all.
    site: String,
    /// Empty for all.
    environment: String,
    /// Beginnings of types; empty for all.
    types: Vec<String>,
    caller: Caller,
}

impl Filter {
    /// Reads what was asked for; what is wrong is noted.
    pub(super) fn read(request: &WatchEventsRequest, caller: Caller, faults: &mut Faults) -> Self {
        if !request.site.is_empty() && !field::is_site_slug(&request.site) {
            faults.add("site", "is no slug: 1 to 35 of a-z, 0-9 and -");
        }
        if !request.environment.is_empty() {
            if request.site.is_empty() {
                faults.add("site", "must be set when `environment` is");
            }
            let short = request.environment.len() <= MOST_ENVIRONMENT_LEN;
            if !short || !field::is_site_slug(&request.environment) {
                faults.add("environment", "is no slug: 1 to 26 of a-z, 0-9 and -");
            }
        }
        if request.types.len() > MOST_TYPES {
            let words = format!("must be at most {MOST_TYPES}, not {}", request.types.len());
            faults.add("types", words);
        }
        for (place, kind) in request.types.iter().enumerate().take(MOST_TYPES) {
            if !is_beginning(kind) {
                let words = "is no type or beginning of one, such as deploy.deployment.";
                faults.add(&format!("types[{place}]"), words);
            }
        }
        Self {
            site: request.site.clone(),
            environment: request.environment.clone(),
            types: request.types.clone(),
            caller,
        }
    }

    /// Refuses a site that the caller may not see, as one that does not exist.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        if self.site.is_empty() || self.caller.sees(&self.site) {
            return Ok(());
        }
        Err(self.no_site())
    }

    /// The site that is asked for; empty for all.
    pub(super) fn site(&self) -> &str {
        &self.site
    }

    /// That there is none of this name, for this caller.
    pub(super) fn no_site(&self) -> Refusal {
        let words = format!(
            "there is no site {:?}, or not one that you may see",
            self.site
        );
        Refusal::new(Code::NotFound, "site-not-found", words).field(
            "site",
            "is no site that you may see; GET /v1/sites lists them",
        )
    }

    pub(super) fn passes(&self, event: &Envelope) -> bool {
        let wanted = |asked: &str, is: &str| asked.is_empty() || asked == is;
        // What concerns no site concerns the platform: it is for those who may see all of it.
        self.caller.sees(&event.site)
            && wanted(&self.site, &event.site)
            && wanted(&self.environment, &event.environment)
            && (self.types.is_empty()
                || self
                    .types
                    .iter()
                    .any(|kind| event.r#type.starts_with(kind.as_str())))
    }
}

fn is_beginning(text: &str) -> bool {
    (1..=MOST_TYPE_LEN).contains(&text.len())
        && text.bytes().all(|letter| {
            letter.is_ascii_lowercase() || letter.is_ascii_digit() || b"._-".contains(&letter)
        })
}

#[cfg(test)]
mod tests {
    use candlefish_proto::access::Role;
    use candlefish_runtime::identity::Kind;

    use super::*;

    fn caller(sites: &[&str]) -> Caller {
        Caller {
            principal: "ada".to_owned(),
            kind: Kind::Person,
            role: Role::Viewer,
            sites: sites.iter().map(|site| (*site).to_owned()).collect(),
            request_id: String::new(),
            issuer: "gateway".to_owned(),
        }
    }

    fn request(site: &str, environment: &str, types: &[&str]) -> WatchEventsRequest {
        WatchEventsRequest {
            site: site.to_owned(),
            environment: environment.to_owned(),
            types: types.iter().map(|kind| (*kind).to_owned()).collect(),
            cursor: String::new(),
        }
    }

    fn event(kind: &str, site: &str, environment: &str) -> Envelope {
        Envelope {
            r#type: kind.to_owned(),
            site: site.to_owned(),
            environment: environment.to_owned(),
            ..Envelope::default()
        }
    }

    #[test]
    fn events_pass_by_site_environment_type_and_the_callers_sites() {
        let created = "deploy.deployment.created.v1";
        let events = [
            event(created, "docs", "production"),
            event(created, "docs", "staging"),
            event("deploy.site.created.v1", "docs", ""),
            event(created, "shop", "production"),
            event("deploy.edge.joined.v1", "", ""),
        ];
        let table: [(&[&str], WatchEventsRequest, &[usize]); 8] = [
            (&[], request("", "", &[]), &[0, 1, 2, 3, 4]),
            (&[], request("docs", "", &[]), &[0, 1, 2]),
            (&[], request("docs", "staging", &[]), &[1]),
            (&[], request("", "", &["deploy.deployment."]), &[0, 1, 3]),
            (
                &[],
                request("", "", &["deploy.edge.", created]),
                &[0, 1, 3, 4],
            ),
            (&[], request("", "", &["deployment."]), &[]),
            (&["docs"], request("", "", &[]), &[0, 1, 2]),
            (&["shop", "blog"], request("", "", &["deploy."]), &[3]),
        ];
        for (sites, request, expected) in table {
            let mut faults = Faults::default();
            let filter = Filter::read(&request, caller(sites), &mut faults);
            faults.finish().unwrap();
            filter.check().unwrap();
            let passed: Vec<usize> = events
                .iter()
                .enumerate()
                .filter(|(_, event)| filter.passes(event))
                .map(|(place, _)| place)
                .collect();
            assert_eq!(passed, expected, "{sites:?} {request:?}");
        }
    }

    #[test]
    fn every_bad_field_is_named_at_once() {
        let many: Vec<&str> = vec!["deploy."; 21];
        let table: [(WatchEventsRequest, &[&str]); 5] = [
            (request("Docs", "", &[]), &["site"]),
            (request("", "staging", &[]), &["site"]),
            (
                request("docs", "-x", &["", "a b"]),
                &["environment", "types[0]", "types[1]"],
            ),
            (request("docs", "", &many), &["types"]),
            (
                request("", "abcdefghijklmnopqrstuvwxyz0", &[]),
                &["site", "environment"],
            ),
        ];
        for (request, expected) in table {
            let mut faults = Faults::default();
            Filter::read(&request, caller(&[]), &mut faults);
            assert_eq!(faults.names(), expected, "{request:?}");
        }
    }

    #[test]
    fn a_site_that_the_caller_may_not_see_is_not_there() {
        let mut faults = Faults::default();
        let filter = Filter::read(&request("shop", "", &[]), caller(&["docs"]), &mut faults);
        let refused = filter.check().unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
        let named = refused.violations().first().map(|one| one.field.as_str());
        assert_eq!(named, Some("site"));
    }
}
