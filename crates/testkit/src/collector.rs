//! An OTLP collector in the test's process: what was exported, as it arrived.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status, transport::Server};

/// One exported span and the service that sent it.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// `service.name` of its resource.
    pub service: String,
    /// The span as OTLP has it.
    pub span: opentelemetry_proto::tonic::trace::v1::Span,
}

/// Receives spans until it is dropped.
#[derive(Debug)]
pub struct Collector {
    addr: SocketAddr,
    sink: Sink,
    _running: DropGuard,
}

#[derive(Debug, Clone, Default)]
struct Sink {
    spans: Arc<Mutex<Vec<Span>>>,
    refusing: Arc<std::sync::atomic::AtomicBool>,
}

impl Collector {
    /// Starts on a free port.
    #[expect(clippy::disallowed_methods, reason = "tests have no process shell")]
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let sink = Sink::default();
        let stop = CancellationToken::new();
        let served = Server::builder()
            .add_service(TraceServiceServer::new(sink.clone()))
            .serve_with_incoming_shutdown(
                TcpListenerStream::new(listener),
                stop.clone().cancelled_owned(),
            );
        drop(tokio::spawn(async move { served.await.unwrap() }));
        Self {
            addr,
            sink,
            _running: stop.drop_guard(),
        }
    }

    /// For `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What arrived so far.
    pub fn spans(&self) -> Vec<Span> {
        self.sink.spans.lock().unwrap().clone()
    }

    /// Refuses everything, or takes it again.
    pub fn refuse(&self, refusing: bool) {
        self.sink
            .refusing
            .store(refusing, std::sync::atomic::Ordering::SeqCst);
    }
}

#[tonic::async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        if self.refusing.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(Status::unavailable("the test refuses"));
        }
        let mut spans = self.spans.lock().unwrap();
        for resource in request.into_inner().resource_spans {
            let service = resource
                .resource
                .iter()
                .flat_map(|resource| &resource.attributes)
                .find(|attribute| attribute.key == "service.name")
                .map(|attribute| format!("{:?}", attribute.value))
                .unwrap_or_default();
            for span in resource
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans)
            {
                spans.push(Span {
                    service: service.clone(),
                    span,
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
