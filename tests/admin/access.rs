//! Who may ask, and what strangers get.

use rouse::io::admin::{AdminError, Settings};

use crate::rig::{Rig, TOKEN};

#[tokio::test]
async fn only_the_holder_of_the_token_may_ask() {
    let rig = Rig::new().await;
    let wrong = [
        String::new(),
        "Authorization: Bearer \r\n".to_owned(),
        format!("Authorization: Bearer {TOKEN}0\r\n"),
        format!("Authorization: Bearer {}\r\n", TOKEN.to_uppercase()),
        format!("Authorization: Basic {TOKEN}\r\n"),
        format!("X-Token: {TOKEN}\r\n"),
    ];
    for headers in wrong {
        for path in ["/api/calls", "/metrics", "/api/nothing"] {
            let answer = rig.ask("GET", path, &headers).await;
            assert_eq!(answer.status, 401, "{path} {headers}");
            assert!(
                answer
                    .header("www-authenticate")
                    .is_some_and(|how| how.starts_with("Bearer"))
            );
            assert_eq!(
                answer.header("content-type"),
                Some("application/problem+json")
            );
            assert_eq!(answer.json()["status"], 401);
        }
    }
    for headers in [
        format!("Authorization: Bearer {TOKEN}\r\n"),
        format!("authorization: bearer {TOKEN}\r\n"),
    ] {
        assert_eq!(rig.ask("GET", "/api/calls", &headers).await.status, 200);
    }
    // A probe needs none.
    assert_eq!(rig.ask("GET", "/healthz", "").await.body, "ok\n");
    assert_eq!(rig.ask("GET", "/readyz", "").await.status, 200);
}

#[tokio::test]
async fn whoever_tries_tokens_is_soon_told_to_wait() {
    let rig = Rig::new().await;
    let mut last = 0;
    for number in 0..40 {
        let headers = format!("Authorization: Bearer {number}\r\n");
        last = rig.ask("GET", "/api/calls", &headers).await.status;
    }
    assert_eq!(last, 429);
    assert_eq!(
        rig.get("/api/calls").await.status,
        200,
        "the operator is not kept out"
    );
}

#[tokio::test]
async fn without_a_token_no_other_sites_page_may_ask() {
    let rig = Rig::with("", "", 1).await;
    assert_eq!(rig.ask("GET", "/api/calls", "").await.status, 200);
    let foreign = "Origin: https://evil.example\r\n";
    assert_eq!(rig.ask("POST", "/api/drain", foreign).await.status, 403);
    let own = format!("Origin: http://{}\r\n", rig.api);
    assert_eq!(rig.ask("POST", "/api/push/nobody", &own).await.status, 404);
}

#[tokio::test]
async fn every_answer_says_how_it_may_be_used() {
    let rig = Rig::new().await;
    for path in ["/", "/api/calls", "/nothing", "/healthz"] {
        let answer = rig.get(path).await;
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    assert_eq!(
        rig.get("/").await.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(rig.get("/../Cargo.toml").await.status, 404);
    assert_eq!(rig.post("/api/calls").await.status, 405);
    assert_eq!(rig.get("/api/calls?limit=0").await.status, 400);
    assert_eq!(rig.get("/api/calls?colour=red").await.status, 400);
    assert_eq!(rig.get("/api/devices?after=").await.status, 400);
}

#[test]
fn an_open_address_without_a_token_is_not_listened_on() {
    let settings = Settings {
        address: "0.0.0.0:0".parse().expect("an address"),
        token: None,
        tls: None,
    };
    let refused = settings.check();
    assert!(matches!(refused, Err(AdminError::Open(_))), "{refused:?}");
}
