//! Where to look: on a pipe `open` is the address and nothing else.

use crate::{
    cli::Cli,
    server::{DEP, Server, URL},
};

#[test]
fn on_a_pipe_it_writes_the_address_alone() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    let site = cli.run("open docs/production").code(0);
    assert_eq!((site.out, site.err.as_str()), (format!("{URL}\n"), ""));
    let preview = server.world.lock().deployment.preview_url.clone();
    let own = cli.run(&format!("open {DEP}")).code(0);
    assert_eq!((own.out, own.err.as_str()), (format!("{preview}\n"), ""));
    // One whose own address is over is looked for where it went.
    server.world.lock().deployment.preview_url.clear();
    let live = cli.run(&format!("open {DEP}")).code(0);
    assert_eq!(live.out, format!("{URL}\n"));
}
