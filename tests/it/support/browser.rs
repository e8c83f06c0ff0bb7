//! A browser without a window, steered through two pipes by its own protocol, to look at a page as a person would get it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Nothing takes it so long; a hang is then a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running browser with one page.
pub struct Browser {
    child: Child,
    commands: File,
    answers: Receiver<Value>,
    session: String,
    number: u64,
    /// What came while an answer was awaited.
    events: Vec<Value>,
    _folder: TempDir,
}

/// What a page is looked at with.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Width of the window, in pixels.
    pub width: u32,
    /// `light` or `dark`.
    pub scheme: &'static str,
}

/// What was seen of a page.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What the browser complained about.
    pub errors: Vec<String>,
    /// Addresses that the page asked for, besides itself.
    pub requests: Vec<String>,
    /// Elements that are wider than the window.
    pub overflowing: Vec<String>,
}

impl Browser {
    /// Starts one with an empty profile.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = |name: &str| {
            let path = folder.path().join(name);
            let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo starts");
            assert!(made.success());
            path
        };
        let (commands, answers) = (pipe("commands"), pipe("answers"));
        let mut child = Command::new("sh")
            // The browser reads commands from descriptor 3 and answers on 4.
            .args(["-c", "exec chromium \"$@\" 3<\"$COMMANDS\" 4>\"$ANSWERS\"", "sh"])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"])
            .args(["--disable-component-update", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars"])
            .arg("--remote-debugging-pipe")
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .env("COMMANDS", &commands)
            .env("ANSWERS", &answers)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.path().join("log")).expect("a file"))
            .spawn()
            .expect("sh starts");
        // Opening waits for the shell to open the other end, which it does in this order, before it looks for the browser.
        let commands = File::options().write(true).open(commands).expect("the shell opens the pipe");
        let answers = File::open(answers).expect("the shell opens the pipe");
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(answers).split(0) {
                let Ok(message) = message else { return };
                let message = serde_json::from_slice(&message).expect("the browser speaks JSON");
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        if let Ok(Some(ended)) = child.try_wait() {
            panic!("chromium does not start ({ended}): `apt-get install chromium`");
        }
        let mut browser = Self {
            child,
            commands,
            answers: receiver,
            session: String::new(),
            number: 0,
            events: Vec::new(),
            _folder: folder,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        browser.session = attached["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Opens a file with everything on it unfolded, and tells what is wrong with it.
    pub fn look(&mut self, file: &Path, look: Look) -> Seen {
        let metrics = json!({ "width": look.width, "height": 900, "deviceScaleFactor": 1, "mobile": look.width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": look.scheme }] });
        self.call("Emulation.setEmulatedMedia", scheme);
        self.events.clear();
        let address = format!("file://{}", file.display());
        let opened = self.call("Page.navigate", json!({ "url": address }));
        assert_eq!(opened["errorText"], Value::Null, "{opened}");
        self.await_event("Page.loadEventFired");
        self.unfold(true);
        let overflowing = self.evaluate(
            "(() => { const wide = [...document.querySelectorAll('*')].filter(e => { \
               const box = e.getBoundingClientRect(); \
               return box.width > 1 && (box.right > innerWidth + 1 || box.left < -1); }); \
             const name = e => e.tagName + '.' + e.getAttribute('class'); \
             const root = document.documentElement; \
             const whole = root.scrollWidth > innerWidth ? ['the whole page: ' + root.scrollWidth] : []; \
             return whole.concat(wide.map(name)); })()",
        );
        // The page itself is asked for first.
        let requests = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent").skip(1);
        let requests = requests.map(|event| event["params"]["request"]["url"].to_string()).collect();
        let overflowing = serde_json::from_value(overflowing).expect("a list of names");
        let mut seen = Seen { overflowing, requests, ..Seen::default() };
        for event in std::mem::take(&mut self.events) {
            let details = &event["params"];
            match event["method"].as_str() {
                Some("Log.entryAdded") => seen.errors.push(details["entry"]["text"].to_string()),
                Some("Runtime.consoleAPICalled" | "Runtime.exceptionThrown") => seen.errors.push(details.to_string()),
                _ => {}
            }
        }
        seen
    }

    /// Opens or closes everything that folds.
    pub fn unfold(&mut self, open: bool) {
        self.evaluate(&format!("document.querySelectorAll('details').forEach(d => d.open = {open})"));
    }

    /// What an expression of the page's own language gives.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let answer = self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }));
        assert_eq!(answer["exceptionDetails"], Value::Null, "{answer}");
        answer["result"]["value"].clone()
    }

    /// A picture of the first `height` pixels of the page, as PNG.
    pub fn picture(&mut self, look: Look, height: u32) -> Vec<u8> {
        let clip = json!({ "x": 0, "y": 0, "width": look.width, "height": height, "scale": 1 });
        let answer = self.call("Page.captureScreenshot", json!({ "captureBeyondViewport": true, "clip": clip }));
        STANDARD.decode(answer["data"].as_str().expect("a picture")).expect("it is base64")
    }

    /// The page on paper, as PDF.
    pub fn paper(&mut self) -> Vec<u8> {
        let answer = self.call("Page.printToPDF", json!({ "preferCSSPageSize": true }));
        STANDARD.decode(answer["data"].as_str().expect("a document")).expect("it is base64")
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.number += 1;
        let mut command = json!({ "id": self.number, "method": method, "params": params });
        if !self.session.is_empty() {
            command["sessionId"] = json!(self.session);
        }
        let mut bytes = command.to_string().into_bytes();
        bytes.push(0);
        self.commands.write_all(&bytes).expect("the browser runs");
        loop {
            let message = self.next(method);
            if message["id"] == self.number {
                assert_eq!(message["error"], Value::Null, "{method}");
                return message["result"].clone();
            }
            self.events.push(message);
        }
    }

    fn await_event(&mut self, method: &str) {
        while !self.events.iter().any(|event| event["method"] == method) {
            let message = self.next(method);
            self.events.push(message);
        }
    }

    fn next(&mut self, wanted: &str) -> Value {
        self.answers.recv_timeout(PATIENCE).unwrap_or_else(|error| {
            panic!("no answer of chromium for {wanted}: {error}; is it installed (`apt-get install chromium`)?")
        })
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.commands.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        // It removes what it has open by itself, and is stopped if it does not.
        while self.answers.recv_timeout(PATIENCE).is_ok() {}
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
