//! Reading across documents over HTTP.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use support::{PREFIX, PROCESS, Service};

async fn get(service: &Service, path: &str) -> Value {
    let answer = service.get(&format!("{PREFIX}{path}")).await;
    assert_eq!(answer.status, 200, "{path}: {:?}", answer.bytes);
    answer.json()
}

#[tokio::test]
async fn a_search_finds_chunks_page_by_page_and_marks_the_words() {
    let service = Service::new();
    let older = service.add("%PDF- one").await;
    let newer = service.add("%PDF- two").await;
    service.get(PROCESS).await;
    let all = get(&service, "/search?q=SOMETHING%20say&limit=500").await;
    assert_eq!(all["next"], Value::Null);
    let all = all["hits"].as_array().unwrap();
    let first = &all[0];
    assert_eq!(
        (
            &first["document_id"],
            &first["ordinal"],
            &first["first_page"]
        ),
        (&json!(newer), &json!(0), &json!(1))
    );
    assert_eq!(all.last().unwrap()["document_id"], json!(older));
    let snippet: Vec<char> = first["snippet"].as_str().unwrap().chars().collect();
    let marks: Vec<[usize; 2]> = serde_json::from_value(first["marks"].clone()).unwrap();
    let marked = |[from, to]: [usize; 2]| snippet[from..to].iter().collect::<String>();
    assert_eq!(marked(marks[0]), "something");
    assert_eq!(marked(marks[1]), "say");

    let (mut one_by_one, mut after) = (Vec::new(), String::new());
    loop {
        let page = get(&service, &format!("/search?q=something+say&limit=1{after}")).await;
        one_by_one.extend(page["hits"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(&one_by_one, all);
    assert_eq!(get(&service, "/search?q=nowhere").await["hits"], json!([]));
    assert_eq!(get(&service, "/search?q=").await["hits"], json!([]));
    let other = get(&service, "/search?q=something&queue=other").await;
    assert_eq!(other["hits"], json!([]));
    for (query, status, kind) in [
        ("", 400, "malformed-request"),
        ("?q=a&after=b", 400, "malformed-request"),
        ("?q=a&page=1", 400, "malformed-request"),
        ("?q=a&limit=0", 422, "invalid-value"),
        (&format!("?q={}", "x".repeat(1001)), 422, "invalid-value"),
    ] {
        let answer = service.get(&format!("{PREFIX}/search{query}")).await;
        answer.problem(status, kind);
    }
}
