use std::{future::ready, pin::Pin};

use candlefish_proto::deploy::{
    ListEdgesRequest, ListEdgesResponse, Route,
    edge_service_server::{EdgeService, EdgeServiceServer},
};
use candlefish_runtime::{
    listen,
    tasks::{Policy, Tasks},
};
use candlefish_testkit::wait_until;
use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::watch;
use tonic::{Response, service::Routes};

use super::*;

const SOON: Duration = Duration::from_secs(20);
/// How long an orchestrator counts as heard.
const PATIENCE: Duration = Duration::from_secs(2);

type Answers = Pin<Box<dyn Stream<Item = Result<WatchRoutesResponse, Status>> + Send>>;

/// Says at once that this is all, and later more than may wait for the keeper.
struct Orchestrator {
    more: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl EdgeService for Orchestrator {
    async fn list_edges(
        &self,
        _request: Request<ListEdgesRequest>,
    ) -> Result<Response<ListEdgesResponse>, Status> {
        Err(Status::unimplemented("no test asks"))
    }

    type WatchRoutesStream = Answers;

    async fn watch_routes(
        &self,
        request: Request<Streaming<WatchRoutesRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let all = WatchRoutesResponse {
            routes: Vec::new(),
            caught_up: true,
        };
        let route = Ok::<_, Status>(WatchRoutesResponse {
            routes: vec![Route::default()],
            caught_up: false,
        });
        let mut more = self.more.clone();
        let later = stream::once(async move {
            let is_wanted = more.wait_for(|more| *more).await.is_ok();
            stream::iter(vec![route; if is_wanted { 3 } else { 0 }])
        });
        let answers = stream::iter([Ok(all)]).chain(later.flatten());
        // What the edge tells is read, and says nothing.
        let heard = request.into_inner().filter_map(|_told| ready(None));
        Ok(Response::new(stream::select(answers, heard).boxed()))
    }
}

/// An edge's stream, whose keeper is the test; one message may wait for it.
struct Fixture {
    more: watch::Sender<bool>,
    told: mpsc::Receiver<Told>,
    contact: Arc<Contact>,
    tasks: Tasks,
}

impl Fixture {
    async fn new() -> Self {
        let tasks = Tasks::new();
        let more = watch::Sender::new(false);
        let orchestrator = Orchestrator {
            more: more.subscribe(),
        };
        let listener = listen::bind("127.0.0.1:0").await.unwrap();
        let address = listen::local_addr(&listener).unwrap();
        let service = Routes::new(EdgeServiceServer::new(orchestrator));
        let served = listen::serve(listener, service, tasks.stopping());
        drop(tasks.try_spawn("orchestrator", Policy::Ignore, served));
        let (routes, told) = mpsc::channel(1);
        let contact = Arc::new(Contact::new(PATIENCE));
        let watch = Watch {
            orchestrators: vec![endpoint(&format!("http://{address}")).unwrap()],
            signer: None,
            edge: "edge-1".to_owned(),
            boot: "boot".to_owned(),
            address: "127.0.0.1:1".to_owned(),
            period: Duration::from_millis(10),
            report: Arc::new(Report::new()),
            routes,
            contact: Arc::clone(&contact),
            readiness: Readiness::new(),
        };
        drop(tasks.spawn("stream", Policy::Ignore, watch.run(tasks.stopping())));
        Self {
            more,
            told,
            contact,
            tasks,
        }
    }

    /// The next time that a stream caught up: who wants to know when that is served.
    async fn caught_up(&mut self) -> oneshot::Sender<()> {
        let caught_up = async {
            loop {
                let told = self.told.recv().await.unwrap();
                if let Some(applied) = told.applied {
                    return applied;
                }
            }
        };
        timeout(SOON, caught_up).await.unwrap()
    }

    fn is_recent(&self) -> bool {
        self.contact.is_recent(Instant::now())
    }

    async fn is_heard_again(&mut self) {
        wait_until(SOON, "an orchestrator that was heard", async || {
            // As the keeper takes what comes.
            while let Ok(told) = self.told.try_recv() {
                let _ended = told.applied.map(|applied| applied.send(()));
            }
            self.is_recent()
        })
        .await;
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.tasks.stop();
        self.tasks.killed().cancel();
    }
}

#[tokio::test]
async fn an_orchestrator_is_heard_once_what_it_told_is_served() {
    let mut f = Fixture::new().await;
    let applied = f.caught_up().await;
    assert!(!f.is_recent());
    applied.send(()).unwrap();
    f.is_heard_again().await;
}

#[tokio::test]
async fn a_stream_whose_routes_are_not_taken_in_for_long_is_no_word_and_begins_anew() {
    let mut f = Fixture::new().await;
    f.caught_up().await.send(()).unwrap();
    f.is_heard_again().await;
    f.more.send_replace(true);
    wait_until(SOON, "the word to be too old", async || !f.is_recent()).await;
    // Taken in at last, that does not make it one.
    let applied = f.caught_up().await;
    assert!(!f.is_recent());
    applied.send(()).unwrap();
    f.is_heard_again().await;
}
