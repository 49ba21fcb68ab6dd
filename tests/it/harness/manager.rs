//! A service manager, as systemd is one: it is told how a gateway fares.

use std::os::unix::net::UnixDatagram;

use tempfile::TempDir;

use super::PATIENCE;

/// Listens to what gateways say of themselves.
pub(crate) struct Manager {
    socket: UnixDatagram,
    watchdog_us: Option<u32>,
    dir: TempDir,
}

impl Manager {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, watchdog_us: None, dir }
    }

    /// Wants to hear every so many microseconds that all is well.
    pub(crate) fn watching(self, microseconds: u32) -> Self {
        Self { watchdog_us: Some(microseconds), ..self }
    }

    /// The next word of a gateway, as lines.
    pub(crate) fn next(&self) -> String {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).expect("a word of the gateway");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    /// Waits for a word that holds this line, and gives it.
    pub(crate) fn hears(&self, line: &str) -> String {
        loop {
            let word = self.next();
            if word.lines().any(|said| said == line) {
                return word;
            }
        }
    }

    pub(super) fn environment(&self) -> Vec<(&'static str, String)> {
        let socket = ("NOTIFY_SOCKET", self.dir.path().join("notify").display().to_string());
        let watchdog = self.watchdog_us.map(|microseconds| ("WATCHDOG_USEC", microseconds.to_string()));
        [Some(socket), watchdog].into_iter().flatten().collect()
    }
}
