//! A stand-in for GitHub, for the tour: `HOOK_SECRET=… github-stand-in LISTEN HOOK`.

use std::{error::Error, net::SocketAddr};

use candlefish_testkit::github::StandIn;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let mut next = || words.next().ok_or("say LISTEN HOOK");
    let (listen, hook) = (next()?, next()?);
    let secret = secret().ok_or("HOOK_SECRET is not set")?;
    let address: SocketAddr = listen.parse()?;
    let stand_in = StandIn::start(address).await?;
    stand_in.delivers_to(&hook, &secret);
    std::future::pending::<()>().await;
    Ok(())
}

/// What its deliveries are signed with. Not a word of the command: everybody may read those.
#[expect(clippy::disallowed_methods, reason = "its only configuration")]
fn secret() -> Option<String> {
    std::env::var("HOOK_SECRET").ok()
}
