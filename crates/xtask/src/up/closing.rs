//! What `up` says last, after all logs: where to look, and what to try.

use std::time::Duration;

use candlefish_devstack::Stack;

use crate::workspace::Workspace;

pub(super) fn show(stack: &Stack, workspace: &Workspace, took: Duration) {
    println!("{}", text(stack, workspace, took));
}

fn text(stack: &Stack, workspace: &Workspace, took: Duration) -> String {
    let port = stack.edges().first().map_or(0, |edge| edge.address.port());
    let api = stack.gateway_url();
    let candlefish = super::binary(workspace, "candlefish").unwrap_or_default();
    let candlefish = candlefish
        .strip_prefix(&workspace.root)
        .unwrap_or(&candlefish)
        .display();
    let seconds = took.as_secs_f64();
    format!(
        "
  Candlefish is up, after {seconds:.0} s.

  The site      http://docs.localhost:{port}            (staging: http://staging--docs.localhost:{port})
  The API       {api}                    (its description: {api}/docs)

  Three things to try, in another shell, in this folder:

    A canary of version 2, with visitors:
      cargo xtask traffic docs/production --seconds 60 &
      {candlefish} deploy examples/docs-site/v2 --site docs --env production --strategy canary --weights 10,50 --interval 10s --bake 30s
    A broken version 3, which is refused with the page named:
      {candlefish} deploy examples/docs-site/v3 --site docs --env production
    Back again:
      {candlefish} rollback docs/production --yes

  Browsers and curl know that *.localhost is this machine; other programs of this system do not.
  Kill a service and watch it come back. Ctrl-C stops everything; `cargo xtask up` continues with the same data.
"
    )
}
