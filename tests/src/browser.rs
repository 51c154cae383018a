//! A real browser without a window.

use std::process::Stdio;
use std::time::{Duration, Instant};

use fantoccini::wd::TimeoutConfiguration;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::server::PATIENCE;

/// A Chromium of its own. [`close`](Self::close) ends it; dropping it ends its driver too.
#[derive(Debug)]
pub struct Browser {
    /// For what this type has no word for.
    pub client: Client,
    _driver: Child,
}

/// How a browser is set up. Default: a wide window, light, with JavaScript.
#[derive(Debug, Clone, Copy)]
pub struct Looks {
    /// Width and height of the window.
    pub window: (u32, u32),
    /// Whether it prefers a dark theme.
    pub dark: bool,
    /// Whether pages may run scripts.
    pub scripts: bool,
}

impl Default for Looks {
    fn default() -> Self {
        Self {
            window: (1280, 900),
            dark: false,
            scripts: true,
        }
    }
}

impl Browser {
    /// Starts a browser.
    ///
    /// # Panics
    /// Where Chromium or its driver does not start: `scripts/setup.sh test` installs both.
    pub async fn start(looks: Looks) -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("chromedriver is there: scripts/setup.sh test installs it");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = loop {
            let line = lines.next_line().await.unwrap();
            let line = line.expect("chromedriver says which port it took");
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break port.trim_end_matches('.').to_owned();
            }
        };
        // Or it would stop at a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let (width, height) = looks.window;
        let mut args = vec![
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--hide-scrollbars".to_owned(),
            format!("--window-size={width},{height}"),
        ];
        if looks.dark {
            args.push("--blink-settings=preferredColorScheme=0".to_owned());
        }
        let mut options = json!({ "args": args });
        if !looks.scripts {
            let setting = "profile.managed_default_content_settings.javascript";
            options["prefs"] = json!({ setting: 2 });
        }
        let Value::Object(capabilities) = json!({ "goog:chromeOptions": options }) else {
            unreachable!("it is written as an object");
        };
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .unwrap();
        let timeouts = TimeoutConfiguration::new(Some(PATIENCE), Some(PATIENCE), None);
        client.update_timeouts(timeouts).await.unwrap();
        Self {
            client,
            _driver: driver,
        }
    }

    /// Opens a page.
    ///
    /// # Panics
    /// Where it cannot be opened.
    pub async fn open(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    /// What a script in the page answers: the body of a function.
    ///
    /// # Panics
    /// Where it throws.
    pub async fn run(&self, script: &str) -> Value {
        self.client.execute(script, Vec::new()).await.unwrap()
    }

    /// The text of the page as somebody sees it.
    ///
    /// # Panics
    /// Where there is no page.
    pub async fn text(&self) -> String {
        let body = self.client.find(Locator::Css("body")).await.unwrap();
        body.text().await.unwrap()
    }

    /// Waits until the first element of this kind is there, and clicks on it.
    ///
    /// # Panics
    /// Where it never is.
    pub async fn click(&self, css: &str) {
        let wait = self.client.wait().at_most(PATIENCE);
        let element = wait.for_element(Locator::Css(css)).await.unwrap();
        element.click().await.unwrap();
    }

    /// Asks a script again and again until it answers with true.
    ///
    /// # Panics
    /// Where it never does.
    pub async fn until(&self, condition: &str) {
        let started = Instant::now();
        let script = format!("return Boolean({condition})");
        while self.run(&script).await != Value::Bool(true) {
            assert!(
                started.elapsed() < PATIENCE,
                "never so: {condition}\n{}",
                self.text().await
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the page shows a text.
    ///
    /// # Panics
    /// Where it never does.
    pub async fn shows(&self, text: &str) {
        let started = Instant::now();
        loop {
            // The page may just be changing under the question.
            let body = self.client.find(Locator::Css("body")).await;
            if let Ok(body) = body
                && body.text().await.is_ok_and(|shown| shown.contains(text))
            {
                return;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "never shown: {text}\n{}",
                self.text().await
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A picture of the window, as PNG.
    ///
    /// # Panics
    /// Where there is none.
    pub async fn picture(&self) -> Vec<u8> {
        self.client.screenshot().await.unwrap()
    }

    /// Ends the browser.
    ///
    /// # Panics
    /// Where it does not end.
    pub async fn close(self) {
        self.client.close().await.unwrap();
    }
}
