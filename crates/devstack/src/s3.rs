//! An S3 server that others wrote, for tests: `ministack`, installed by `cargo xtask tools`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hyper::Method;

use crate::http;
use crate::output::Output;
use crate::ports::Port;
use crate::process::{Launch, Process};
use crate::wait::wait_until;
use crate::warden::Warden;

const READY_WITHIN: Duration = Duration::from_secs(30);

/// A private S3 server. It does not check who signs.
#[derive(Debug)]
pub struct S3 {
    process: Arc<Process>,
    port: Port,
}

impl S3 {
    /// Starts `program` with its objects below `folder`, and waits until it answers.
    pub async fn start(
        program: PathBuf,
        folder: &Path,
        output: Output,
        warden: Arc<Warden>,
    ) -> Result<Self> {
        let port = Port::free()?;
        let mut launch = Launch::new(program);
        let state = folder.join("ministack");
        let objects = folder.join("ministack-s3");
        fs::create_dir_all(&state)?;
        fs::create_dir_all(&objects)?;
        launch.env = [
            // It listens on every address otherwise.
            ("BIND_HOST", "127.0.0.1".to_owned()),
            ("GATEWAY_PORT", port.number().to_string()),
            ("SERVICES", "s3".to_owned()),
            ("LOG_LEVEL", "WARNING".to_owned()),
            ("SFTP_ENABLED", "0".to_owned()),
            ("IOT_MTLS_ENABLED", "0".to_owned()),
            ("PERSIST_STATE", "1".to_owned()),
            ("S3_PERSIST", "1".to_owned()),
            ("STATE_DIR", state.display().to_string()),
            ("S3_DATA_DIR", objects.display().to_string()),
            ("HOME", folder.display().to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec();
        launch.quiet = true;
        let process = Arc::new(Process::new("s3", launch, output, warden));
        process.start()?;
        let s3 = Self { process, port };
        wait_until(READY_WITHIN, "the S3 server", || async {
            if let Some(status) = s3.process.lost() {
                return Err(format!("{status}: {}", s3.process.last_words(5)));
            }
            let answer = s3.call(Method::GET, "/_ministack/health").await;
            answer.map_err(|error| format!("{error:#}"))
        })
        .await?;
        Ok(s3)
    }

    /// Makes a bucket; repeats change nothing.
    pub async fn create_bucket(&self, name: &str) -> Result<()> {
        let made = self.call(Method::PUT, &format!("/{name}")).await;
        made.with_context(|| format!("making the bucket {name}"))
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    pub const fn process(&self) -> &Arc<Process> {
        &self.process
    }

    async fn call(&self, method: Method, path: &str) -> Result<()> {
        let call = http::request(method, self.port.address(), "127.0.0.1", path, &[]);
        let answer = tokio::time::timeout(Duration::from_secs(5), call).await??;
        ensure!(answer.status.is_success(), "{path}: {}", answer.status);
        Ok(())
    }
}
