//! An environment that may be on its way: CI can name the preview of a pull request before GitHub's
//! delivery has made it, or opened it again.

use std::time::{Duration, Instant};

use candlefish_proto::deploy::{Environment, GetEnvironmentRequest};
use jiff::SignedDuration;
use tonic::Code;

use super::{Args, passed};
use crate::{
    api::Api,
    app::App,
    command::subject::{self, Place},
    error::Error,
    render::{self, words},
};

/// A delivery that takes longer is lost, or was never sent.
const LONGEST: SignedDuration = SignedDuration::from_mins(1);
/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// What a delivery does to the preview of a pull request before it can be deployed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lacks {
    Making,
    Reopening,
}

/// The environment at a place, and how long it was waited for, which is taken off the wait for the
/// deployment. Only a pull request's is waited for: no other comes by itself.
pub(super) async fn environment(
    app: &App,
    api: &Api,
    place: &Place,
    args: &Args,
) -> Result<(Environment, SignedDuration), Error> {
    let found = subject::environment(api, place).await;
    let coming = number(&place.environment).zip(lacks(&found));
    let Some((number, lacks)) = coming.filter(|_| !args.dry_run) else {
        return Ok((found?, SignedDuration::ZERO));
    };
    let limit = args.waiting.wait.map_or(LONGEST, |wait| wait.min(LONGEST));
    say(app, place, number, lacks, limit);
    let begun = Instant::now();
    let ready = tokio::time::timeout(limit.unsigned_abs(), ready(api, place))
        .await
        .unwrap_or_else(|_elapsed| Err(never_came(place, lacks, args)))?;
    Ok((ready, passed(begun)))
}

/// The number of the pull request whose preview is called so.
fn number(slug: &str) -> Option<&str> {
    let number = slug.strip_prefix("pr-")?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(number)
}

/// The site was found before: what is not there is the environment.
fn lacks(found: &Result<Environment, Error>) -> Option<Lacks> {
    match found {
        Ok(environment) => environment.closed.as_ref().map(|_closed| Lacks::Reopening),
        Err(Error::UnknownEnvironment { .. }) => Some(Lacks::Making),
        Err(Error::Refused(status)) if status.code() == Code::NotFound => Some(Lacks::Making),
        Err(_) => None,
    }
}

async fn ready(api: &Api, place: &Place) -> Result<Environment, Error> {
    let request = GetEnvironmentRequest {
        site: place.site.clone(),
        environment: place.environment.clone(),
    };
    loop {
        tokio::time::sleep(PAUSE).await;
        let found = api.read(request.clone()).await;
        if lacks(&found).is_none() {
            return found;
        }
    }
}

fn say(app: &App, place: &Place, number: &str, lacks: Lacks, limit: SignedDuration) {
    let look = app.output.look_err();
    let until = words::clock(look.now.timestamp() + limit, &look.now);
    let Place { site, environment } = place;
    let does = match lacks {
        Lacks::Making => format!("makes {site}/{environment}"),
        Lacks::Reopening => format!("opens {site}/{environment} again"),
    };
    let value =
        format!("until {until} for GitHub's delivery of pull request {number}, which {does}");
    app.output
        .note(&render::deployment::labelled("Waiting", &value, "", &look));
}

fn never_came(place: &Place, lacks: Lacks, args: &Args) -> Error {
    let Place { site, environment } = place.clone();
    let commit = args
        .commit
        .clone()
        .filter(|one| subject::commit(one).is_ok());
    let commit = commit.unwrap_or_else(|| "COMMIT".to_owned());
    match lacks {
        Lacks::Making => Error::NoPreview {
            site,
            environment,
            commit,
        },
        Lacks::Reopening => Error::ClosedPreview {
            site,
            environment,
            commit,
        },
    }
}
