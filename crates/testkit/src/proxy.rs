//! A TCP proxy that can be cut: a network that fails when a test says so.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Passes connections on to a server until it is cut; both ends then see a reset, and new
/// connections are closed at once until it is mended.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    up: watch::Sender<bool>,
}

impl Proxy {
    /// Starts in front of `upstream`, `host:port`. Ends with the runtime that it was started in.
    pub async fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (up, state) = watch::channel(true);
        spawn(accept(listener, upstream.to_owned(), state));
        Self { addr, up }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends all connections and refuses new ones.
    pub fn cut(&self) {
        self.up.send_replace(false);
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.up.send_replace(true);
    }
}

async fn accept(listener: TcpListener, upstream: String, state: watch::Receiver<bool>) {
    while let Ok((client, _from)) = listener.accept().await {
        if *state.borrow() {
            spawn(pass(client, upstream.clone(), state.clone()));
        }
    }
}

async fn pass(mut client: TcpStream, upstream: String, mut state: watch::Receiver<bool>) {
    let Ok(mut server) = TcpStream::connect(upstream).await else {
        return;
    };
    tokio::select! {
        _end = copy_bidirectional(&mut client, &mut server) => {}
        _cut = state.wait_for(|up| !up) => {}
    }
}

#[expect(clippy::disallowed_methods, reason = "tests have no process shell")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}
