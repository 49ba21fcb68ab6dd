//! A headless Chromium, led by its driver over plain HTTP (`WebDriver`).
//!
//! Knows nothing of the console but that it is a page. Each browser has a driver and a profile of its own; both end when
//! it is dropped.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Client, PATIENCE, ask, until};

/// Keys that write nothing.
pub(crate) const ENTER: &str = "\u{e007}";
pub(crate) const ESCAPE: &str = "\u{e00c}";
pub(crate) const TAB: &str = "\u{e004}";
pub(crate) const DOWN: &str = "\u{e015}";

/// A browser with one window.
pub(crate) struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    /// Where both keep what they write; it goes with them.
    _dir: TempDir,
}

impl Browser {
    /// Starts one, and opens the page.
    pub(crate) fn at(url: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .env("TMPDIR", dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver: scripts/console-check installs it");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines
            .find_map(|line| line.trim_end_matches('.').split_once("successfully on port ")?.1.parse().ok());
        let address = SocketAddr::from(([127, 0, 0, 1], port.expect("the driver tells its port")));
        thread::spawn(move || lines.for_each(drop));
        let mut browser = Self { driver, address, session: String::new(), _dir: dir };
        let session = browser.call("POST", "/session", &capabilities());
        session["sessionId"].as_str().expect("a session").clone_into(&mut browser.session);
        browser.resize(1280, 900);
        browser.go(url);
        browser
    }

    pub(crate) fn go(&self, url: &str) {
        self.post("url", &json!({ "url": url }));
    }

    /// What the script returns.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Whether the expression is true.
    pub(crate) fn is(&self, expression: &str) -> bool {
        self.run(&format!("return Boolean({expression})")) == json!(true)
    }

    /// Waits until the expression is true.
    pub(crate) fn until(&self, expression: &str) {
        until(expression, || self.is(expression));
    }

    /// The text that is shown of the first element that fits.
    pub(crate) fn text(&self, selector: &str) -> String {
        let text = self.run(&format!("return document.querySelector({selector:?}).innerText"));
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Clicks where the element is seen, as a person does.
    pub(crate) fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.post(&format!("element/{element}/click"), &json!({}));
    }

    /// Writes into a field.
    pub(crate) fn write(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.post(&format!("element/{element}/value"), &json!({ "text": text }));
    }

    /// Presses keys one after another, wherever the focus is.
    pub(crate) fn press(&self, keys: &str) {
        let key =
            |key: char| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() }));
        let actions: Vec<_> = keys.chars().flat_map(key).collect();
        self.post("actions", &json!({ "actions": [{ "type": "key", "id": "keys", "actions": actions }] }));
    }

    /// The `id` of what has the focus.
    pub(crate) fn focus(&self) -> String {
        self.run("return document.activeElement.id").as_str().unwrap_or_default().to_owned()
    }

    /// Gives the page as many pixels.
    pub(crate) fn resize(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.command("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Says what a person prefers, such as `prefers-color-scheme` and `dark`.
    pub(crate) fn prefer(&self, feature: &str, value: &str) {
        self.command(
            "Emulation.setEmulatedMedia",
            &json!({ "features": [{ "name": feature, "value": value }] }),
        );
    }

    /// What the page said in its console since the last look, and what was kept from it by its policy. An answer that is
    /// an error is the gateway's word, and no complaint.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let entries = self.post("se/log", &json!({ "type": "browser" }));
        let entries = entries.as_array().unwrap().iter().filter(|entry| entry["source"] != "network");
        entries.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The page as those get it who listen to it: nodes with a role and a name.
    pub(crate) fn accessible(&self) -> Vec<Value> {
        self.command("Accessibility.enable", &json!({}));
        let mut tree = self.command("Accessibility.getFullAXTree", &json!({}));
        tree["nodes"].as_array_mut().map(std::mem::take).unwrap_or_default()
    }

    fn element(&self, selector: &str) -> String {
        let found = self.post("element", &json!({ "using": "css selector", "value": selector }));
        let element = found.as_object().and_then(|element| element.values().next()).and_then(Value::as_str);
        element.unwrap_or_else(|| panic!("no element {selector}")).to_owned()
    }

    fn command(&self, name: &str, parameters: &Value) -> Value {
        self.post("goog/cdp/execute", &json!({ "cmd": name, "params": parameters }))
    }

    fn post(&self, what: &str, body: &Value) -> Value {
        self.call("POST", &format!("/session/{}/{what}", self.session), body)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let host = self.address.to_string();
        let mut request = ask(method, path).without_header("Host").header("Host", host);
        if method == "POST" {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        let answer = Client::connect(self.address).send(&request).read();
        let mut answered: Value = serde_json::from_slice(&answer.body).unwrap();
        let value = answered["value"].take();
        assert!(answer.status == 200, "{method} {path}: {}", value["message"].as_str().unwrap_or_default());
        value
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends its browser with the session, and only then. Also after a failure, so nothing may panic here.
        if let Ok(mut stream) = TcpStream::connect(self.address) {
            let (session, host) = (&self.session, self.address);
            let end =
                format!("DELETE /session/{session} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            stream.set_read_timeout(Some(PATIENCE)).ok();
            stream.write_all(end.as_bytes()).ok();
            stream.read_exact(&mut [0]).ok();
        }
        self.driver.kill().ok();
        self.driver.wait().ok();
    }
}

fn capabilities() -> Value {
    let mut arguments =
        vec!["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"];
    // Chromium refuses to make a sandbox as root.
    let is_root = std::fs::read_to_string("/proc/self/status").unwrap().contains("\nUid:\t0\t");
    if is_root {
        arguments.push("--no-sandbox");
    }
    json!({ "capabilities": { "alwaysMatch": {
        "goog:chromeOptions": { "args": arguments },
        "goog:loggingPrefs": { "browser": "ALL" },
    } } })
}
