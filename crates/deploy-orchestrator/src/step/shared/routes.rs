//! Routes that turns which share a transaction write at once.
//!
//! A step remembers the version of what it wrote, and one statement for all can tell it only at the end. So
//! it is told before: the one that was read, and one more. Where a route stands at another when it is
//! written, the transaction fails, and its turns go alone.

use std::collections::HashSet;

use super::Shared;
use crate::{
    ctx::{Ctx, Tx},
    deployment::Deployment,
    route::{
        self, Spec, Written,
        store::{Current, Note, Place},
    },
    site::host,
};

/// What routes stand at, and what is to be written to them.
#[derive(Debug, Default)]
pub(super) struct Routes {
    current: Option<Current>,
    /// The hosts that were asked for.
    asked: HashSet<String>,
    notes: Vec<Note>,
}

impl Routes {
    pub(super) fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    fn is_noted(&self, hosts: &[String]) -> bool {
        let is_noted = |host: &String| self.notes.iter().any(|note| note.is_of(host));
        hosts.iter().any(is_noted)
    }

    fn lacks(&self, hosts: &[String]) -> bool {
        self.current.is_none() || hosts.iter().any(|host| !self.asked.contains(host))
    }

    fn learn(&mut self, hosts: Vec<String>, found: Current) {
        self.asked.extend(hosts);
        match &mut self.current {
            // What is known already has been written meanwhile, or is as it was.
            Some(current) => {
                for (host, held) in found.held {
                    current.held.entry(host).or_insert(held);
                }
            }
            None => self.current = Some(found),
        }
    }

    /// Notes the routes of these hosts, all alike; answers the versions at which they will stand.
    fn note(&mut self, hosts: &[String], place: Place<'_>, spec: &Spec) -> Vec<Written> {
        let Some(current) = &mut self.current else {
            return Vec::new();
        };
        let mut all = Vec::with_capacity(hosts.len());
        for host in hosts {
            let (epoch, version) = current.held.get(host).copied().unwrap_or((0, 0));
            let written = Written {
                host: host.clone(),
                epoch: epoch.max(current.epoch),
                version: version + 1,
            };
            current
                .held
                .insert(host.clone(), (written.epoch, written.version));
            self.notes.push(Note::new(&written, place, spec));
            all.push(written);
        }
        all
    }
}

impl Shared {
    /// The hosts that others of these deployments may write too: their own addresses, or those of their
    /// environments.
    fn other_hosts(&self, ctx: &Ctx, own_addresses: bool) -> Vec<String> {
        let domain = &ctx.config.domain;
        let lanes = self.known.lanes.iter();
        if own_addresses {
            return lanes
                .map(|lane| host::of_deployment(&lane.site, lane.deployment_id, domain))
                .collect();
        }
        lanes
            .flat_map(|lane| {
                let own = self.known.own_hosts.as_ref();
                let own = own.and_then(|own| own.get(&lane.environment_id)).cloned();
                let own = own.unwrap_or_default();
                host::all_of_environment(&lane.site, &lane.environment, domain, own)
            })
            .collect()
    }
}

/// Writes the routes of `hosts`, all alike; answers the versions at which they stand from now on.
pub(in crate::step) async fn write_routes(
    ctx: &Ctx,
    tx: &mut Tx,
    deployment: &Deployment,
    hosts: &[String],
    place: Place<'_>,
    spec: &Spec,
) -> Result<Vec<Written>, sqlx::Error> {
    let Some(shared) = tx.shared_of(deployment.id) else {
        return route::store::write(tx, hosts, place, spec).await;
    };
    if shared.routes.is_noted(hosts) {
        // Each statement writes a route once.
        let notes = shared.routes.take_notes();
        route::store::write_each(tx, &notes).await?;
    }
    let Some(shared) = tx.shared_of(deployment.id) else {
        return Ok(Vec::new());
    };
    if shared.routes.lacks(hosts) {
        let others = shared.other_hosts(ctx, place.deployment_id.is_some());
        let all: HashSet<String> = others.into_iter().chain(hosts.iter().cloned()).collect();
        let all: Vec<String> = all.into_iter().collect();
        let found = route::store::list_current(tx, &all).await?;
        if let Some(shared) = tx.shared_of(deployment.id) {
            shared.routes.learn(all, found);
        }
    }
    let shared = tx.shared_of(deployment.id);
    Ok(shared.map_or_else(Vec::new, |shared| shared.routes.note(hosts, place, spec)))
}
