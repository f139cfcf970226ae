//! What is asked as the App itself: its own webhook, which tells of every repository where it is
//! installed, and of which no repository knows.

use std::time::Duration;

use http::Method;
use serde::Deserialize;

use super::{
    Credentials, Error, GitHub,
    heads::{Pages, Sent},
};

impl GitHub {
    /// Whether an App asks, and not a token.
    pub(super) fn is_app(&self) -> bool {
        matches!(self.settings().credentials, Credentials::App { .. })
    }

    /// Where the App's webhook goes; empty when it goes nowhere.
    pub(super) async fn app_hook(&self) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Config {
            #[serde(default)]
            url: Option<String>,
        }
        let config: Config = self.ask_as_app("app_hook", "/app/hook/config").await?;
        Ok(config.url.unwrap_or_default())
    }

    /// The tries to bring the App's deliveries, newest first, as far back as asked.
    pub(super) async fn app_deliveries(&self, back: Duration) -> Result<Vec<Sent>, Error> {
        const CALL: &str = "app_deliveries";
        let (mut all, mut pages) = (Vec::new(), Pages::default());
        while let Some(query) = pages.next_query() {
            let path = format!("/app/hook/deliveries?{query}");
            let answer = self.call_as_app(CALL, Method::GET, &path).await?;
            all.extend(pages.read(CALL, answer, back)?);
        }
        Ok(all)
    }

    /// Has a delivery sent once more.
    pub(super) async fn redeliver_to_app(&self, delivery: u64) -> Result<(), Error> {
        let path = format!("/app/hook/deliveries/{delivery}/attempts");
        self.call_as_app("redeliver_to_app", Method::POST, &path)
            .await?;
        Ok(())
    }
}
