//! A real browser without a screen: Chromium, driven by its WebDriver (W3C WebDriver).

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// A browser that starts on a busy machine takes a while.
const PATIENCE: Duration = Duration::from_secs(60);

/// WebDriver's names of keys that are no characters.
pub(crate) const ENTER: &str = "\u{e007}";

/// One window.
pub(crate) struct Browser {
    port: u16,
    session: String,
    _driver: Child,
}

impl Browser {
    /// Opens a window of this size, in pixels.
    pub(crate) async fn open(width: u32, height: u32, is_dark: bool) -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("chromedriver (Debian's chromium-driver)");
        let output = driver.stdout.take().expect("its output");
        let mut lines = BufReader::new(output).lines();
        let port = loop {
            let line = lines.next_line().await.expect("a line").expect("its port");
            let port = line.split_once("successfully on port ");
            if let Some((_, port)) = port {
                break port.trim_end_matches('.').parse().expect("a number");
            }
        };
        let mut browser = Self {
            port,
            session: String::new(),
            _driver: driver,
        };
        let mut arguments = vec![
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            format!("--window-size={width},{height}"),
        ];
        if is_dark {
            arguments.push("--blink-settings=preferredColorScheme=0".to_owned());
        }
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let made = browser.call("POST", "/session", &wanted).await;
        browser.session = made["sessionId"].as_str().expect("a session").to_owned();
        browser
    }

    pub(crate) async fn go(&self, url: &str) {
        self.post("/url", &json!({"url": url})).await;
    }

    /// What a function's body returns on the page.
    pub(crate) async fn script(&self, body: &str) -> Value {
        self.post("/execute/sync", &json!({"script": body, "args": []}))
            .await
    }

    /// Waits until an expression is true on the page.
    pub(crate) async fn until(&self, expression: &str) {
        let asking = async {
            while self.script(&format!("return !!({expression})")).await != true {
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(PATIENCE, asking).await.is_err() {
            let text = self.script("return document.body.innerText").await;
            panic!("never so: {expression}\n{}", text.as_str().unwrap_or(""));
        }
    }

    /// Waits until the page has this text.
    pub(crate) async fn sees(&self, text: &str) {
        self.until(&format!("document.body.innerText.includes({text:?})"))
            .await;
    }

    /// Types on the keyboard, wherever the focus is.
    pub(crate) async fn type_keys(&self, text: &str) {
        let strokes = text.chars().flat_map(|key| {
            ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key.to_string()}))
        });
        let strokes: Vec<Value> = strokes.collect();
        let actions = json!({"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]});
        self.post("/actions", &actions).await;
    }

    /// What the browser complained of: errors of scripts, and what the policy forbade.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let entries = self.post("/se/log", &json!({"type": "browser"})).await;
        let entries = entries.as_array().cloned().unwrap_or_default();
        let severe = entries.iter().filter(|entry| entry["level"] == "SEVERE");
        let messages = severe.map(|entry| entry["message"].to_string());
        // That the token was asked for is no complaint about the page.
        messages
            .filter(|message| !message.contains("status of 401"))
            .collect()
    }

    /// Keeps a picture of the page below the target folder, for people to look at.
    pub(crate) async fn picture(&self, name: &str) {
        let picture = self.call("GET", "/screenshot", &Value::Null).await;
        let picture = STANDARD.decode(picture.as_str().expect("a picture"));
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("dashboard");
        std::fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join(format!("{name}.png"));
        std::fs::write(path, picture.expect("base64")).expect("a file");
    }

    pub(crate) async fn close(self) {
        self.call("DELETE", "", &Value::Null).await;
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        self.call("POST", path, body).await
    }

    async fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let session = match self.session.as_str() {
            "" => String::new(),
            session => format!("/session/{session}"),
        };
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("{session}{path}"))
            .header("Host", format!("127.0.0.1:{}", self.port))
            .header("Content-Type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .expect("a request");
        let asking = async {
            let stream = TcpStream::connect(("127.0.0.1", self.port)).await;
            let stream = TokioIo::new(stream.expect("the driver"));
            let (mut sender, connection) = http1::handshake(stream).await.expect("HTTP");
            let (answer, _) = tokio::join!(
                async move {
                    let answer = sender.send_request(request).await.expect("an answer");
                    let (head, body) = answer.into_parts();
                    (
                        head.status,
                        body.collect().await.expect("a body").to_bytes(),
                    )
                },
                connection
            );
            answer
        };
        let answer = tokio::time::timeout(PATIENCE, asking).await;
        let (status, body) = answer.unwrap_or_else(|_| panic!("{method} {path}: no answer"));
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        assert!(status.is_success(), "{method} {path}: {body:#}");
        body["value"].clone()
    }
}
