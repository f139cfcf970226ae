//! One edge beside nginx, serving the same files in the same run: with one worker, as in all former
//! runs, and with one for each core, as the edge has threads.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command},
    time::Duration,
};

use e2e::{Content, Sandbox, api::Commit};

use crate::{Row, wrk};

const CONNECTIONS: u32 = 64;
const SECONDS: u32 = 8;
/// Where the nginx with one worker serves, and the one with a worker for each core.
const ONE_WORKER: u16 = 18_080;
const ALL_CORES: u16 = 18_081;

/// nginx, ended when dropped.
struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        // Asked, not killed: a killed master leaves its worker behind. It may have ended by itself.
        let pid = self.0.id().to_string();
        let _asked = Command::new("kill").args(["-TERM", &pid]).status();
        let _reaped = self.0.wait();
    }
}

pub(super) async fn run(sandbox: &Sandbox) -> Vec<Row> {
    let api = &sandbox.api;
    let files = files();
    let content = files.iter().fold(Content::site("n"), |content, file| {
        content.file(file.name, &file.body)
    });
    let release = api
        .release("docs", &content, &Commit::default())
        .await
        .unwrap();
    let deployment = api
        .deploy("docs", "production", &release, None)
        .await
        .unwrap();
    api.succeeds(&deployment.id).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    for file in &files {
        std::fs::write(folder.path().join(file.name), &file.body).unwrap();
    }
    let _nginxes = [
        start(folder.path(), ONE_WORKER, "1").await,
        start(folder.path(), ALL_CORES, "auto").await,
    ];
    let edge = sandbox.stack.edges().first().unwrap().address;
    let ours = Peer {
        origin: format!("http://{edge}"),
        headers: vec!["Host: docs.localhost".to_owned()],
    };
    let [one, all] = [ONE_WORKER, ALL_CORES].map(|port| Peer {
        origin: format!("http://127.0.0.1:{port}"),
        headers: Vec::new(),
    });
    let page = |peer: &Peer| {
        let url = format!("{}/page.html", peer.origin);
        wrk::run(&url, CONNECTIONS, SECONDS, &peer.headers)
    };
    let paths: Vec<String> = files.iter().map(|file| format!("/{}", file.name)).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let site = |peer: &Peer| {
        let Peer { origin, headers } = peer;
        wrk::in_turn(origin, &paths, CONNECTIONS, SECONDS, headers)
    };
    vec![
        row(
            "edge, a page of 8 KB, 64 connections, beside nginx",
            &page(&ours),
            &page(&one),
            &page(&all),
        ),
        row(
            "edge, files of 8, 2, 30 and 100 KB in turn (page, style, script, image), the same",
            &site(&ours),
            &site(&one),
            &site(&all),
        ),
    ]
}

/// Who is asked.
struct Peer {
    origin: String,
    headers: Vec<String>,
}

/// A file that both serve.
struct File {
    name: &'static str,
    body: String,
}

/// What a page brings with it: kinds and sizes as sites have them.
fn files() -> Vec<File> {
    let file = |name, start: &str, part: &str, bytes: usize| File {
        name,
        body: format!("{start}{}", part.repeat(bytes / part.len())),
    };
    vec![
        // As it always was: the row of this page alone is compared with those of former runs.
        File {
            name: "page.html",
            body: format!("<h1>Page</h1>{}", "<p>words and words</p>".repeat(350)),
        },
        file("page.css", "", "p { margin: 0 1rem }\n", 2_000),
        file("page.js", "", "console.log('a line of it');\n", 30_000),
        file(
            "picture.svg",
            "<svg xmlns=\"http://www.w3.org/2000/svg\"/>",
            "<!-- a line of the picture -->\n",
            100_000,
        ),
    ]
}

fn row(path: &'static str, ours: &wrk::Outcome, one: &wrk::Outcome, all: &wrk::Outcome) -> Row {
    let beside = |theirs: &wrk::Outcome| {
        // Whoever refuses is quick.
        assert_eq!((&*ours.errors, &*theirs.errors), ("0", "0"), "{path}");
        let ratio = ours.per_second / theirs.per_second.max(1.0);
        let wrk::Outcome {
            per_second, p99, ..
        } = theirs;
        format!("{per_second:.0}/s, p99 {p99}, ratio {ratio:.2}")
    };
    Row {
        path,
        target: "nginx in the same run",
        measured: format!(
            "{:.0}/s, p99 {} · nginx with one worker {} · with one for each core {}",
            ours.per_second,
            ours.p99,
            beside(one),
            beside(all)
        ),
    }
}

/// Serves `folder` with this many workers; what it writes itself is in a folder of its own there.
async fn start(folder: &Path, port: u16, workers: &str) -> Nginx {
    let own = folder.join(format!("nginx-{workers}"));
    std::fs::create_dir(&own).unwrap();
    let config = own.join("nginx.conf");
    let text = format!(
        "daemon off; worker_processes {workers}; pid {0}/pid; error_log {0}/error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;\n\
         open_file_cache max=1000;\n\
         types {{ text/html html; text/css css; text/javascript js; image/svg+xml svg; }}\n\
         client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f;\n\
         uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n\
         server {{ listen 127.0.0.1:{port}; root {1}; }} }}\n",
        own.display(),
        folder.display()
    );
    std::fs::write(&config, text).unwrap();
    // Its workers are another user, who must be able to enter.
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let child = Command::new("/usr/sbin/nginx")
        .arg("-c")
        .arg(&config)
        .spawn()
        .unwrap();
    let nginx = Nginx(child);
    candlefish_devstack::wait_until(Duration::from_secs(5), "nginx", || async {
        let tried = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
        tried.map(drop).map_err(|error| error.to_string())
    })
    .await
    .unwrap();
    nginx
}
