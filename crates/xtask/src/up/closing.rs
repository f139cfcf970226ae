//! What `up` says last, after all logs: where to look, and what to try.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use candlefish_devstack::Stack;

use super::CONTEXT;
use crate::traffic;
use crate::workspace::Workspace;

pub(super) fn show(stack: &Stack, workspace: &Workspace, folder: &str, took: Duration) {
    let edges: Vec<_> = stack.edges().iter().map(|edge| edge.address).collect();
    let candlefish = super::binary(workspace, "candlefish").unwrap_or_default();
    let candlefish = candlefish
        .strip_prefix(&workspace.root)
        .unwrap_or(&candlefish);
    let api = stack.gateway_url();
    println!("{}", text(&edges, &api, candlefish, folder, took));
}

/// Commands are indented by six spaces, those to be pasted at once without a line between: `ci` pastes
/// what it finds there. What visitors get goes to the folder of the data.
pub(crate) fn text(
    edges: &[SocketAddr],
    api: &str,
    candlefish: &Path,
    folder: &str,
    took: Duration,
) -> String {
    let port = edges.first().map_or(0, SocketAddr::port);
    let edges = visited(edges);
    let candlefish = candlefish.display();
    let seconds = took.as_secs_f64();
    format!(
        "
  Candlefish is up, after {seconds:.0} s.

  The site      http://docs.localhost:{port}            (staging: http://staging--docs.localhost:{port})
  The API       {api}                    (its description: {api}/docs)
  `candlefish` asks it from now on: the context `{CONTEXT}` is the current one. `candlefish context NAME` goes back to yours.

  Three things to try, in another shell, in this folder:

    A canary of version 2, with visitors ({folder}/visitors says what they get):
      cargo xtask traffic docs/production --seconds 60{edges} >{folder}/visitors 2>&1 &
      {candlefish} deploy examples/docs-site/v2 --site docs --env production --strategy canary --weights 10,50 --interval 10s --bake 30s
    A broken version 3, which is refused with the page named:
      {candlefish} deploy examples/docs-site/v3 --site docs --env production
    Back again, which holds docs/production until somebody lifts that:
      {candlefish} rollback docs/production --yes

  So before the first two once more, also after the next `cargo xtask up`:

      {candlefish} hold lift docs/production --reason tried

  Browsers and curl know that *.localhost is this machine; other programs of this system do not.
  Kill a service and watch it come back. Ctrl-C stops everything; `cargo xtask up` continues with the same data.
"
    )
}

/// Which edges visitors go to, where these are not the ones that `traffic` knows by itself: no answer
/// from one that does not run would look like an error of the site.
fn visited(edges: &[SocketAddr]) -> String {
    let edges: Vec<String> = edges.iter().map(SocketAddr::to_string).collect();
    if edges == traffic::EDGES {
        return String::new();
    }
    let options: Vec<String> = edges.iter().map(|edge| format!(" --edge {edge}")).collect();
    options.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visitors_go_to_the_edges_that_run() {
        let edges = |ports: &[u16]| {
            let addresses: Vec<SocketAddr> = ports
                .iter()
                .map(|port| SocketAddr::from(([127, 0, 0, 1], *port)))
                .collect();
            visited(&addresses)
        };
        assert_eq!(edges(&[8080, 8082]), "");
        assert_eq!(edges(&[8080]), " --edge 127.0.0.1:8080");
        assert_eq!(
            edges(&[8080, 8082, 8083]),
            " --edge 127.0.0.1:8080 --edge 127.0.0.1:8082 --edge 127.0.0.1:8083"
        );
    }
}
