//! What a visitor gets from one release.

use candlefish_manifest::digest_of;
use candlefish_testkit::wait_until;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{
    sandbox::{HOST, SOON, Sandbox, route},
    visitor::{parse, send},
};

const SITE: [(&str, &str); 7] = [
    ("index.html", "home"),
    ("about.html", "about"),
    ("guide/index.html", "guide"),
    ("404.html", "own 404"),
    ("style.css", "body{}"),
    ("app.3f2a9c1b.js", "app"),
    ("a b/ü.txt", "odd name"),
];

#[tokio::test]
async fn urls_lead_to_files() {
    let (_sandbox, _edge, visitor, release) = Sandbox::serving(&SITE).await;
    for (path, text, kind) in [
        ("/", "home", "text/html; charset=utf-8"),
        ("/index.html", "home", "text/html; charset=utf-8"),
        ("/?q=1", "home", "text/html; charset=utf-8"),
        ("/about", "about", "text/html; charset=utf-8"),
        ("/about.html", "about", "text/html; charset=utf-8"),
        ("/guide/", "guide", "text/html; charset=utf-8"),
        ("/guide/index.html", "guide", "text/html; charset=utf-8"),
        ("/style.css", "body{}", "text/css; charset=utf-8"),
        ("/a%20b/%C3%BC.txt", "odd name", "text/plain; charset=utf-8"),
    ] {
        let answer = visitor.get(path).await;
        assert_eq!((answer.status, answer.text()), (200, text), "{path}");
        assert_eq!(answer.header("content-type"), kind, "{path}");
        assert_eq!(answer.header("candlefish-release"), release.id);
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("content-length"), text.len().to_string());
        assert_eq!(answer.header("set-cookie"), "");
        assert_eq!(answer.header("x-robots-tag"), "");
    }
    let missing = visitor.get("/nothing").await;
    assert_eq!((missing.status, missing.text()), (404, "own 404"));
    assert_eq!(missing.header("candlefish-release"), release.id);
    assert_eq!(missing.header("etag"), "");
}

#[tokio::test]
async fn a_page_has_one_address() {
    let mut site = SITE.to_vec();
    site.extend([
        ("über uns/index.html", "about us"),
        ("both.html", "page"),
        ("both/index.html", "folder"),
    ]);
    let (sandbox, edge, visitor, release) = Sandbox::serving(&site).await;
    for (sent, location) in [
        ("/guide", "/guide/"),
        ("/guide?a=%20b&c", "/guide/?a=%20b&c"),
        ("/%67uide", "/%67uide/"),
        ("/%C3%BCber%20uns", "/%C3%BCber%20uns/"),
        ("/about/", "/about"),
        ("/about/?q", "/about?q"),
        ("/about%2f", "/about"),
    ] {
        for method in ["GET", "HEAD"] {
            let moved = visitor.ask(method, sent, &[]).await;
            assert_eq!(
                (moved.status, moved.header("location"), moved.body.len()),
                (301, location, 0),
                "{method} {sent}"
            );
            assert_eq!(
                moved.header("cache-control"),
                "public, max-age=0, must-revalidate",
                "the next release may have another page"
            );
            assert_eq!(moved.header("candlefish-release"), release.id);
        }
        assert_eq!(visitor.get(location).await.status, 200, "{location}");
    }
    assert_eq!(visitor.get("/both").await.text(), "page");
    assert_eq!(visitor.get("/both/").await.text(), "folder");
    for path in [
        "//guide",
        "/%2Fguide",
        "/%5Cguide",
        "//about/",
        "/guide//",
        "/about//",
        "/style.css/",
    ] {
        let answer = visitor.get(path).await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (404, ""),
            "{path}"
        );
    }
    let mut preview = route(2, &[(&release, 100)]);
    preview.noindex = true;
    sandbox.apply(&edge, preview).await;
    let moved = visitor.get("/guide").await;
    assert_eq!(
        (moved.status, moved.header("x-robots-tag")),
        (301, "noindex")
    );
}

#[tokio::test]
async fn hashed_names_are_kept_for_ever_and_others_are_asked_again() {
    let (_sandbox, _edge, visitor, _) = Sandbox::serving(&SITE).await;
    let caching = async |path| visitor.get(path).await.header("cache-control").to_owned();
    assert_eq!(
        caching("/app.3f2a9c1b.js").await,
        "public, max-age=31536000, immutable"
    );
    assert_eq!(
        caching("/style.css").await,
        "public, max-age=0, must-revalidate"
    );
    assert_eq!(caching("/").await, "public, max-age=0, must-revalidate");
    assert_eq!(
        caching("/nothing").await,
        "public, max-age=0, must-revalidate"
    );
}

#[tokio::test]
async fn who_has_it_is_told_so() {
    let (_sandbox, _edge, visitor, _) = Sandbox::serving(&SITE).await;
    let first = visitor.get("/style.css").await;
    let etag = first.header("etag").to_owned();
    assert_eq!(etag, format!("\"{}\"", digest_of(b"body{}")));
    let again = visitor
        .get_with("/style.css", &[("if-none-match", &etag)])
        .await;
    assert_eq!((again.status, again.body.len()), (304, 0));
    assert_eq!(again.header("etag"), etag);
    assert_eq!(again.header("cache-control"), first.header("cache-control"));
    assert_eq!(again.header("content-type"), "");
    let other = visitor
        .get_with("/style.css", &[("if-none-match", "\"x\"")])
        .await;
    assert_eq!(other.status, 200);
    let wants = async |tag: &str| {
        let headers = [("if-match", tag), ("range", "bytes=0-1")];
        let answer = visitor.get_with("/style.css", &headers).await;
        let kept = answer.header("cache-control").to_owned();
        (answer.status, answer.body.len(), kept)
    };
    let kept = first.header("cache-control").to_owned();
    assert_eq!(wants(etag.as_str()).await, (206, 2, kept.clone()));
    assert_eq!(
        wants("\"of the release before\"").await,
        (412, 0, kept),
        "a download that goes on gets no bytes of another file"
    );
}

#[tokio::test]
async fn head_says_what_get_would_and_other_methods_are_refused() {
    let (_sandbox, _edge, visitor, _) = Sandbox::serving(&SITE).await;
    let get = visitor.get("/").await;
    let head = visitor.ask("HEAD", "/", &[]).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    for name in [
        "content-length",
        "content-type",
        "etag",
        "cache-control",
        "candlefish-release",
    ] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
    let missing = visitor.ask("HEAD", "/nothing", &[]).await;
    assert_eq!((missing.status, missing.body.len()), (404, 0));
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let refused = visitor.ask(method, "/", &[("content-length", "0")]).await;
        assert_eq!(
            (refused.status, refused.header("allow")),
            (405, "GET, HEAD"),
            "{method}"
        );
    }
}

#[tokio::test]
async fn parts_are_served() {
    let large = "abcdefghijklmnopqrstuvwxyz".repeat(20_000);
    let site = [("small.txt", "0123456789"), ("large.bin", large.as_str())];
    let (_sandbox, _edge, visitor, _) = Sandbox::serving(&site).await;
    let etag = visitor.get("/small.txt").await.header("etag").to_owned();
    assert_eq!(visitor.get("/large.bin").await.body, large.as_bytes());
    for (path, range, content_range, text) in [
        ("/small.txt", "bytes=2-4", "bytes 2-4/10", "234"),
        ("/small.txt", "bytes=-2", "bytes 8-9/10", "89"),
        ("/small.txt", "bytes=7-", "bytes 7-9/10", "789"),
        (
            "/large.bin",
            "bytes=300000-300003",
            "bytes 300000-300003/520000",
            &large[300_000..300_004],
        ),
    ] {
        let part = visitor.get_with(path, &[("range", range)]).await;
        assert_eq!((part.status, part.text()), (206, text), "{range}");
        assert_eq!(part.header("content-range"), content_range);
        assert_eq!(part.header("content-length"), text.len().to_string());
    }
    let outside = visitor
        .get_with("/small.txt", &[("range", "bytes=10-")])
        .await;
    assert_eq!(
        (outside.status, outside.header("content-range")),
        (416, "bytes */10")
    );
    assert_eq!(
        outside.header("cache-control"),
        "public, max-age=0, must-revalidate"
    );
    for (range, if_range, status) in [
        ("bytes=0-1", etag.as_str(), 206),
        ("bytes=0-1", "\"other\"", 200),
        ("bytes=0-1,3-4", etag.as_str(), 200),
    ] {
        let headers = [("range", range), ("if-range", if_range)];
        assert_eq!(
            visitor.get_with("/small.txt", &headers).await.status,
            status,
            "{if_range}"
        );
    }
}

#[tokio::test]
async fn texts_are_compressed_for_who_takes_it() {
    let text = "<p>candlefish</p>\n".repeat(500);
    let site = [
        ("index.html", text.as_str()),
        ("tiny.html", "tiny"),
        ("pixel.png", text.as_str()),
    ];
    let (_sandbox, _edge, visitor, _) = Sandbox::serving(&site).await;
    let with = async |path: &str, accept: &str| {
        visitor.get_with(path, &[("accept-encoding", accept)]).await
    };
    wait_until(SOON, "compressed forms", async || {
        with("/", "br").await.header("content-encoding") == "br"
    })
    .await;
    wait_until(SOON, "both forms", async || {
        with("/", "gzip").await.header("content-encoding") == "gzip"
    })
    .await;
    let (plain, gzip, brotli) = (
        with("/", "identity").await,
        with("/", "gzip").await,
        with("/", "br, gzip").await,
    );
    assert_eq!(plain.text(), text);
    assert_eq!(brotli.header("content-encoding"), "br");
    let mut etags = Vec::new();
    for answer in [&plain, &gzip, &brotli] {
        assert_eq!(answer.header("vary"), "accept-encoding");
        assert_eq!(
            answer.header("content-length"),
            answer.body.len().to_string()
        );
        etags.push(answer.header("etag").to_owned());
    }
    etags.dedup();
    assert_eq!(etags.len(), 3, "each form has a tag of its own");
    let mut decoded = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&*gzip.body), &mut decoded)
        .unwrap();
    assert_eq!(decoded, text);
    let tagged = [
        ("accept-encoding", "br"),
        ("if-none-match", brotli.header("etag")),
    ];
    assert_eq!(visitor.get_with("/", &tagged).await.status, 304);
    let part = [("accept-encoding", "br"), ("range", "bytes=0-2")];
    let part = visitor.get_with("/", &part).await;
    assert_eq!(
        (part.status, part.text(), part.header("content-encoding")),
        (206, "<p>", "")
    );
    assert_eq!(with("/tiny", "br").await.header("content-encoding"), "");
    let image = with("/pixel.png", "br").await;
    assert_eq!(
        (image.header("content-encoding"), image.header("vary")),
        ("", "")
    );
}

#[tokio::test]
async fn hosts_that_serve_nothing_say_so() {
    let (sandbox, edge, visitor, release) = Sandbox::serving(&SITE).await;
    let unknown = edge.visitor("<b>.localhost").get("/").await;
    assert_eq!(unknown.status, 404);
    assert!(
        unknown
            .text()
            .contains("No site is served at &lt;b&gt;.localhost."),
        "{}",
        unknown.text()
    );
    assert_eq!(unknown.header("candlefish-release"), "");
    // An orchestrator takes a 404 for the release's fault, and this for the edge's, which it asks again.
    let probe = edge.visitor("unheard.localhost");
    let probe = probe.get_with("/", &[("candlefish-probe", "verify")]).await;
    assert_eq!(probe.status, 421);
    assert_eq!(
        edge.visitor("DOCS.localhost.:8080").get("/").await.text(),
        "home"
    );
    sandbox.apply(&edge, route(2, &[])).await;
    let taken = visitor.get("/").await;
    assert_eq!(taken.status, 404);
    assert!(
        taken
            .text()
            .contains("Nothing is live at docs.localhost now."),
        "{}",
        taken.text()
    );
    sandbox.apply(&edge, route(3, &[(&release, 0)])).await;
    assert_eq!(
        visitor.get("/").await.status,
        404,
        "staged, without traffic"
    );
    let mut hidden = route(4, &[(&release, 100)]);
    hidden.noindex = true;
    sandbox.apply(&edge, hidden).await;
    assert_eq!(visitor.get("/").await.header("x-robots-tag"), "noindex");
    let mut closed = route(5, &[]);
    closed.noindex = true;
    sandbox.apply(&edge, closed).await;
    let closed = visitor.get("/").await;
    assert_eq!(
        (closed.status, closed.header("x-robots-tag")),
        (404, "noindex")
    );
}

#[tokio::test]
async fn hostile_requests_get_a_plain_no() {
    let (_sandbox, edge, visitor, _) = Sandbox::serving(&SITE).await;
    for path in [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/a/..%5c..%5cx",
        "/%c0%ae%c0%ae/etc/passwd",
        "/x%00.html",
        "/%",
        "/%zz",
        "/%ff",
        "//etc/passwd",
        "/./index.html",
        "/index.html%00",
        "/%0d%0aset-cookie:x",
        "/index.html/",
        "/style.css/x",
    ] {
        let answer = visitor.get(path).await;
        assert!(
            [400, 404].contains(&answer.status),
            "{path}: {}",
            answer.status
        );
        assert!(!answer.text().contains("root:"), "{path}");
    }
    let long = visitor.get(&format!("/{}", "a".repeat(10_000))).await;
    assert_eq!(long.status, 400);
    let raw = async |bytes: &[u8]| parse(&send(edge.running.address, bytes).await).status;
    assert_eq!(
        raw(b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await,
        400
    );
    assert_eq!(
        raw(b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n").await,
        400
    );
    assert_eq!(raw(b"nonsense\r\n\r\n").await, 400);
    let mut many = b"GET / HTTP/1.1\r\nhost: docs.localhost\r\n".to_vec();
    for number in 0..300 {
        many.extend_from_slice(format!("x-{number}: y\r\n").as_bytes());
    }
    many.extend_from_slice(b"\r\n");
    assert_eq!(raw(&many).await, 431);
    assert_eq!(visitor.get("/").await.text(), "home", "it serves on");
}

#[tokio::test]
async fn a_connection_takes_many_requests() {
    let (_sandbox, edge, _, _) = Sandbox::serving(&SITE).await;
    let one = format!("GET /about HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    let last = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
    let answers = send(edge.running.address, format!("{one}{one}{last}").as_bytes()).await;
    let text = String::from_utf8(answers).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 3, "{text}");
    assert!(text.ends_with("home"), "{text}");
}

/// Asks on a connection that stays.
async fn ask_on(stream: &mut TcpStream, path: &str) {
    let head = format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
}

/// Reads an answer that ends with this text.
async fn read_to(stream: &mut TcpStream, end: &str) {
    let mut answer = Vec::new();
    while !answer.ends_with(end.as_bytes()) {
        let read = timeout(SOON, stream.read_buf(&mut answer)).await;
        assert_ne!(read.expect("an answer in time").unwrap(), 0, "closed");
    }
}

#[tokio::test]
async fn who_stops_reading_makes_room_and_who_is_idle_stays() {
    // More than the buffers of both ends take.
    let large = "x".repeat(16 * 1024 * 1024);
    let mut sandbox = Sandbox::new().await;
    for (name, value) in [
        ("CANDLEFISH_EDGE_CONNECTIONS", "2"),
        ("CANDLEFISH_EDGE_STALL_MS", "100"),
    ] {
        sandbox.settings.push((name, value.to_owned()));
    }
    let files = [("index.html", "home"), ("large.bin", large.as_str())];
    let release = sandbox.release(&files).await;
    let edge = sandbox.edge("edge-1").await;
    sandbox.apply(&edge, route(1, &[(&release, 100)])).await;
    let address = edge.running.address;
    let mut idle = TcpStream::connect(address).await.unwrap();
    ask_on(&mut idle, "/").await;
    read_to(&mut idle, "home").await;
    let mut stuck = TcpStream::connect(address).await.unwrap();
    ask_on(&mut stuck, "/large.bin").await;
    let mut began = [0; 12];
    stuck.read_exact(&mut began).await.unwrap();
    assert_eq!(&began, b"HTTP/1.1 200");
    // All places are taken until the one who does not read is given up.
    let visitor = edge.visitor(HOST);
    let home = timeout(SOON, visitor.get("/")).await;
    assert_eq!(home.expect("a place in time").text(), "home");
    ask_on(&mut idle, "/").await;
    read_to(&mut idle, "home").await;
    let mut rest = Vec::new();
    drop(stuck.read_to_end(&mut rest).await);
    assert!(rest.len() < large.len(), "the answer was cut off");
}
