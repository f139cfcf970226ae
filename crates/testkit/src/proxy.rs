//! A TCP proxy that can be cut or silenced: a network that fails when a test says so.

use std::{
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

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
    network: watch::Sender<Network>,
    refused: Arc<AtomicUsize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    Up,
    /// Nothing passes, and nobody is told.
    Silent,
    Cut,
}

impl Proxy {
    /// Starts in front of `upstream`, `host:port`. Ends with the runtime that it was started in.
    pub async fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (network, state) = watch::channel(Network::Up);
        let refused = Arc::<AtomicUsize>::default();
        let accepting = accept(listener, upstream.to_owned(), state, Arc::clone(&refused));
        spawn(accepting);
        Self {
            addr,
            network,
            refused,
        }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends all connections and refuses new ones.
    pub fn cut(&self) {
        self.network.send_replace(Network::Cut);
    }

    /// Passes nothing on, and keeps all connections: neither end sees that the other is gone.
    pub fn silence(&self) {
        self.network.send_replace(Network::Silent);
    }

    /// How many connections it has closed at once so far.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }

    /// Lets connections through again; what was held back comes.
    pub fn mend(&self) {
        self.network.send_replace(Network::Up);
    }
}

async fn accept(
    listener: TcpListener,
    upstream: String,
    state: watch::Receiver<Network>,
    refused: Arc<AtomicUsize>,
) {
    while let Ok((client, _from)) = listener.accept().await {
        if *state.borrow() == Network::Cut {
            refused.fetch_add(1, Ordering::SeqCst);
        } else {
            spawn(pass(client, upstream.clone(), state.clone()));
        }
    }
}

async fn pass(mut client: TcpStream, upstream: String, mut state: watch::Receiver<Network>) {
    let Ok(mut server) = TcpStream::connect(upstream).await else {
        return;
    };
    let mut passing = pin!(copy_bidirectional(&mut client, &mut server));
    loop {
        let network = *state.borrow_and_update();
        if network == Network::Cut {
            return;
        }
        tokio::select! {
            _end = &mut passing, if network == Network::Up => return,
            changed = state.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "tests have no process shell")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}
