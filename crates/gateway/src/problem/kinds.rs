//! Every kind of problem: its code, its HTTP status, and what to do about it.

use http::StatusCode;
use tonic::Code;

/// One kind of problem; also a page under `/problems/`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// In a problem's body.
    pub(crate) code: &'static str,
    /// In a problem's type.
    pub(crate) slug: &'static str,
    pub(crate) status: StatusCode,
    pub(crate) title: &'static str,
    /// What it means.
    pub(crate) about: &'static str,
    /// What to do next.
    pub(crate) next: &'static str,
}

impl Kind {
    /// How whoever gets a 401 may prove who they are.
    pub(crate) fn challenge(&self) -> &'static str {
        if *self == SIGNATURE_INVALID {
            "HMAC-SHA256 realm=\"candlefish\""
        } else {
            "Bearer realm=\"candlefish\""
        }
    }
}

macro_rules! kinds {
    ($($name:ident = $code:literal, $slug:literal, $status:ident, $title:literal, $about:literal, $next:literal;)*) => {
        $(
            pub(crate) static $name: Kind = Kind {
                code: $code,
                slug: $slug,
                status: StatusCode::$status,
                title: $title,
                about: $about,
                next: $next,
            };
        )*

        /// All of them, in the order of their pages.
        pub(crate) static ALL: &[&Kind] = &[$(&$name),*];
    };
}

kinds! {
    INVALID_ARGUMENT = "INVALID_ARGUMENT", "invalid-argument", BAD_REQUEST,
        "The request is wrong",
        "Something in the request is wrong, whatever the state of things. `errors` names every bad field by its path in the request.",
        "Correct the named fields; the same request will fail again.";
    UNAUTHENTICATED = "UNAUTHENTICATED", "unauthenticated", UNAUTHORIZED,
        "Who is calling?",
        "The request carries no token, or one that is not known, has expired or was revoked.",
        "Send `Authorization: Bearer cft_…` with a token that works; an admin makes one with `POST /v1/tokens`.";
    SIGNATURE_INVALID = "SIGNATURE_INVALID", "signature-invalid", UNAUTHORIZED,
        "Not signed by whom we know",
        "A webhook's delivery must be signed with the secret that its sender shares with this gateway: `X-Hub-Signature-256` is the HMAC-SHA256 of the raw body.",
        "Set the webhook's secret and the gateway's `CANDLEFISH_GITHUB_WEBHOOK_SECRET` to the same text, then deliver it again.";
    PERMISSION_DENIED = "PERMISSION_DENIED", "permission-denied", FORBIDDEN,
        "Not allowed",
        "The token works, but its role is too low for the call, or for a field of it, and the problem names the role that is needed; or what is asked for reaches beyond the token's sites.",
        "Ask somebody who holds that role, or whose token is for those sites.";
    NOT_FOUND = "NOT_FOUND", "not-found", NOT_FOUND,
        "Not there",
        "There is nothing of this name, or nothing that this token may see.",
        "Look at the list that it should be in; `/openapi.json` lists all paths.";
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED", "method-not-allowed", METHOD_NOT_ALLOWED,
        "Another method is needed",
        "The path exists, but not with this HTTP method; the header `Allow` lists those that it takes.",
        "Use one of the listed methods.";
    ALREADY_EXISTS = "ALREADY_EXISTS", "already-exists", CONFLICT,
        "Already there",
        "What should be made exists already.",
        "Use the one that exists, or another name.";
    FAILED_PRECONDITION = "FAILED_PRECONDITION", "failed-precondition", CONFLICT,
        "Not in this state",
        "The request is right, but the state of what it names forbids it. The problem names the state and what works now.",
        "Do first what the problem names; then the same request may succeed.";
    ABORTED = "ABORTED", "aborted", CONFLICT,
        "Somebody was faster",
        "Another call changed the same thing at the same time.",
        "Read it again, and repeat the call when it still makes sense.";
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED", "idempotency-key-reused", UNPROCESSABLE_ENTITY,
        "The idempotency key belongs to another request",
        "The same `Idempotency-Key` was sent within 24 hours with another message.",
        "Use a new key for a new request; keep the key only to repeat the very same one.";
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE", "payload-too-large", PAYLOAD_TOO_LARGE,
        "Too large",
        "The body is larger than this call takes; the problem names the limit.",
        "Send less at once.";
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE", "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE,
        "Not JSON",
        "Bodies are JSON and say so with `Content-Type: application/json`.",
        "Send the header; with curl: `--json '{…}'`.";
    HEADERS_TOO_LARGE = "HEADERS_TOO_LARGE", "headers-too-large", REQUEST_HEADER_FIELDS_TOO_LARGE,
        "The headers are too large",
        "The request's headers together are larger than this server reads.",
        "Send fewer or smaller headers.";
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED", "resource-exhausted", TOO_MANY_REQUESTS,
        "A limit is reached",
        "A limit of the platform or of the caller is reached; the problem names it.",
        "Wait as long as `Retry-After` says, do what the problem names, or ask for less.";
    UNIMPLEMENTED = "UNIMPLEMENTED", "unimplemented", NOT_IMPLEMENTED,
        "Not there yet",
        "The service behind the gateway does not know this call; during an upgrade, an older one may answer. Or the call cannot be rehearsed, as `Candlefish-Validate-Only` asked, and nothing was done.",
        "Repeat it after the upgrade, or without that header.";
    UNAVAILABLE = "UNAVAILABLE", "unavailable", SERVICE_UNAVAILABLE,
        "Not now",
        "A part of the platform does not answer right now.",
        "Repeat the call after `Retry-After`; with the same `Idempotency-Key` that is always safe.";
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED", "deadline-exceeded", GATEWAY_TIMEOUT,
        "It took too long",
        "The call did not end within its deadline. It may still have taken effect.",
        "Look whether it did, or repeat it with the same `Idempotency-Key`.";
    CANCELLED = "CANCELLED", "cancelled", BAD_REQUEST,
        "Cancelled",
        "The caller ended the call before it was answered.",
        "Nothing, when that was meant.";
    INTERNAL = "INTERNAL", "internal", INTERNAL_SERVER_ERROR,
        "Our fault",
        "Something failed inside Candlefish. It was logged under the request's id.",
        "Quote the `request_id` to whoever runs the platform.";
}

/// The one table from gRPC statuses to HTTP.
pub(crate) fn of(code: Code, reason: &str) -> &'static Kind {
    if reason == "idempotency-key-reused" {
        return &IDEMPOTENCY_KEY_REUSED;
    }
    match code {
        Code::InvalidArgument | Code::OutOfRange => &INVALID_ARGUMENT,
        Code::Unauthenticated => &UNAUTHENTICATED,
        Code::PermissionDenied => &PERMISSION_DENIED,
        Code::NotFound => &NOT_FOUND,
        Code::AlreadyExists => &ALREADY_EXISTS,
        Code::FailedPrecondition => &FAILED_PRECONDITION,
        Code::Aborted => &ABORTED,
        Code::ResourceExhausted => &RESOURCE_EXHAUSTED,
        Code::Unimplemented => &UNIMPLEMENTED,
        Code::Unavailable => &UNAVAILABLE,
        Code::DeadlineExceeded => &DEADLINE_EXCEEDED,
        Code::Cancelled => &CANCELLED,
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => &INTERNAL,
    }
}

/// By the last part of its page's path.
pub(crate) fn by_slug(slug: &str) -> Option<&'static Kind> {
    ALL.iter().copied().find(|kind| kind.slug == slug)
}
