//! `onceway probe`: whether a gateway is well, as a health check asks it. For images that have no other program.
//!
//! Asks as `keys` does, with the same trust (`keys/place.rs`, `keys/call.rs`), and shows nothing secret. Prints nothing
//! by itself.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::keys::{ADMIN_HELP, AdminArgs, CallError, Caller, Unusable};

/// How long an answer is waited for: less than whoever asks waits for this program.
const PATIENCE: Duration = Duration::from_secs(3);

/// Characters of an answer that are shown at most.
const SHOWN_MAX: usize = 200;

/// What `probe` can be told.
#[derive(Args, Debug)]
pub struct ProbeArgs {
    /// The gateway's configuration file: address and certificate of the operators' listener are taken from it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of the operators' listener.
    #[arg(long, value_name = "URL", help = ADMIN_HELP)]
    admin: Option<String>,
    /// Certificates, in PEM, of those who vouch for the gateway [default: those that the system trusts]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// What is asked for; /health is the payments API of the demonstration
    #[arg(long, value_name = "PATH", default_value = "/readyz", value_parser = ["/readyz", "/livez", "/health"])]
    path: String,
}

/// Why a gateway is not known to be well.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The arguments, or the file.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// No answer.
    #[error("ask the gateway")]
    Call(#[from] CallError),
    /// An answer, and not a good one.
    #[error("find the gateway well: it says {text:?} (status {status})")]
    Unwell {
        /// Its status.
        status: u16,
        /// The first line of what it says.
        text: String,
    },
}

pub(super) const HELP: &str = "\
Examples:
  onceway probe --config /etc/onceway/onceway.toml
  onceway probe --admin https://127.0.0.1:8081 --ca /etc/onceway/ca.pem --path /livez";

impl ProbeArgs {
    /// What the gateway says if it is well.
    ///
    /// Errors: it is not, or nobody can tell.
    pub async fn run(&self) -> Result<String, ProbeError> {
        let admin = AdminArgs::to_look(self.admin.clone(), self.config.clone(), self.ca.clone());
        let caller = Caller::of(admin.place()?);
        let (status, body) = caller.look(self.path.clone(), PATIENCE).await?;
        let text = first_line(&body);
        if (200..300).contains(&status) { Ok(text + "\n") } else { Err(ProbeError::Unwell { status, text }) }
    }
}

/// The first line, without what a terminal would obey.
fn first_line(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let line = text.lines().next().unwrap_or_default();
    line.chars().filter(|character| !character.is_control()).take(SHOWN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_one_line_without_control_characters_and_has_a_bound() {
        assert_eq!(first_line(b"ready\n"), "ready");
        assert_eq!(first_line(b"\x1b[2Jdraining\r\nmore"), "[2Jdraining");
        assert_eq!(first_line(&[b'a'; 1000]).len(), SHOWN_MAX);
        assert_eq!(first_line(b""), "");
    }
}
