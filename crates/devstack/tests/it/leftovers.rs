//! However a stack's owner ends, nothing of the stack is left.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use candlefish_devstack::{Stack, wait_until};

fn runs(pid: u32) -> bool {
    // A zombie that nobody has waited for yet has no program any more.
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

#[tokio::test]
async fn a_killed_owner_leaves_no_process_and_no_folder() {
    let test = std::env::current_exe().unwrap();
    let target: &Path = test.ancestors().nth(2).unwrap();
    let mut owner = Command::new(target.join("examples/hold"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut lines = BufReader::new(owner.stdout.take().unwrap());
    lines.read_line(&mut line).unwrap();
    let mut words = line.split_whitespace();
    let postgres: u32 = words.next().unwrap().parse().unwrap();
    let nats: u32 = words.next().unwrap().parse().unwrap();
    let folder = PathBuf::from(words.next().unwrap());
    assert!(runs(postgres) && runs(nats) && folder.exists());

    owner.kill().unwrap();
    owner.wait().unwrap();
    let left = async || {
        if runs(postgres) || runs(nats) || folder.exists() {
            return Err(format!(
                "postgres {}, nats {}, folder {}",
                runs(postgres),
                runs(nats),
                folder.exists()
            ));
        }
        Ok(())
    };
    wait_until(Duration::from_secs(20), "nothing left", left)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_dropped_stack_leaves_no_process_and_no_folder() {
    let stack = Stack::builder().replicas(0, 0, 0).start().await.unwrap();
    let folder = stack.folder().to_owned();
    let postgres = stack.postgres().process().pid().unwrap();
    drop(stack);
    assert!(!runs(postgres));
    assert!(!folder.exists());
}
