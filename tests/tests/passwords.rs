//! Encrypted documents: what opens them reaches the child that reads them, and nobody else.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Output;

use kbqueue_tests::pdf::{LOCKED_PASSWORD, LOCKED_TEXT, locked_pdf, text_pdf};
use kbqueue_tests::program;
use kbqueue_tests::server::Server;
use reqwest::multipart::{Form, Part};
use serde_json::Value;
use tokio::process::Command;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER_KEY: &str = "/wECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const GUESS: &str = "a wrong guess of mine";

async fn upload(server: &Server, name: &str, password: Option<&str>) -> (u16, Value) {
    let mut form = Form::new();
    if let Some(password) = password {
        form = form.text("password", password.to_owned());
    }
    let form = form.part(
        "files",
        Part::bytes(locked_pdf()).file_name(name.to_owned()),
    );
    let request = server.http.post(server.api("/upload")).multipart(form);
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn take(server: &Server, name: &str, password: Option<&str>) -> String {
    let (status, answer) = upload(server, name, password).await;
    assert_eq!(status, 200, "{answer}");
    let id = &answer["documents"][0]["document_id"];
    id.as_str().unwrap().to_owned()
}

async fn ended(server: &Server, id: &str) -> Value {
    let ended =
        |document: &Value| ["completed", "failed"].contains(&document["status"].as_str().unwrap());
    server.wait_for(id, ended).await
}

/// Every file below the directory that has one of the words in it.
fn files_with(directory: &Path, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, words));
        } else if let Ok(bytes) = fs::read(&path) {
            let has = |word: &&&str| {
                bytes
                    .windows(word.len())
                    .any(|part| part == word.as_bytes())
            };
            found.extend(
                words
                    .iter()
                    .find(has)
                    .map(|word| format!("{word} in {}", path.display())),
            );
        }
    }
    found
}

#[tokio::test]
async fn a_password_opens_its_document_and_is_nowhere_to_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let env = [("RUST_LOG", "trace,hyper=off"), ("KBQUEUE_SECRET_KEY", KEY)];
    let server = Server::start_with(directory.path(), &[], &env).await;

    // In this order: each is another document, and none stands for the one after it.
    let missing = take(&server, "missing.pdf", None).await;
    let missing = ended(&server, &missing).await;
    let wrong = take(&server, "wrong.pdf", Some(GUESS)).await;
    let wrong = ended(&server, &wrong).await;
    let right = take(&server, "right.pdf", Some(LOCKED_PASSWORD)).await;
    let document = ended(&server, &right).await;

    for (failed, reason) in [
        (&missing, "needs a password"),
        (&wrong, "password is another one"),
    ] {
        let error = failed["error_message"].as_str().unwrap();
        assert!(
            failed["status"] == "failed" && error.contains(reason),
            "{error}"
        );
        assert_eq!(failed["retry_count"], 0, "no try can help");
    }
    assert_eq!(document["status"], "completed", "{document}");
    let text = server.chunks(&right).await[0]["text"].clone();
    assert_eq!(text, LOCKED_TEXT);

    let events = server.api(&format!("/events?document_id={right}"));
    let event = server
        .http
        .get(events)
        .send()
        .await
        .unwrap()
        .chunk()
        .await
        .unwrap()
        .unwrap();
    let said = format!(
        "{missing}{wrong}{document}{}",
        String::from_utf8_lossy(&event)
    );
    for secret in [LOCKED_PASSWORD, GUESS, KEY] {
        assert!(!said.contains(secret), "{said}");
    }
    server.terminate().await;
    let found = files_with(directory.path(), &[LOCKED_PASSWORD, GUESS, KEY]);
    assert!(found.is_empty(), "{found:?}");
    let log = fs::read_to_string(directory.path().join("server.log")).unwrap();
    assert!(
        log.contains("TRACE") || log.contains("DEBUG"),
        "all of it is logged"
    );
    assert!(log.contains("right.pdf"), "{log}");
}

#[tokio::test]
async fn without_a_key_a_password_is_refused_and_with_another_one_it_stays_shut() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--workers", "off"]).await;
    let (status, problem) = upload(&server, "a.pdf", Some(LOCKED_PASSWORD)).await;
    assert_eq!(status, 422, "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("KBQUEUE_SECRET_KEY") && !detail.contains(LOCKED_PASSWORD),
        "{detail}"
    );
    assert_eq!(server.get("/queue-status").await["queue"]["total"], 0);
    server.terminate().await;

    let flags = ["--workers", "off"];
    let server = Server::start_with(directory.path(), &flags, &[("KBQUEUE_SECRET_KEY", KEY)]).await;
    let id = take(&server, "a.pdf", Some(LOCKED_PASSWORD)).await;
    server.terminate().await;

    for (key, reason) in [
        (None, "set the secret key"),
        (Some(OTHER_KEY), "another secret key"),
    ] {
        let env: Vec<_> = key
            .map(|key| ("KBQUEUE_SECRET_KEY", key))
            .into_iter()
            .collect();
        let server = Server::start_with(directory.path(), &[], &env).await;
        let document = ended(&server, &id).await;
        let error = document["error_message"].as_str().unwrap();
        assert!(
            error.contains(reason) && error.contains("KBQUEUE_SECRET_KEY"),
            "{error}"
        );
        assert!(!error.contains(OTHER_KEY), "{error}");
        let retry = server.api(&format!("/documents/{id}/retry"));
        server.terminate().await;
        // Queued again for the next one.
        let server = Server::start(directory.path(), &["--workers", "off"]).await;
        let retry = retry.replace(&retry[..retry.find("/api").unwrap()], &server.url);
        let answer = server.http.post(retry).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        server.terminate().await;
    }
    let server = Server::start_with(directory.path(), &[], &[("KBQUEUE_SECRET_KEY", KEY)]).await;
    assert_eq!(ended(&server, &id).await["status"], "completed");
}

async fn kbq(directory: &Path, key: Option<&str>, args: &[&str]) -> Output {
    let mut command = Command::new(program::build("kbqueue-cli", "kbq"));
    command
        .args(["--store", "sqlite:kbqueue.db", "--blobs", "file:blobs"])
        .args(args);
    command
        .current_dir(directory)
        .env_remove("KBQUEUE_SECRET_KEY");
    command.env("KBQUEUE_PDFIUM", program::pdfium());
    command.envs(key.map(|key| ("KBQUEUE_SECRET_KEY", key)));
    command.output().await.unwrap()
}

#[tokio::test]
async fn the_tool_reads_passwords_from_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    fs::write(directory.join("locked.pdf"), locked_pdf()).unwrap();
    fs::write(directory.join("open.pdf"), text_pdf(1)).unwrap();
    fs::write(
        directory.join("password.txt"),
        format!("{LOCKED_PASSWORD}\n"),
    )
    .unwrap();
    let add = [
        "add",
        "locked.pdf",
        "open.pdf",
        "--password-file",
        "password.txt",
    ];
    let refused = kbq(directory, None, &add).await;
    let reason = String::from_utf8(refused.stderr).unwrap();
    assert!(
        !refused.status.success() && reason.contains("KBQUEUE_SECRET_KEY"),
        "{reason}"
    );
    assert!(kbq(directory, Some(KEY), &add).await.status.success());
    // A document that is not encrypted opens whatever it was given.
    let work = kbq(directory, Some(KEY), &["work", "--drain"]).await;
    assert!(
        work.status.success(),
        "{}",
        String::from_utf8_lossy(&work.stderr)
    );
    fs::remove_file(directory.join("password.txt")).unwrap();
    assert_eq!(
        files_with(directory, &[LOCKED_PASSWORD]),
        Vec::<String>::new()
    );
}
