//! What a command would do, in one line, as the server answered what it took back.

use candlefish_proto::{
    access::{Principal, Token},
    deploy::{Deployment, Environment, QueueItem, Release, Site, Stop},
};

use super::{access, environment, steps, stop, words};

fn place(environment: &Environment) -> String {
    format!("{}/{}", environment.site, environment.slug)
}

/// Setting a hold.
pub(crate) fn hold(environment: &Environment) -> String {
    let hold = environment.hold.as_ref();
    let why = hold.map(|hold| format!(": \"{}\"", hold.reason));
    let place = place(environment);
    format!("would hold {place}{}", why.unwrap_or_default())
}

/// Lifting a hold, and what that lets go on.
pub(crate) fn lift(environment: &Environment) -> String {
    let next = match (
        &*environment.acting_deployment_id,
        environment.pending_count,
    ) {
        ("", 0) => String::new(),
        ("", pending) => format!("; {} would wait", words::counted(pending, "deployment")),
        (acting, _) => format!("; {acting} would act"),
    };
    format!("would lift the hold of {}{next}", place(environment))
}

/// Making an environment.
pub(crate) fn environment_made(made: &Environment) -> String {
    format!("would make {}, reached at {}", place(made), made.url)
}

/// Changing which pushes deploy.
pub(crate) fn pushes(changed: &Environment) -> String {
    let place = place(changed);
    let rule = changed.pushes.as_ref();
    match rule.filter(|rule| !rule.branch.is_empty()) {
        Some(rule) => {
            let which = environment::rule_words(rule);
            format!("would let pushes to {which} deploy to {place}")
        }
        None => format!("would let no push deploy to {place} by itself"),
    }
}

/// Changing how deployments go.
pub(crate) fn policy(changed: &Environment) -> String {
    let policy = changed.policy.clone().unwrap_or_default();
    let how = environment::strategy(&policy);
    format!("would change the policy of {}: {how}", place(changed))
}

/// Deploying once more, and what that would wait for.
pub(crate) fn retry(made: &Deployment) -> String {
    let place = words::place(&made.site, &made.environment, made.kind());
    let first = made.blockers.first();
    let waits = first.map(|one| format!("; it would wait: {}", one.message));
    let waits = waits.unwrap_or_default();
    format!(
        "would deploy {} to {place} once more{waits}",
        made.release_id
    )
}

/// Leaving a step.
pub(crate) fn advance(deployment: &Deployment, step_ord: i32) -> String {
    let step = deployment.steps.iter().find(|step| step.ord == step_ord);
    let name = step.map(|step| format!(", {},", steps::name(step)));
    let name = name.unwrap_or_default();
    format!("would leave step {step_ord}{name} of {}", deployment.id)
}

/// Pinning, or taking the pin off.
pub(crate) fn pin(deployment: &Deployment) -> String {
    let id = &deployment.id;
    if deployment.pin.is_some() {
        format!("would pin {id}: no push would supersede or overtake it")
    } else {
        format!("would take the pin off {id}")
    }
}

/// Ending a deployment.
pub(crate) fn ended(deployment: &Deployment) -> String {
    let state = words::state(deployment.state());
    format!("would end {}: it would be {state}", deployment.id)
}

/// Closing a preview.
pub(crate) fn closed(environment: &Environment) -> String {
    format!("would close {}", place(environment))
}

/// Making a site.
pub(crate) fn site_made(made: &Site) -> String {
    format!("would make the site {}", made.slug)
}

/// Changing a site.
pub(crate) fn site_changed(changed: &Site) -> String {
    format!("would change the site {}", changed.slug)
}

/// Stopping the line.
pub(crate) fn stopped(set: &Stop) -> String {
    format!("would stop {}", stop::scope(set))
}

/// Lifting a stop.
pub(crate) fn stop_lifted(lifted: &Stop) -> String {
    format!("would lift the stop of {}", stop::scope(lifted))
}

/// Clearing a rejection.
pub(crate) fn cleared(release: &Release, environment: &str) -> String {
    let (id, site) = (&release.id, &release.site);
    format!("would let {id} be deployed to {site}/{environment} again")
}

/// Banning a release.
pub(crate) fn banned(release: &Release) -> String {
    format!("would ban {} of {}", release.id, release.site)
}

/// Lifting a ban.
pub(crate) fn unbanned(release: &Release) -> String {
    format!("would lift the ban of {}", release.id)
}

/// Putting an item back to work.
pub(crate) fn replayed(item: &QueueItem) -> String {
    format!("would put {} back to work", item.id)
}

/// Giving an item up.
pub(crate) fn discarded(item: &QueueItem) -> String {
    format!("would give {} up", item.id)
}

/// Making a principal.
pub(crate) fn principal(made: &Principal) -> String {
    format!("would make the principal {}", made.name)
}

/// Making a token.
pub(crate) fn token(made: &Token) -> String {
    let sites = if made.sites.is_empty() {
        "all sites".to_owned()
    } else {
        made.sites.join(", ")
    };
    format!(
        "would make the token \"{}\" of {}: {} of {sites}",
        made.name,
        made.principal,
        access::role(made.role())
    )
}

/// Ending a token.
pub(crate) fn revoked(token: &Token) -> String {
    format!("would end {}", access::named(&token.id, Some(token)))
}

#[cfg(test)]
mod tests {
    use candlefish_proto::deploy::{Blocker, Hold, Policy, PushRule, Step, step};

    use super::*;

    fn held() -> Environment {
        Environment {
            site: "docs".to_owned(),
            slug: "production".to_owned(),
            url: "http://docs.localhost".to_owned(),
            hold: Some(Hold {
                reason: "launch day".to_owned(),
                ..Hold::default()
            }),
            policy: Some(Policy::default()),
            ..Environment::default()
        }
    }

    #[test]
    fn every_line_says_what_would_happen_to_an_environment() {
        let held = held();
        let lifted = Environment {
            hold: None,
            acting_deployment_id: "dep_1".to_owned(),
            pushes: Some(PushRule {
                branch: "main".to_owned(),
                paths: vec!["docs/".to_owned()],
            }),
            ..held.clone()
        };
        let stopped = Environment {
            pending_count: 2,
            ..held.clone()
        };
        for (line, expected) in [
            (hold(&held), "would hold docs/production: \"launch day\""),
            (
                lift(&lifted),
                "would lift the hold of docs/production; dep_1 would act",
            ),
            (
                lift(&stopped),
                "would lift the hold of docs/production; 2 deployments would wait",
            ),
            (
                environment_made(&held),
                "would make docs/production, reached at http://docs.localhost",
            ),
            (
                pushes(&lifted),
                "would let pushes to main that change docs/ deploy to docs/production",
            ),
            (
                pushes(&held),
                "would let no push deploy to docs/production by itself",
            ),
        ] {
            assert_eq!(line, expected);
        }
    }

    #[test]
    fn every_line_says_what_would_happen_to_a_deployment() {
        let bakes = Step {
            ord: 5,
            kind: step::Kind::Bake.into(),
            ..Step::default()
        };
        let deployment = Deployment {
            id: "dep_1".to_owned(),
            site: "docs".to_owned(),
            environment: "production".to_owned(),
            release_id: "rel_1".to_owned(),
            steps: vec![bakes],
            blockers: vec![Blocker {
                message: "dep_0 acts on docs/production".to_owned(),
                ..Blocker::default()
            }],
            ..Deployment::default()
        };
        let left = advance(&deployment, 5);
        assert!(left.starts_with("would leave step 5, "), "{left}");
        assert!(left.ends_with(", of dep_1"), "{left}");
        for (line, expected) in [
            (
                retry(&deployment),
                "would deploy rel_1 to docs/production once more; it would wait: dep_0 acts on \
                 docs/production",
            ),
            (advance(&deployment, 6), "would leave step 6 of dep_1"),
            (pin(&deployment), "would take the pin off dep_1"),
        ] {
            assert_eq!(line, expected);
        }
    }
}
