//! Bad input for every call that people make and for every field of it, made from the descriptors:
//! always a refusal that names the field, never a fault of ours, and nothing is written.

use std::collections::HashMap;

use bytes::{Buf as _, BufMut as _};
use candlefish_ids::{DeploymentId, EnvironmentId, ReleaseId, StepId, StopId};
use candlefish_proto::deploy as pb;
use candlefish_runtime::listen::{JUDGED, REHEARSED, VALIDATED_ONLY};
use prost::{Message as _, encoding};
use prost_types::{
    DescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use tonic::{
    Code, Response, Status, Streaming,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::MetadataMap,
};

use crate::{
    api::{Answer, Api, fields, policy},
    edge::Edge,
    sandbox::{Orchestrator, SITE, Sandbox},
};

const PACKAGE: &str = "candlefish.deploy.v1";

/// What answers an empty message: with everything.
const LISTS: [&str; 5] = [
    "ListDeployments",
    "ListEdges",
    "ListQueueItems",
    "ListSites",
    "ListStops",
];

/// Bad values that are none for their field: its call may take them.
const FREE: [(&str, &str, &str); 6] = [
    // As many as anybody wants: nothing is judged, or nothing moves, until there are so many.
    ("CreateEnvironment", "policy.min_requests", LARGEST),
    ("CreateEnvironment", "policy.min_edges", LARGEST),
    ("UpdateEnvironment", "policy.min_requests", LARGEST),
    ("UpdateEnvironment", "policy.min_edges", LARGEST),
    // Which step waits is for the state to say, not for the form.
    ("AdvanceDeployment", "step_ord", LARGEST),
    // Later than any: told by a database that was set back, so what is now is told.
    ("WatchDeployment", "after_version", LARGEST),
];
const LARGEST: &str = "the largest number";

/// A filter whose answer is empty rather than a refusal: what became of a commit *there*.
const FILTER: (&str, &str) = ("ListTriggers", "site");

/// Messages are bytes.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let length = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(length).into()))
    }
}

/// A call that people make.
struct Method {
    service: String,
    name: String,
    fields: Vec<Field>,
    /// The message that it answers.
    answers: String,
}

impl Method {
    fn acts(&self) -> bool {
        let reads = ["Get", "List", "Watch"];
        !reads.iter().any(|verb| self.name.starts_with(verb))
    }

    /// An answer that tells of something of ours.
    fn is_answered_by(&self, bytes: &[u8]) -> bool {
        match self.answers.rsplit('.').next().unwrap() {
            "Site" => pb::Site::decode(bytes).is_ok_and(|one| !one.slug.is_empty()),
            "Environment" => pb::Environment::decode(bytes).is_ok_and(|one| !one.url.is_empty()),
            "Release" => pb::Release::decode(bytes).is_ok_and(|one| !one.id.is_empty()),
            "Deployment" => pb::Deployment::decode(bytes).is_ok_and(|one| !one.id.is_empty()),
            "Rollback" => pb::Rollback::decode(bytes).is_ok_and(|one| one.to.is_some()),
            "QueueItem" => pb::QueueItem::decode(bytes).is_ok_and(|one| !one.id.is_empty()),
            "Stop" => pb::Stop::decode(bytes).is_ok_and(|one| !one.id.is_empty()),
            other => panic!("{} answers {other}", self.name),
        }
    }
}

/// A field of a request, or of a message within it.
struct Field {
    /// From the request down.
    path: String,
    /// Its numbers on the wire, likewise.
    numbers: Vec<u32>,
    kind: Type,
    /// The message or enum that it is.
    of: String,
    repeated: bool,
}

/// Every method of [`PACKAGE`] that takes one message: what takes a stream is for edges alone.
fn methods() -> Vec<Method> {
    let set = FileDescriptorSet::decode(candlefish_proto::DESCRIPTORS).unwrap();
    let mut messages = HashMap::new();
    for file in &set.file {
        for message in &file.message_type {
            let name = format!(".{}.{}", file.package(), message.name());
            messages.insert(name, message);
        }
    }
    let ours = set.file.iter().filter(|file| file.package() == PACKAGE);
    let mut methods = Vec::new();
    for service in ours.flat_map(|file| &file.service) {
        for method in &service.method {
            if method.client_streaming() {
                continue;
            }
            methods.push(Method {
                service: service.name().to_owned(),
                name: method.name().to_owned(),
                fields: fields_of(&messages, method.input_type()),
                answers: method.output_type().to_owned(),
            });
        }
    }
    assert!(methods.len() > 35, "only {} methods", methods.len());
    let streams = methods.iter().any(|one| one.name == "WatchDeployment");
    assert!(streams, "streams are tried too");
    methods
}

/// Every field of a message, and those of the messages in it.
fn fields_of(messages: &HashMap<String, &DescriptorProto>, message: &str) -> Vec<Field> {
    let mut all = Vec::new();
    for field in &messages.get(message).unwrap().field {
        let one = Field {
            path: field.name().to_owned(),
            numbers: vec![u32::try_from(field.number()).unwrap()],
            kind: field.r#type(),
            of: field.type_name().to_owned(),
            repeated: field.label() == Label::Repeated,
        };
        if one.kind == Type::Message && !one.of.starts_with(".google.") {
            for inner in fields_of(messages, &one.of) {
                all.push(Field {
                    path: format!("{}.{}", one.path, inner.path),
                    numbers: [&*one.numbers, &*inner.numbers].concat(),
                    ..inner
                });
            }
        }
        all.push(one);
    }
    all
}

/// What is put into a field.
enum Given {
    Text(String),
    Number(i64),
    Message(Vec<u8>),
}

impl Given {
    fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    /// A length of time or a moment of so many seconds.
    fn seconds(seconds: i64) -> Self {
        Self::Message(Self::Number(seconds).on_wire(&[1]))
    }

    /// The bytes that say it of the field with these numbers.
    fn on_wire(&self, numbers: &[u32]) -> Vec<u8> {
        let (last, outer) = numbers.split_last().unwrap();
        let mut bytes = Vec::new();
        match self {
            Self::Text(text) => encoding::string::encode(*last, text, &mut bytes),
            Self::Number(number) => encoding::int64::encode(*last, number, &mut bytes),
            Self::Message(message) => encoding::bytes::encode(*last, message, &mut bytes),
        }
        outer.iter().rev().fold(bytes, |inner, number| {
            let mut bytes = Vec::new();
            encoding::bytes::encode(*number, &inner, &mut bytes);
            bytes
        })
    }
}

/// What a field cannot have, and what that is called.
fn bad(field: &Field) -> Vec<(&'static str, Given)> {
    match field.kind {
        Type::String => {
            let mut all = vec![
                ("100 kB", Given::Text("a".repeat(100_000))),
                ("a NUL", Given::text("a\0b")),
            ];
            if field.path == "id" || field.path.ends_with("_id") {
                let other = EnvironmentId::new().to_string();
                all.push(("the id of something else", Given::Text(other)));
            }
            all
        }
        Type::Int32 => vec![
            ("-1", Given::Number(-1)),
            (LARGEST, Given::Number(i32::MAX.into())),
        ],
        Type::Int64 => vec![
            ("-1", Given::Number(-1)),
            (LARGEST, Given::Number(i64::MAX)),
        ],
        Type::Enum => vec![("a number without a name", Given::Number(999))],
        Type::Message if field.of == ".google.protobuf.Timestamp" => {
            vec![("after the end of time", Given::seconds(i64::MAX))]
        }
        Type::Message if field.of == ".google.protobuf.Duration" => vec![
            ("less than no time", Given::seconds(-1)),
            ("all time", Given::seconds(i64::MAX)),
        ],
        // Of the messages in it, every field has its own turn.
        Type::Message | Type::Bool => Vec::new(),
        other => panic!("{}: nothing bad is known of {other:?}", field.path),
    }
}

/// A bad message of a method.
struct Case {
    path: String,
    what: &'static str,
    /// The bad field alone: behind a good message its value stands, for the last one does.
    bytes: Vec<u8>,
}

fn cases(method: &Method) -> Vec<Case> {
    let mut all = Vec::new();
    for field in &method.fields {
        let case = |what, bytes| Case {
            path: field.path.clone(),
            what,
            bytes,
        };
        for (what, given) in bad(field) {
            all.push(case(what, given.on_wire(&field.numbers)));
        }
        if field.repeated {
            let one = match field.kind {
                Type::String => Given::text("?"),
                _ => Given::Number(-1),
            };
            let many = one.on_wire(&field.numbers).repeat(1_000);
            all.push(case("a thousand", many));
        }
    }
    all
}

/// A name of nothing that exists; none for a field that names nothing.
fn unknown(service: &str, field: &str) -> Option<Given> {
    let id = match (field, service) {
        ("id", "DeploymentService") => DeploymentId::new().to_string(),
        ("id", "QueueService") => StepId::new().to_string(),
        ("id", "StopService") => StopId::new().to_string(),
        ("id", "ReleaseService") | ("release_id" | "to_release_id" | "leaves_release_id", _) => {
            ReleaseId::new().to_string()
        }
        ("site" | "environment", _) => "nowhere".to_owned(),
        ("to_commit", _) => "f".repeat(40),
        _ => return None,
    };
    Some(Given::Text(id))
}

/// A site with a live release.
struct World {
    sandbox: Sandbox,
    _orchestrator: Orchestrator,
    _edge: Edge,
    api: Api,
    release: String,
    deployment: String,
    tomorrow: i64,
}

impl World {
    async fn new() -> Self {
        let (sandbox, orchestrator, edge, api) = Sandbox::started().await;
        api.create_environment("production", policy()).await;
        let release = sandbox.release(&api, "one").await;
        let tomorrow = "SELECT extract(epoch FROM clock())::bigint + 86400";
        Self {
            deployment: api.deploy_whole("production", &release).await.id,
            tomorrow: sandbox.number(tomorrow).await,
            release,
            sandbox,
            _orchestrator: orchestrator,
            _edge: edge,
            api,
        }
    }

    /// What makes a message of a service good; a field that is not here stays unset.
    fn good(&self, service: &str, field: &str) -> Option<Given> {
        Some(match field {
            "site" => Given::text(SITE),
            "environment" => Given::text("production"),
            "slug" => Given::text("another"),
            "name" => Given::text("Another"),
            "reason" => Given::text("a test"),
            "commit" => Given::Text("c".repeat(40)),
            "manifest_digest" => Given::Text("d".repeat(64)),
            "manifest_size" | "step_ord" => Given::Number(100),
            "release_id" => Given::text(&self.release),
            "id" if service == "DeploymentService" => Given::text(&self.deployment),
            "id" if service == "ReleaseService" => Given::text(&self.release),
            "id" => unknown(service, field)?,
            // A rollback that is only told of.
            "validate_only" => Given::Number(1),
            "until" => Given::seconds(self.tomorrow),
            // All defaults.
            "policy" => Given::Message(Vec::new()),
            _ => return None,
        })
    }

    fn good_message(&self, method: &Method) -> Vec<u8> {
        let own = method.fields.iter().filter(|one| one.numbers.len() == 1);
        let set = own.filter_map(|field| {
            let given = self.good(&method.service, &field.path)?;
            Some(given.on_wire(&field.numbers))
        });
        set.flatten().collect()
    }

    async fn call(&self, method: &Method, message: Vec<u8>) -> Answer<()> {
        self.call_below("", method, message).await
    }

    async fn call_below(&self, root: &str, method: &Method, message: Vec<u8>) -> Answer<()> {
        let answer = self.answer(root, method, message).await?;
        answer.into_inner().message().await.map(|_first| ())
    }

    /// What a rehearsal answers; it says that nothing was done.
    async fn rehearse(&self, method: &Method, message: Vec<u8>) -> Answer<Vec<u8>> {
        let mark = |metadata: &MetadataMap| metadata.get(VALIDATED_ONLY).is_some();
        let answer = self.answer(REHEARSED, method, message).await;
        let marked = match &answer {
            Ok(answer) => mark(answer.metadata()),
            Err(status) => mark(status.metadata()),
        };
        assert!(marked, "{}", method.name);
        let first = answer?.into_inner().message().await?;
        Ok(first.unwrap_or_default())
    }

    async fn answer(
        &self,
        root: &str,
        method: &Method,
        message: Vec<u8>,
    ) -> Answer<Response<Streaming<Vec<u8>>>> {
        let mut grpc = Grpc::new(self.api.channel.clone());
        grpc.ready().await.unwrap();
        let path = format!("{root}/{PACKAGE}.{}/{}", method.service, method.name);
        let path = path.parse().unwrap();
        let request = self.api.request(message);
        // To a client one message is a stream of one.
        grpc.server_streaming(request, path, Raw).await
    }

    /// The good message of a method with one field changed.
    async fn call_with(&self, method: &Method, field: &[u8]) -> Answer<()> {
        let message = [&*self.good_message(method), field].concat();
        self.call(method, message).await
    }

    async fn picture(&self) -> Vec<(String, i64)> {
        picture(&self.sandbox).await
    }
}

/// The rows of every table but those that edges fill, and every number that a change raises.
pub(crate) async fn picture(sandbox: &Sandbox) -> Vec<(String, i64)> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT table_name::text FROM information_schema.tables
         WHERE table_schema = current_schema() AND table_name NOT LIKE 'edge%' ORDER BY 1",
    )
    .fetch_all(&sandbox.pool)
    .await
    .unwrap();
    assert!(tables.len() > 30, "{tables:?}");
    let count = |table: &String| format!("SELECT count(*) FROM {table}");
    let mut questions: Vec<String> = tables.iter().map(count).collect();
    for (table, number) in [
        ("site", "version"),
        ("environment", "version"),
        ("lane", "fence"),
        ("deployment", "version"),
        ("route", "version"),
    ] {
        questions.push(format!(
            "SELECT coalesce(sum({number}), 0)::bigint FROM {table}"
        ));
    }
    let mut picture = Vec::new();
    for question in questions {
        let number = sandbox.number(&question).await;
        picture.push((question, number));
    }
    picture
}

/// It is the request's fault, and the answer names this field of it.
fn names(answer: &Answer<()>, path: &str) -> bool {
    let within = |name: &String| {
        let rest = name.strip_prefix(path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let Err(status) = answer else { return false };
    status.code() == Code::InvalidArgument && fields(status).iter().any(within)
}

/// There is no such thing, and the answer says which field named it.
fn is_not_found_by(answer: &Answer<()>, path: &str) -> bool {
    answer.as_ref().is_err_and(|status| {
        status.code() == Code::NotFound && fields(status).iter().any(|name| name == path)
    })
}

fn code(answer: &Answer<()>) -> Code {
    answer.as_ref().map_or_else(Status::code, |_done| Code::Ok)
}

/// One line for the list of what was answered wrongly.
fn shown(method: &Method, what: &str, answer: &Answer<()>) -> String {
    let (words, named) = match answer {
        Ok(()) => (String::new(), Vec::new()),
        Err(status) => (format!("{:.100}", status.message()), fields(status)),
    };
    let (name, code) = (&method.name, code(answer));
    let named: Vec<&String> = named.iter().take(5).collect();
    format!("{name} {what}: {code:?} {words:?} names {named:?}")
}

#[tokio::test]
async fn an_empty_message_asks_for_everything_or_is_refused_by_its_fields() {
    let world = World::new().await;
    let before = world.picture().await;
    let mut wrong = Vec::new();
    for method in methods() {
        let answer = world.call(&method, Vec::new()).await;
        let right = if LISTS.contains(&&*method.name) {
            answer.is_ok()
        } else {
            method
                .fields
                .iter()
                .any(|field| names(&answer, &field.path))
        };
        if !right {
            wrong.push(shown(&method, "of nothing", &answer));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(world.picture().await, before);
}

#[tokio::test]
async fn what_no_field_takes_is_refused_by_the_fields_name_and_writes_nothing() {
    let (world, methods) = (World::new().await, methods());
    let before = world.picture().await;
    let (mut tried, mut wrong, mut free) = (0, Vec::new(), Vec::new());
    for method in &methods {
        for case in cases(method) {
            if FREE.contains(&(&*method.name, &*case.path, case.what)) {
                free.push((method, case));
                continue;
            }
            let answer = world.call_with(method, &case.bytes).await;
            if !names(&answer, &case.path) {
                let what = format!("{} of {}", case.path, case.what);
                wrong.push(shown(method, &what, &answer));
            }
            tried += 1;
        }
    }
    assert!(wrong.is_empty(), "{} of {tried}: {wrong:#?}", wrong.len());
    assert!(tried > 250, "{tried}");
    assert_eq!(world.picture().await, before);
    // Last, for these may write.
    assert_eq!(free.len(), FREE.len());
    for (method, case) in free {
        let answer = world.call_with(method, &case.bytes).await;
        // The second one made finds the first one there.
        let taken = [Code::Ok, Code::AlreadyExists, Code::FailedPrecondition];
        assert!(
            taken.contains(&code(&answer)),
            "{}",
            shown(method, &case.path, &answer)
        );
    }
}

#[tokio::test]
async fn what_is_only_judged_is_refused_by_the_same_fields_and_never_acts() {
    let (world, methods) = (World::new().await, methods());
    let before = world.picture().await;
    let act = methods.iter().filter(|method| method.acts());
    let is_judged = |answer: &Answer<()>| {
        answer.as_ref().is_err_and(|status| {
            status.code() == Code::FailedPrecondition && status.message().contains("only judged")
        })
    };
    let (mut tried, mut later, mut wrong) = (0, 0, Vec::new());
    for method in act {
        let good = world.good_message(method);
        let answer = world.call_below(JUDGED, method, good.clone()).await;
        if !is_judged(&answer) {
            wrong.push(shown(method, "of a good message", &answer));
        }
        for case in cases(method) {
            if FREE.contains(&(&*method.name, &*case.path, case.what)) {
                continue;
            }
            let message = [&*good, &*case.bytes].concat();
            let answer = world.call_below(JUDGED, method, message).await;
            if is_judged(&answer) {
                // Only its command would find it, in its transaction.
                later += 1;
            } else if !names(&answer, &case.path) {
                let what = format!("{} of {}", case.path, case.what);
                wrong.push(shown(method, &what, &answer));
            }
            tried += 1;
        }
    }
    assert!(wrong.is_empty(), "{} of {tried}: {wrong:#?}", wrong.len());
    assert!(tried > 100 && later * 10 < tried, "{later} of {tried}");
    assert_eq!(world.picture().await, before);
}

#[tokio::test]
async fn what_is_only_rehearsed_answers_as_the_real_call_and_never_acts() {
    let (world, methods) = (World::new().await, methods());
    let before = world.picture().await;
    let (mut done, mut refused, mut not_rehearsed) = (0, Vec::new(), Vec::new());
    for method in methods.iter().filter(|method| method.acts()) {
        let message = world.good_message(method);
        match world.rehearse(method, message.clone()).await {
            Ok(answer) => {
                assert!(method.is_answered_by(&answer), "{}", method.name);
                done += 1;
            }
            Err(status) if status.code() == Code::Unimplemented => {
                not_rehearsed.push(&*method.name);
            }
            Err(status) => refused.push((method, message, status)),
        }
        assert_eq!(world.picture().await, before, "{} acted", method.name);
    }
    assert_eq!(not_rehearsed, ["SealRelease"]);
    assert!(done >= 8, "only {done} were carried out");
    assert!(refused.len() >= 4, "only {} were refused", refused.len());
    for (method, message, rehearsed) in refused {
        let real = world.call(method, message).await.unwrap_err();
        let told = |status: &Status| (status.code(), status.message().to_owned());
        assert_eq!(told(&rehearsed), told(&real), "{}", method.name);
        assert_eq!(fields(&rehearsed), fields(&real), "{}", method.name);
    }
    assert_eq!(world.picture().await, before);
}

#[tokio::test]
async fn what_is_named_and_does_not_exist_is_not_found_and_nothing_is_written() {
    let world = World::new().await;
    let before = world.picture().await;
    let (mut tried, mut wrong) = (0, Vec::new());
    for method in methods() {
        for field in method.fields.iter().filter(|one| one.numbers.len() == 1) {
            let Some(name) = unknown(&method.service, &field.path) else {
                continue;
            };
            let name = name.on_wire(&field.numbers);
            let answer = world.call_with(&method, &name).await;
            let right = if FILTER == (&*method.name, &*field.path) {
                answer.is_ok()
            } else {
                is_not_found_by(&answer, &field.path) || names(&answer, &field.path)
            };
            if !right {
                let what = format!("{} of nothing that exists", field.path);
                wrong.push(shown(&method, &what, &answer));
            }
            tried += 1;
        }
    }
    assert!(wrong.is_empty(), "{} of {tried}: {wrong:#?}", wrong.len());
    assert!(tried > 40, "{tried}");
    assert_eq!(world.picture().await, before);
}

#[tokio::test]
async fn what_is_wrong_and_what_is_not_there_are_named_in_one_answer() {
    let world = World::new().await;
    let api = &world.api;
    let before = world.picture().await;
    let nowhere = ReleaseId::new().to_string();
    let falling = pb::Strategy {
        kind: Some(pb::strategy::Kind::Canary(pb::Canary {
            weights: vec![60, 50],
            ..pb::Canary::default()
        })),
    };
    let weight = "strategy.canary.weights[1]";
    let all = api.create("prod", &nowhere, Some(falling.clone())).await;
    let all = all.unwrap_err();
    assert_eq!(all.code(), Code::InvalidArgument);
    assert_eq!(fields(&all), [weight, "environment", "release_id"]);
    // The form alone, and what is not there alone.
    let form = api.create("production", &world.release, Some(falling.clone()));
    assert_eq!(fields(&form.await.unwrap_err()), [weight]);
    let absent = api.create("prod", &nowhere, None).await.unwrap_err();
    assert_eq!(absent.code(), Code::NotFound);
    assert_eq!(fields(&absent), ["environment", "release_id"]);
    // Whoever may not see the site learns nothing of what is in it.
    let stranger = api.seeing(&["other"]);
    let unseen = stranger.create("prod", &nowhere, Some(falling)).await;
    assert_eq!(fields(&unseen.unwrap_err()), [weight, "site"]);

    let back = api.request(pb::CreateRollbackRequest {
        site: SITE.to_owned(),
        environment: "prod".to_owned(),
        to_commit: "main".to_owned(),
        ..pb::CreateRollbackRequest::default()
    });
    let back = api.deployments().create_rollback(back).await.unwrap_err();
    assert_eq!(fields(&back), ["to_commit", "environment"]);
    let list = api.request(pb::ListDeploymentsRequest {
        site: SITE.to_owned(),
        environment: "prod".to_owned(),
        page_size: 900,
        ..pb::ListDeploymentsRequest::default()
    });
    let list = api.deployments().list_deployments(list).await.unwrap_err();
    assert_eq!(fields(&list), ["page_size", "environment"]);
    assert_eq!(world.picture().await, before);
}
