//! One edge beside nginx, serving the same files in the same run.

use std::{
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command},
    time::Duration,
};

use e2e::{Content, Sandbox, api::Commit};

use crate::{Row, wrk};

const CONNECTIONS: u32 = 64;
const SECONDS: u32 = 8;

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
    let body = format!("<h1>Page</h1>{}", "<p>words and words</p>".repeat(350));
    let content = Content::site("n").file("page.html", &body);
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
    std::fs::write(folder.path().join("page.html"), &body).unwrap();
    let port = 18_080;
    let nginx = start(folder.path(), port).await;
    let edge = sandbox.stack.edges().first().unwrap().address;
    let host = ["Host: docs.localhost".to_owned()];
    let ours = wrk::run(
        &format!("http://{edge}/page.html"),
        CONNECTIONS,
        SECONDS,
        &host,
    );
    let theirs = wrk::run(
        &format!("http://127.0.0.1:{port}/page.html"),
        CONNECTIONS,
        SECONDS,
        &[],
    );
    drop(nginx);
    let ratio = ours.per_second / theirs.per_second.max(1.0);
    vec![Row {
        path: "edge, a page of 8 KB, 64 connections, beside nginx (one worker)",
        target: "nginx in the same run",
        measured: format!(
            "{:.0}/s, p99 {} · nginx {:.0}/s, p99 {} · ratio {ratio:.2}",
            ours.per_second, ours.p99, theirs.per_second, theirs.p99
        ),
    }]
}

async fn start(folder: &std::path::Path, port: u16) -> Nginx {
    let config = folder.join("nginx.conf");
    let text = format!(
        "daemon off; worker_processes 1; pid {0}/pid; error_log {0}/error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;\n\
         open_file_cache max=1000; types {{ text/html html; }}\n\
         client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f;\n\
         uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n\
         server {{ listen 127.0.0.1:{port}; root {0}; }} }}\n",
        folder.display()
    );
    std::fs::write(&config, text).unwrap();
    // Its worker is another user, who must be able to enter.
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
