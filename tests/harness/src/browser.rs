//! A real browser: Debian's headless Chromium, driven by WebDriver (<https://www.w3.org/TR/webdriver2/>),
//! which is JSON over HTTP.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::netns::{Entrance, Namespace};
use crate::process::end_with_this_thread;
use crate::{TempDir, http, skip, wait_until};

/// The limit for one command; the first starts the browser.
const PATIENCE: Duration = Duration::from_secs(60);
/// The key of an element reference (WebDriver, section 12).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// No background traffic; no sandbox, since root cannot have one; the browser ends with its driver.
const ARGUMENTS: [&str; 9] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
    "--window-size=1280,800",
];

/// Keys without a character (WebDriver, section 17.4.2).
pub mod key {
    #![expect(missing_docs, reason = "as their names say")]
    pub const ENTER: &str = "\u{e007}";
    pub const ESCAPE: &str = "\u{e00c}";
    pub const TAB: &str = "\u{e004}";
    pub const END: &str = "\u{e010}";
    pub const HOME: &str = "\u{e011}";
    pub const LEFT: &str = "\u{e012}";
    pub const UP: &str = "\u{e013}";
    pub const RIGHT: &str = "\u{e014}";
    pub const DOWN: &str = "\u{e015}";
}

/// A browser with one page; closed when dropped.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    address: SocketAddr,
    inside: Option<Entrance>,
    session: String,
    _dir: TempDir,
}

/// An element of the page.
#[derive(Debug, Clone)]
pub struct Element(String);

impl Browser {
    /// Starts a browser, or skips the test and returns `None`.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::launch(Command::new("chromedriver"), None)
    }

    /// Starts a browser in a network namespace.
    #[must_use]
    pub fn start_in(namespace: &Namespace) -> Option<Self> {
        Self::launch(namespace.command("chromedriver"), Some(namespace.entrance()))
    }

    fn launch(mut command: Command, inside: Option<Entrance>) -> Option<Self> {
        let version = Command::new("chromedriver").arg("--version").stdout(Stdio::null()).status();
        if !version.is_ok_and(|status| status.success()) {
            skip("no chromedriver: needs chromium and chromium-driver");
            return None;
        }
        let dir = TempDir::new("browser");
        command.arg("--port=0").env("HOME", dir.path()).env("TMPDIR", dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        end_with_this_thread(&mut command);
        let mut driver = command.spawn().expect("chromedriver starts as it did before");
        let mut lines = BufReader::new(driver.stdout.take().expect("a pipe was asked for")).lines();
        let port = lines.find_map(|line| {
            let line = line.ok()?;
            line.strip_suffix('.')?.split_once("successfully on port ")?.1.parse().ok()
        });
        let address =
            SocketAddr::from((Ipv4Addr::LOCALHOST, port.expect("chromedriver prints its port")));
        // A full pipe would block it.
        std::thread::spawn(move || lines.for_each(drop));
        let mut browser = Self { driver, address, inside, session: String::new(), _dir: dir };
        let options = json!({"goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            "goog:chromeOptions": {"args": ARGUMENTS}});
        let wanted = json!({"capabilities": {"alwaysMatch": options}});
        let session = browser.command("POST", "", &wanted);
        browser.session = format!("/{}", session["sessionId"].as_str().expect("a session"));
        Some(browser)
    }

    /// Sends one command, and returns its value.
    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        self.try_command(method, path, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    fn try_command(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let request = format!(
            "{method} /session{}{path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}",
            self.session,
            self.address,
            text.len()
        );
        let connect = || TcpStream::connect_timeout(&self.address, PATIENCE);
        let stream = match &self.inside {
            Some(namespace) => namespace.within(connect),
            None => connect(),
        };
        let answer = stream.and_then(|s| http::exchange_over(s, request.as_bytes(), PATIENCE));
        let answer = answer.map_err(|error| error.to_string())?;
        let mut value: Value = serde_json::from_slice(&answer.body).map_err(|e| e.to_string())?;
        if answer.status == 200 {
            Ok(value["value"].take())
        } else {
            Err(value["value"]["message"].to_string())
        }
    }

    /// Opens a page.
    pub fn go(&self, url: &str) {
        self.command("POST", "/url", &json!({ "url": url }));
    }

    /// Runs the body of a function in the page, and returns its result.
    pub fn run(&self, script: &str) -> Value {
        self.run_with(script, &json!([]))
    }

    /// As [`Browser::run`], with arguments.
    pub fn run_with(&self, script: &str, arguments: &Value) -> Value {
        self.command("POST", "/execute/sync", &json!({"script": script, "args": arguments}))
    }

    /// Waits until an expression holds in the page.
    ///
    /// # Panics
    /// When it does not hold within `limit`; the message contains the page's text.
    pub fn wait_for(&self, limit: Duration, expression: &str) {
        let script = format!("return Boolean({expression})");
        let shown = || self.run("return document.body.innerText").to_string();
        let deadline = std::time::Instant::now() + limit;
        while self.run(&script) != true {
            let late = std::time::Instant::now() >= deadline;
            assert!(!late, "not within {limit:?}: {expression}\n{}", shown());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The first element that matches a CSS selector.
    #[must_use]
    pub fn find(&self, selector: &str) -> Element {
        let found = json!({"using": "css selector", "value": selector});
        let found = self.command("POST", "/element", &found);
        Element(found[ELEMENT].as_str().expect("an element").to_owned())
    }

    /// Clicks an element with the pointer.
    pub fn click(&self, element: &Element) {
        self.command("POST", &format!("/element/{}/click", element.0), &json!({}));
    }

    /// The element's accessible name.
    #[must_use]
    pub fn label(&self, element: &Element) -> String {
        self.get(&format!("/element/{}/computedlabel", element.0))
    }

    /// The element's accessible role.
    #[must_use]
    pub fn role(&self, element: &Element) -> String {
        self.get(&format!("/element/{}/computedrole", element.0))
    }

    fn get(&self, path: &str) -> String {
        self.command("GET", path, &Value::Null).as_str().unwrap_or_default().to_owned()
    }

    /// Presses keys one by one.
    pub fn press(&self, keys: &[&str]) {
        let press = |key: &&str| {
            [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})]
        };
        let presses: Vec<Value> = keys.iter().flat_map(press).collect();
        let keyboard = json!({"type": "key", "id": "keyboard", "actions": presses});
        self.command("POST", "/actions", &json!({"actions": [keyboard]}));
    }

    /// A command of the DevTools protocol.
    pub fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.command("POST", "/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    /// Sets a feature of media queries.
    pub fn prefer(&self, feature: &str, value: &str) {
        let features = json!({"features": [{"name": feature, "value": value}]});
        self.devtools("Emulation.setEmulatedMedia", &features);
    }

    /// Sets the size of the page's window.
    pub fn resize(&self, width: u32, height: u32) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// A screenshot as PNG.
    #[must_use]
    pub fn screenshot(&self) -> Vec<u8> {
        from_base64(&self.get("/screenshot"))
    }

    /// The page's console messages since the last call, with the page's own errors.
    #[must_use]
    pub fn console(&self) -> Vec<String> {
        let entries = self.command("POST", "/se/log", &json!({"type": "browser"}));
        let entries = entries.as_array().cloned().unwrap_or_default();
        entries.iter().map(|entry| entry["message"].to_string()).collect()
    }

    /// The URLs that the page requested since the last call.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        let entries = self.command("POST", "/se/log", &json!({"type": "performance"}));
        let entries = entries.as_array().cloned().unwrap_or_default();
        let events = entries.iter().filter_map(|entry| {
            let event: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let event = &event["message"];
            let sent = event["method"] == "Network.requestWillBeSent";
            sent.then(|| event["params"]["request"]["url"].as_str().unwrap_or_default().to_owned())
        });
        events.collect()
    }
}

/// Decodes valid base64 (RFC 4648, section 4).
fn from_base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'=').map(digit).collect();
    let three = |four: &[u8]| {
        let number = (0..4).fold(0_u32, |n, at| n << 6 | u32::from(*four.get(at).unwrap_or(&0)));
        number.to_be_bytes()[1..four.len()].to_vec()
    };
    digits.chunks(4).flat_map(three).collect()
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let _ = self.try_command("DELETE", "", &Value::Null);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        // A failing test does not wait for the browser's end.
        if !std::thread::panicking() {
            let address = self.address;
            wait_until(PATIENCE, "the driver is gone", || match &self.inside {
                Some(namespace) => namespace.within(|| TcpStream::connect(address).is_err()),
                None => TcpStream::connect(address).is_err(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::from_base64;

    #[test]
    fn base64_of_any_length_is_decoded() {
        for (text, bytes) in
            [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYg==", "foob")]
        {
            assert_eq!(from_base64(text), bytes.as_bytes());
        }
        assert_eq!(from_base64("+/8="), [0xfb, 0xff]);
    }
}
