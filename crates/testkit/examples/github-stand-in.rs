//! A stand-in for GitHub, for the tour: `github-stand-in LISTEN HOOK SECRET`.

use std::{error::Error, net::SocketAddr};

use candlefish_testkit::github::StandIn;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let mut next = || words.next().ok_or("say LISTEN HOOK SECRET");
    let (listen, hook, secret) = (next()?, next()?, next()?);
    let address: SocketAddr = listen.parse()?;
    let stand_in = StandIn::start(address).await?;
    stand_in.delivers_to(&hook, &secret);
    std::future::pending::<()>().await;
    Ok(())
}
