//! The API's description is the one that is checked in.

use std::path::Path;

use crate::rig::Rig;

#[test]
fn the_description_is_checked_in() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let made = rouse::io::admin::openapi();
    if std::env::var_os("ROUSE_BLESS").is_some() {
        std::fs::write(&path, &made).expect("the file");
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        known == made,
        "docs/openapi.json is not what the program says: ROUSE_BLESS=1 cargo test --test admin"
    );
}

#[tokio::test]
async fn the_description_is_served() {
    let rig = Rig::new().await;
    let answer = rig.get("/api/openapi.json").await;
    assert_eq!(answer.status, 200);
    let description = answer.json();
    assert_eq!(description["openapi"], "3.1.0");
    // What is described is there, whatever it says to a stranger's parameters.
    for (path, methods) in description["paths"].as_object().expect("paths") {
        let path = path.replace("{id}", "0").replace("{agent}", "nobody");
        for method in methods.as_object().expect("methods").keys() {
            if path == "/api/events" || path == "/api/drain" {
                continue;
            }
            let answer = rig.ask(&method.to_uppercase(), &path, &bearer()).await;
            assert_ne!(answer.status, 405, "{method} {path}");
            let is_there = !answer.body.contains("no such path");
            assert!(is_there, "{method} {path}");
        }
    }
}

fn bearer() -> String {
    format!("Authorization: Bearer {}\r\n", crate::rig::TOKEN)
}
