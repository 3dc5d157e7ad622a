//! A headless Chromium of the test's own, driven as people would drive it: W3C WebDriver, by chromedriver.

#![allow(dead_code, unreachable_pub, reason = "each test is a crate of its own and takes what it needs")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::eventually;

/// A browser that knows of nothing but what the test shows it.
const OPTIONS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
];

/// Ended with the test, however that ends.
pub struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    _profile: TempDir,
}

/// An answer over HTTP: status, head and body.
pub struct Answer {
    pub code: u16,
    pub head: String,
    pub body: String,
}

/// One request on a connection of its own.
pub fn request(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    let length = body.len();
    let text = format!(
        "{method} {path} HTTP/1.1\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).expect("sent");
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).expect("a head") > 0, "broken off: {head}");
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    // Of what there would be, a head says the length all the same.
    let length = if method == "HEAD" { Some(0) } else { length };
    let mut bytes = vec![0; length.expect("a length")];
    reader.read_exact(&mut bytes).expect("a body");
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    Answer { code, head, body: String::from_utf8(bytes).expect("UTF-8") }
}

impl Browser {
    pub fn start() -> Self {
        let profile = TempDir::new().expect("a directory");
        // With the first process of a namespace all others of it end, also when the test is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.args(["chromedriver", "--port=0"]).env("HOME", profile.path()).env("TMPDIR", profile.path());
        let mut driver = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("chromedriver");
        let mut lines = BufReader::new(driver.stdout.take().expect("its output")).lines();
        let port = lines.find_map(|line| {
            line.expect("a line").strip_suffix('.')?.split_once("successfully on port ")?.1.parse().ok()
        });
        let address = (Ipv4Addr::LOCALHOST, port.expect("the port that it has chosen")).into();
        // What it says further is nobody's.
        std::thread::spawn(move || lines.for_each(drop));
        let mut browser = Browser { driver, address, session: String::new(), _profile: profile };
        let directory = browser._profile.path().join("profile");
        let options: Vec<String> = OPTIONS.map(str::to_owned).into_iter().collect();
        let options = [options, vec![format!("--user-data-dir={}", directory.display())]].concat();
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            "goog:chromeOptions": {"binary": "/usr/bin/chromium", "args": options},
        }}});
        let session = browser.post("/session", &wanted);
        session["sessionId"].as_str().expect("a session").clone_into(&mut browser.session);
        // What a new window shows by itself is the browser's own.
        browser.open("about:blank");
        browser.requests();
        browser.complaints();
        browser
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.ask("POST", path, &body.to_string());
        let mut value: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(answer.code, 200, "{path} {body}: {value:#}");
        value["value"].take()
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        request(self.address, method, path, "Host: localhost\r\nContent-Type: application/json\r\n", body)
    }

    fn in_session(&self, what: &str, body: &Value) -> Value {
        self.post(&format!("/session/{}/{what}", self.session), body)
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.in_session("goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    pub fn open(&self, url: &str) {
        self.in_session("url", &json!({ "url": url }));
    }

    /// What a function of the page's own world returns.
    pub fn run(&self, script: &str) -> Value {
        self.in_session("execute/sync", &json!({"script": script, "args": []}))
    }

    /// The text of what a selector selects, as it is seen.
    pub fn texts(&self, selector: &str) -> Vec<String> {
        let script = format!(
            "return [...document.querySelectorAll({selector:?})].filter((e) => e.getClientRects().length > 0).map((e) => (e.innerText ?? e.textContent).trim())"
        );
        serde_json::from_value(self.run(&script)).expect("texts")
    }

    /// Waits until something is seen.
    pub fn sees(&self, selector: &str, part: &str) {
        let seen = || self.texts(selector).iter().any(|text| text.contains(part));
        eventually(&format!("{part:?} in {selector}"), seen);
    }

    /// As by a person.
    pub fn click(&self, selector: &str) {
        let element = self.in_session("element", &json!({"using": "css selector", "value": selector}));
        let id = element.as_object().and_then(|object| object.values().next()).and_then(Value::as_str);
        self.in_session(&format!("element/{}/click", id.expect("an element")), &json!({}));
    }

    /// Types into a field, in the place of what is there.
    pub fn fill(&self, selector: &str, text: &str) {
        let script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))";
        let element = self.in_session("element", &json!({"using": "css selector", "value": selector}));
        self.in_session("execute/sync", &json!({"script": script, "args": [element, text]}));
    }

    /// A key, where the focus is.
    pub fn press(&self, key: &str) {
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            self.devtools(
                "Input.dispatchKeyEvent",
                &json!({"type": kind, "key": key, "code": key, "text": text}),
            );
        }
    }

    /// A window of so many pixels; a narrow one is that of a telephone.
    pub fn resize(&self, width: u32, height: u32) {
        let parameters =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        self.devtools("Emulation.setDeviceMetricsOverride", &parameters);
    }

    /// What the window shows, as PNG.
    pub fn screenshot(&self) -> Vec<u8> {
        let picture = self.devtools("Page.captureScreenshot", &json!({"format": "png"}));
        BASE64_STANDARD.decode(picture["data"].as_str().expect("data")).expect("base64")
    }

    /// What the page has complained of since it was asked last.
    pub fn complaints(&self) -> Vec<Value> {
        let lines = self.in_session("se/log", &json!({"type": "browser"}));
        lines.as_array().expect("lines").clone()
    }

    /// What has been asked for over the network since it was asked last.
    pub fn requests(&self) -> Vec<String> {
        let lines = self.in_session("se/log", &json!({"type": "performance"}));
        let messages = lines.as_array().expect("lines").iter().filter_map(|line| line["message"].as_str());
        let urls = messages.filter_map(|message| {
            let message: Value = serde_json::from_str(message).ok()?;
            let message = &message["message"];
            let is_request = message["method"] == "Network.requestWillBeSent";
            is_request.then(|| message["params"]["request"]["url"].as_str().map(str::to_owned))?
        });
        urls.collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.driver.kill().ok();
        self.driver.wait().ok();
    }
}
