//! Public lists: newest, found; what they share with the rankings.

use std::time::Duration;

use serde_json::Value;

use crate::app::{TestApp, User, text};

pub(crate) fn titles(page: &Value) -> Vec<String> {
    page["items"].as_array().expect("items").iter().map(|video| text(&video["title"]).to_owned()).collect()
}

/// Public videos, one millisecond apart.
pub(crate) async fn publish(app: &TestApp, owner: &User, names: &[&str]) {
    for name in names {
        app.ready(owner, name, "public").await;
        app.clock.advance(Duration::from_millis(1));
    }
}

/// Every page from `path` on, by the `Link` of each.
pub(crate) async fn walk(app: &TestApp, path: &str) -> Vec<Vec<String>> {
    let (mut pages, mut next) = (Vec::new(), Some(path.to_owned()));
    while let Some(path) = next {
        let answer = app.get(&path).send().await.expect(200);
        let page = answer.json();
        pages.push(titles(&page));
        let link = answer.headers.get("link").map(|_| answer.header("link").to_owned());
        assert_eq!(page["next_cursor"].is_string(), link.is_some());
        next = link.map(|link| {
            let target = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\"")).expect("a link");
            assert!(target.ends_with(&format!("cursor={}", text(&page["next_cursor"]))), "{target}");
            target.to_owned()
        });
    }
    pages
}

#[tokio::test]
async fn public_videos_are_listed_newest_first_page_by_page() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    publish(&app, &ada, &["1", "2", "3", "4", "5"]).await;
    app.ready(&ada, "private", "private").await;
    app.ready(&ada, "unlisted", "unlisted").await;
    app.draft(&ada, "draft", "public").await;
    let pages = walk(&app, "/api/v1/videos?limit=2").await;
    assert_eq!([["5", "4"].as_slice(), &["3", "2"], &["1"]], *pages);
    let first = app.get("/api/v1/videos?limit=1").send().await.expect(200);
    insta::assert_json_snapshot!(first.redacted());
    assert!(first.header("etag").starts_with("W/\""));
    let same = app.get("/api/v1/videos?limit=1").header("if-none-match", first.header("etag")).send().await.expect(304);
    assert_eq!((0, first.header("link")), (same.body.len(), same.header("link")));
    app.finish().await;
}

#[tokio::test]
async fn videos_of_the_same_millisecond_are_neither_repeated_nor_skipped() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    for name in ["1", "2", "3", "4", "5"] {
        app.ready(&ada, name, "public").await;
    }
    let mut all: Vec<_> = walk(&app, "/api/v1/videos?limit=2").await.concat();
    all.sort();
    assert_eq!(["1", "2", "3", "4", "5"], *all);
    app.finish().await;
}

#[tokio::test]
async fn a_page_has_1_to_100_items() {
    let app = TestApp::start().await;
    for path in ["/api/v1/videos", "/api/v1/videos/popular", "/api/v1/videos/trending", "/api/v1/search?q=a"] {
        let and = if path.contains('?') { '&' } else { '?' };
        for good in ["1", "100"] {
            app.get(&format!("{path}{and}limit={good}")).send().await.expect(200);
        }
        for bad in ["0", "101", "-1", "x", "", "65536", "1&limit=2", "1.5", "%ff"] {
            let answer = app.get(&format!("{path}{and}limit={bad}")).send().await;
            assert_eq!("invalid_query", answer.problem(400), "{path} {bad}");
        }
    }
    insta::assert_json_snapshot!(app.get("/api/v1/videos?limit=101").send().await.redacted());
    app.finish().await;
}

#[tokio::test]
async fn a_cursor_opens_only_the_list_it_came_from() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    publish(&app, &ada, &["cat one", "cat two"]).await;
    let cursor = async |path: &str| text(&app.get(path).send().await.expect(200).json()["next_cursor"]).to_owned();
    let (newest, found) = (cursor("/api/v1/videos?limit=1").await, cursor("/api/v1/search?q=cat&limit=1").await);
    let foreign = [
        format!("/api/v1/videos?cursor={found}"),
        format!("/api/v1/search?q=cat&cursor={newest}"),
        format!("/api/v1/search?q=dog&cursor={found}"),
        format!("/api/v1/videos?cursor={newest}x"),
        format!("/api/v1/videos?cursor={}", &newest[1..]),
        "/api/v1/videos?cursor=".to_owned(),
        "/api/v1/videos?cursor=%00".to_owned(),
    ];
    for path in foreign {
        assert_eq!("bad_cursor", app.get(&path).send().await.problem(400), "{path}");
    }
    let long = format!("/api/v1/videos?cursor={}", "a".repeat(201));
    assert_eq!("invalid_query", app.get(&long).send().await.problem(400));
    insta::assert_json_snapshot!(app.get("/api/v1/videos?cursor=x").send().await.redacted());
    app.finish().await;
}

#[tokio::test]
async fn search_finds_words_wherever_they_stand_and_knows_no_grammar() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    publish(&app, &ada, &["Big buck bunny", "Sintel", "Über Bäume"]).await;
    let find = async |q: &str| {
        let answer = app.get(&format!("/api/v1/search?q={q}")).send().await.expect(200);
        titles(&answer.json())
    };
    assert_eq!(["Big buck bunny"], *find("bunny+BIG").await);
    assert_eq!(["Big buck bunny"], *find("bun").await);
    assert_eq!(["Sintel"], *find("%22sintel*").await);
    assert_eq!(["Über Bäume"], *find("%C3%BCber").await);
    for nothing in ["big+sintel", "title:sintel+OR+big", "sintel+NOT+x", "NEAR(big+sintel)"] {
        assert!(find(nothing).await.is_empty(), "{nothing}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_search_needs_a_letter_or_digit() {
    let app = TestApp::start().await;
    for bad in ["?q=", "?q=%22*%22", "?q=%20", "", &*format!("?q={}", "a".repeat(201)), "?q=%ff", "?q=a&x=1"] {
        let answer = app.get(&format!("/api/v1/search{bad}")).send().await;
        assert_eq!("invalid_query", answer.problem(400), "{bad}");
    }
    insta::assert_json_snapshot!(app.get("/api/v1/search?q=%22").send().await.redacted());
    app.finish().await;
}

#[tokio::test]
async fn search_pages_by_links() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    publish(&app, &ada, &["cat 1", "cat 2", "cat 3"]).await;
    let pages = walk(&app, "/api/v1/search?q=cat&limit=2").await;
    let mut all = pages.concat();
    all.sort();
    assert_eq!((2, vec!["cat 1".to_owned(), "cat 2".to_owned(), "cat 3".to_owned()]), (pages.len(), all));
    app.finish().await;
}

#[tokio::test]
async fn what_is_hidden_leaves_every_list_at_once() {
    let app = TestApp::start().await;
    let ada = app.user("ada").await;
    let video = app.ready(&ada, "A film", "public").await;
    let lists = ["/api/v1/videos", "/api/v1/videos/popular", "/api/v1/videos/trending", "/api/v1/search?q=film"];
    let listed = async || {
        let mut listed = Vec::new();
        for list in lists {
            listed.push(titles(&app.get(list).send().await.expect(200).json()).len());
        }
        listed
    };
    assert_eq!([1, 1, 1, 1], *listed().await);
    let path = format!("/api/v1/videos/{}", text(&video["id"]));
    let private = serde_json::json!({"visibility": "private"});
    app.patch(&path).by(&ada).header("if-match", "*").json(&private).send().await.expect(200);
    assert_eq!([0, 0, 0, 0], *listed().await);
    app.get(&path).send().await.expect(404);
    app.finish().await;
}
