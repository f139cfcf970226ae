//! What an edge serves, asked as a visitor asks.

use std::net::SocketAddr;

/// What a visitor got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub status: u16,
    /// The release that the edge says it is of.
    pub release: String,
    pub body: String,
}

/// One request to one edge.
pub async fn fetch(
    http: &reqwest::Client,
    edge: SocketAddr,
    host: &str,
    path: &str,
) -> Result<Page, reqwest::Error> {
    let url = format!("http://{edge}{path}");
    let answer = http.get(url).header("host", host).send().await?;
    let status = answer.status().as_u16();
    let release = answer
        .headers()
        .get("candlefish-release")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    Ok(Page {
        status,
        release,
        body: answer.text().await?,
    })
}
