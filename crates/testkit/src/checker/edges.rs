//! What the edges serve, asked as a visitor asks.

use std::{collections::BTreeMap, net::SocketAddr};

use candlefish_ids::ReleaseId;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::Broken;
use crate::{Page, fetch};

const CLAIM: &str = "every edge serves what is live";

/// An edge, and where it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    pub name: String,
    pub address: SocketAddr,
}

/// Compares the front page of every environment on every edge with what the database says is live;
/// answers what differs. `marks` says for a release (as text) what its pages carry.
///
/// # Panics
///
/// When the database does not answer.
pub async fn edges(
    url: &str,
    domain: &str,
    edges: &[Edge],
    marks: &BTreeMap<String, String>,
) -> Broken {
    let mut broken = Broken::new();
    let http = reqwest::Client::new();
    for (host, live) in environments(&mut super::connect(url).await, domain).await {
        let wanted = live.map(|live| ReleaseId::from_uuid(live).to_string());
        for edge in edges {
            let look = Look {
                http: &http,
                edge,
                host: &host,
            };
            if let Err(why) = look.judge(wanted.as_deref(), marks).await {
                let words = broken.entry(CLAIM.to_owned()).or_default();
                words.push(format!("{} on {host}: {why}", edge.name));
            }
        }
    }
    broken
}

/// Host and live release of each environment.
async fn environments(connection: &mut PgConnection, domain: &str) -> Vec<(String, Option<Uuid>)> {
    let rows = sqlx::query(
        "SELECT CASE e.slug WHEN 'production' THEN s.slug ELSE e.slug || '--' || s.slug END,
                e.live_release_id
         FROM deploy.environment e JOIN deploy.site s ON s.id = e.site_id
         WHERE e.kind = 'standard' ORDER BY e.id",
    )
    .fetch_all(connection)
    .await
    .expect("the environments are read");
    rows.iter()
        .map(|row| (format!("{}.{domain}", row.get::<String, _>(0)), row.get(1)))
        .collect()
}

struct Look<'a> {
    http: &'a reqwest::Client,
    edge: &'a Edge,
    host: &'a str,
}

impl Look<'_> {
    async fn judge(
        &self,
        wanted: Option<&str>,
        marks: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        let page = fetch(self.http, self.edge.address, self.host, "/").await;
        let Page {
            status,
            release,
            body,
        } = page.map_err(|error| error.to_string())?;
        let Some(wanted) = wanted else {
            return if status == 200 || !release.is_empty() {
                Err(format!("nothing is live, it answers {status} of {release}"))
            } else {
                Ok(())
            };
        };
        if status != 200 || release != wanted {
            return Err(format!(
                "{wanted} is live, it answers {status} of {release}"
            ));
        }
        match marks.get(wanted) {
            Some(mark) if !body.contains(&format!("mark:{mark}<")) => {
                Err(format!("the page of {wanted} carries no {mark}: {body}"))
            }
            _ => Ok(()),
        }
    }
}
