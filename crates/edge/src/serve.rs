//! Answers visitors.
//!
//! ```text
//! host ──▶ route ──▶ release (split, cookie) ──▶ rules, file ──▶ form (encoding, range) ──▶ answer
//! ```
//!
//! One value of the table is taken per request, so an answer never mixes two versions of a route.
//! Names from outside are looked up in maps; none reaches a file system.

mod body;
mod conditional;
pub(crate) mod descriptors;
mod file;
mod host;
pub(crate) mod listener;
mod negotiate;
mod page;
mod path;
mod range;
mod stall;

use std::{borrow::Cow, sync::Arc, time::Instant};

use candlefish_runtime::metrics::{EDGE_REQUEST_DURATION, EDGE_REQUESTS};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request::Parts,
};

pub(crate) use body::Body;
use host::host;

use crate::{
    contact::Contact,
    release::{File, Place, Shelf},
    route::table::{Host, Pick, Serving, Share, Table},
    rule::Action,
    split::{COOKIE, Choice, Cookie},
    traffic::Outcome,
};

/// Names the release that an answer comes from.
const RELEASE: HeaderName = HeaderName::from_static("candlefish-release");
/// Marks our own requests: not counted, and answered by the release alone.
const PROBE: HeaderName = HeaderName::from_static("candlefish-probe");
const ROBOTS: HeaderName = HeaderName::from_static("x-robots-tag");
const NOINDEX: HeaderValue = HeaderValue::from_static("noindex");
/// A visitor keeps a share for so long after the last page: some canaries take longer.
const COOKIE_SECONDS: u32 = 7 * 24 * 3600;

/// What every request needs.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) table: Arc<Table>,
    pub(crate) shelf: Arc<Shelf>,
    contact: Arc<Contact>,
    classes: [metrics::Counter; 5],
    durations: metrics::Histogram,
    draws: std::hash::RandomState,
}

/// A request, taken apart once.
struct Asked<'a> {
    method: &'a Method,
    headers: &'a HeaderMap,
    /// As it was sent.
    sent: &'a str,
    /// The same, decoded, without its first slash.
    path: Cow<'a, str>,
    query: Option<&'a str>,
    probe: bool,
}

/// An answer before the headers that all answers share.
struct Answer {
    response: Response<Body>,
    /// Whose content it is, when not the chosen release's.
    from: Option<HeaderValue>,
    /// It is a page, with which the visitor's cookie is set anew.
    is_page: bool,
    /// Not as the status says.
    outcome: Option<Outcome>,
    /// The fault of this edge's disk: no verdict on the release is to count it.
    own_fault: bool,
}

impl From<Response<Body>> for Answer {
    fn from(response: Response<Body>) -> Self {
        Self {
            response,
            from: None,
            is_page: false,
            outcome: None,
            own_fault: false,
        }
    }
}

impl Server {
    pub(crate) fn new(table: Arc<Table>, shelf: Arc<Shelf>, contact: Arc<Contact>) -> Self {
        let class = |class: &'static str| metrics::counter!(EDGE_REQUESTS, "class" => class);
        Self {
            table,
            shelf,
            contact,
            classes: ["1xx", "2xx", "3xx", "4xx", "5xx"].map(class),
            durations: metrics::histogram!(EDGE_REQUEST_DURATION),
            draws: std::hash::RandomState::new(),
        }
    }

    /// Answers one request.
    pub(crate) async fn answer(&self, request: &Parts) -> Response<Body> {
        let began = Instant::now();
        let response = self.respond(request, began).await;
        let class = usize::from(response.status().as_u16() / 100).saturating_sub(1);
        if let Some(class) = self.classes.get(class) {
            class.increment(1);
        }
        self.durations.record(began.elapsed());
        response
    }

    async fn respond(&self, request: &Parts, began: Instant) -> Response<Body> {
        let name = host(request);
        let host = name.as_deref().and_then(|name| self.table.get(name));
        let answering = self.of_host(name.as_deref(), host.as_deref(), request, began);
        let mut response = answering.await;
        if host.is_some_and(|host| host.noindex()) {
            response.headers_mut().insert(ROBOTS, NOINDEX);
        }
        response
    }

    async fn of_host(
        &self,
        name: Option<&str>,
        host: Option<&Host>,
        request: &Parts,
        began: Instant,
    ) -> Response<Body> {
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return page::method_not_allowed();
        }
        let Some(name) = name else {
            return page::bad_request(&request.method, "The request names no host.");
        };
        match host {
            Some(Host::Serving(serving)) if serving.preview && !self.contact.is_recent(began) => {
                page::out_of_contact(&request.method, name)
            }
            Some(Host::Serving(serving)) => self.serve(serving, request, began).await,
            Some(Host::Nothing { .. }) => page::nothing(&request.method, name),
            Some(Host::Unstaged { .. }) => page::unstaged(&request.method, name),
            // Ours asks for what it knows to be there: we have not heard of it yet, which is no fault of
            // the release.
            None if request.headers.contains_key(PROBE) => {
                page::not_here_yet(&request.method, name)
            }
            None => page::unknown_host(&request.method, name),
        }
    }

    async fn serve(&self, serving: &Serving, request: &Parts, began: Instant) -> Response<Body> {
        let (share, choice) = self.pick(serving, &request.headers);
        let Some(share) = share else {
            return page::unstaged(&request.method, "this host");
        };
        let probe = request.headers.contains_key(PROBE);
        let asked = path::decode(request.uri.path()).map(|path| Asked {
            method: &request.method,
            headers: &request.headers,
            sent: request.uri.path(),
            path,
            query: request.uri.query(),
            probe,
        });
        let mut answer = match &asked {
            Ok(asked) => self.find(serving, share, asked).await,
            Err(why) => page::bad_request(&request.method, why).into(),
        };
        let split = matches!(serving.pick, Pick::Split(_));
        let is_page = answer.is_page;
        let cookie = choice.and_then(|one| one.cookie.or_else(|| one.kept.filter(|_| is_page)));
        let status = answer.response.status();
        let headers = answer.response.headers_mut();
        if let Ok(asked) = &asked {
            share.release.headers.apply(&asked.path, status, headers);
        }
        headers.insert(
            RELEASE,
            answer.from.unwrap_or_else(|| share.release.header.clone()),
        );
        if split {
            file::make_private(headers, cookie.is_some());
        }
        if let Some(cookie) = cookie {
            set_cookie(headers, cookie);
        }
        if !probe && !answer.own_fault {
            let outcome = answer
                .outcome
                .unwrap_or_else(|| outcome(answer.response.status()));
            share.counters.count(outcome, began.elapsed());
        }
        answer.response
    }

    /// The release that this visitor gets, if it is here, and how it was chosen where there is a choice.
    fn pick<'a>(
        &self,
        serving: &'a Serving,
        headers: &HeaderMap,
    ) -> (Option<&'a Share>, Option<Choice>) {
        match &serving.pick {
            Pick::Only(place) => (serving.shares.get(*place), None),
            Pick::Split(split) => {
                let seen = headers
                    .get_all(header::COOKIE)
                    .iter()
                    .filter_map(|value| value.to_str().ok())
                    .find_map(Cookie::read);
                let Some(choice) = split.choose(seen, self.draw()) else {
                    return (None, None);
                };
                (serving.shares.get(choice.share), Some(choice))
            }
        }
    }

    /// A number that a visitor cannot foresee; not a secret.
    fn draw(&self) -> u64 {
        use std::hash::BuildHasher as _;

        // The moment makes it differ, the keys of this start make it unforeseeable.
        self.draws.hash_one(Instant::now())
    }

    /// Rules first where they may count, then the file or the way to its address, then the assets of
    /// other releases; these also before a rule that has a page for them.
    async fn find(&self, serving: &Serving, share: &Share, asked: &Asked<'_>) -> Answer {
        let release = &share.release;
        let place = release.place(&asked.path);
        let redirects = &release.redirects;
        // Our own probes ask what the files are, not where visitors are sent.
        let ruled =
            !redirects.is_empty() && (place.is_none() || (redirects.has_forced() && !asked.probe));
        let action = if ruled {
            redirects.find(&asked.path, asked.query, place.is_some())
        } else {
            None
        };
        let other = (place.is_none() && !asked.probe)
            .then(|| asset_of_another(serving, share, &asked.path))
            .flatten();
        // A page for whatever is not there, as single-page applications have it, would be given for the
        // assets of a page that outlives its release. What a rule forces stands.
        let gives_way = |page: &File| {
            page.html && other.is_some() && redirects.find(&asked.path, asked.query, true).is_none()
        };
        match action {
            Some(Action::Redirect(status, location)) => {
                return page::redirect(status, location).into();
            }
            Some(Action::Rewrite(path)) => {
                if let Some(file) = release.file(&path).filter(|page| !gives_way(page)) {
                    return self.file(file, StatusCode::OK, asked).await;
                }
            }
            Some(Action::NotFound(path)) => {
                if let Some(file) = release.file(&path).filter(|page| !gives_way(page)) {
                    return self.not_found(Some(file), serving, share, asked).await;
                }
            }
            None => {
                if let Some(place) = place {
                    return self.place(place, asked).await;
                }
            }
        }
        if let Some((file, from)) = other {
            let mut answer = self.file(file, StatusCode::OK, asked).await;
            answer.from = Some(from);
            return answer;
        }
        self.not_found(release.not_found.as_ref(), serving, share, asked)
            .await
    }

    /// The file, or the one address that its page has.
    async fn place(&self, place: &Place, asked: &Asked<'_>) -> Answer {
        match place.moved {
            Some(slash) => {
                let location = path::location(slash, asked.sent, asked.query);
                page::redirect(StatusCode::MOVED_PERMANENTLY.as_u16(), location).into()
            }
            None => self.file(&place.file, StatusCode::OK, asked).await,
        }
    }

    async fn not_found(
        &self,
        file: Option<&Arc<File>>,
        serving: &Serving,
        share: &Share,
        asked: &Asked<'_>,
    ) -> Answer {
        let mut answer = match file {
            Some(file) => self.file(file, StatusCode::NOT_FOUND, asked).await,
            None => page::not_found(asked.method).into(),
        };
        // A release without visitors yet has no paths that anybody could have lost.
        let others = matches!(serving.pick, Pick::Split(_))
            .then_some(serving.shares.as_slice())
            .unwrap_or_default();
        let lost = others.iter().any(|other| {
            other.release.id != share.release.id && other.release.file(&asked.path).is_some()
        });
        if lost && answer.response.status() == StatusCode::NOT_FOUND {
            answer.outcome = Some(Outcome::LostPath);
        }
        answer
    }

    async fn file(&self, file: &Arc<File>, status: StatusCode, asked: &Asked<'_>) -> Answer {
        match file::respond(file, status, asked, &self.shelf.memory).await {
            Ok(response) => Answer {
                is_page: file.html,
                ..response.into()
            },
            Err(error) => {
                tracing::error!(%error, path = %asked.path, "a file could not be served");
                // Our verification tries again where a server is not ready, and fails a release for what
                // else is not its page.
                let own_fault = self.shelf.found_unreadable(&file.content);
                let response = if own_fault {
                    page::unstaged(asked.method, "this page")
                } else {
                    page::unreadable(asked.method)
                };
                Answer {
                    own_fault,
                    ..response.into()
                }
            }
        }
    }
}

/// Assets that pages of other releases point at: a page in a visitor's hand outlives its release.
/// Never a page nor the way to one, or a deleted one would live on.
fn asset_of_another<'a>(
    serving: &'a Serving,
    share: &Share,
    path: &str,
) -> Option<(&'a Arc<File>, HeaderValue)> {
    let others = serving.shares.iter().map(|other| &other.release);
    others
        .chain(&serving.assets_of)
        .filter(|release| release.id != share.release.id)
        .find_map(|release| {
            let place = release.place(path)?;
            let asset = place.moved.is_none() && !place.file.html;
            asset.then(|| (&place.file, release.header.clone()))
        })
}

fn outcome(status: StatusCode) -> Outcome {
    match status.as_u16() {
        500.. => Outcome::ServerError,
        400.. => Outcome::ClientError,
        _ => Outcome::Fine,
    }
}

fn set_cookie(headers: &mut HeaderMap, cookie: Cookie) {
    let text =
        format!("{COOKIE}={cookie}; Path=/; Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Lax");
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.append(header::SET_COOKIE, value);
    }
}

#[cfg(test)]
mod tests;
