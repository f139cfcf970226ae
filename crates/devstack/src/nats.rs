//! A private NATS server with JetStream.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;

use crate::output::Output;
use crate::ports::Port;
use crate::process::{Launch, Process};
use crate::wait::wait_until;
use crate::warden::Warden;

const READY_WITHIN: Duration = Duration::from_secs(20);

/// A private NATS server with JetStream on disk.
#[derive(Debug)]
pub struct Nats {
    process: Arc<Process>,
    port: Port,
    store: PathBuf,
}

impl Nats {
    /// Starts `program` with its streams below `folder`, and waits until it takes connections.
    pub async fn start(
        program: &Path,
        folder: &Path,
        port: Port,
        output: Output,
        warden: Arc<Warden>,
    ) -> Result<Self> {
        let store = folder.join("nats");
        fs::create_dir_all(&store)?;
        let file = folder.join("nats.conf");
        // 2.9, which Debian 12 has, refuses a file with `sync_interval`; so none is set. Streams reserve
        // what they may grow to, and tests make many: the limit is on reservations, not on disk.
        let text = format!(
            "listen: \"127.0.0.1:{}\"\nserver_name: candlefish\njetstream {{\n  store_dir: \"{}\"\n  max_memory_store: 256MB\n  max_file_store: 1TB\n}}\n",
            port.number(),
            store.display()
        );
        fs::write(&file, text)?;
        let mut launch = Launch::new(program.to_owned());
        launch.args = vec!["-c".to_owned(), file.display().to_string()];
        launch.quiet = true;
        let process = Arc::new(Process::new("nats", launch, output, warden));
        let nats = Self {
            process,
            port,
            store,
        };
        nats.restart().await?;
        Ok(nats)
    }

    /// Starts it again, after a stop or a kill, on the same port with what its disk holds.
    pub async fn restart(&self) -> Result<()> {
        self.process.start()?;
        self.ready().await
    }

    /// Ends it and forgets every stream; [`Self::restart`] begins empty.
    pub fn wipe(&self) -> Result<()> {
        self.process.kill()?;
        fs::remove_dir_all(&self.store).context("removing the streams")?;
        fs::create_dir_all(&self.store)?;
        Ok(())
    }

    /// Waits until it takes connections, with JetStream on.
    pub async fn ready(&self) -> Result<()> {
        wait_until(READY_WITHIN, "NATS", || async {
            if let Some(status) = self.process.lost() {
                return Err(format!("{status}: {}", self.process.last_words(5)));
            }
            let greeting = self.greeting().await.map_err(|error| error.to_string())?;
            if greeting.starts_with("INFO ") && greeting.contains("\"jetstream\":true") {
                return Ok(());
            }
            Err(format!("it greets with {greeting}"))
        })
        .await
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port.number())
    }

    pub const fn process(&self) -> &Arc<Process> {
        &self.process
    }

    async fn greeting(&self) -> Result<String> {
        let stream = TcpStream::connect(self.port.address()).await?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await?;
        Ok(line)
    }
}
