#!/bin/sh
# Shows, claim by claim, why 002-own-apns-client.md and 003-own-fcm-client.md do not use the crates
# a2 and fcm. Needs cargo and its registry; works in a folder of its own and removes it.
# Exit status 0: every claim holds.
set -eu

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# claim TEXT COMMAND…: says whether the command succeeds.
claim() {
    text=$1
    shift
    if "$@" >"$work/out" 2>&1; then
        echo "holds   $text"
    else
        echo "FAILS   $text"
        sed 's/^/        /' "$work/out"
        failed=1
    fi
}
# absent PATTERN FOLDER: nothing there matches.
absent() { ! grep -rniE "$1" "$2"; }
# present PATTERN FOLDER
present() { grep -rnE "$1" "$2"; }
# locked PACKAGE VERSION: the lock file has that version line.
locked() { cargo tree --quiet --prefix none --edges normal --package "$1" 2>/dev/null | grep -E "^$2"; }

mkdir -p "$work/crate/src"
cd "$work/crate"
cat >Cargo.toml <<'TOML'
[package]
name = "push-crates"
version = "0.0.0"
edition = "2021"

[dependencies]
a2 = "=0.10.0"
serde_json = "1"

# Only locked and read, not compiled: it wants OpenSSL's headers.
[target.'cfg(any())'.dependencies]
fcm = "=0.9.2"
TOML
cat >src/main.rs <<'RUST'
//! Reads refusals that APNs documents as a2 does.
fn main() {
    let mut lost = 0;
    for reason in [
        "ExpiredToken",
        "InvalidPushType",
        "UnrelatedKeyIdInToken",
        "BadEnvironmentKeyIdInToken",
    ] {
        let body = format!(r#"{{"reason":"{reason}"}}"#);
        if serde_json::from_str::<a2::ErrorBody>(&body).is_err() {
            println!("lost: {reason}");
            lost += 1;
        }
    }
    std::process::exit(i32::from(lost != 4));
}
RUST
cargo generate-lockfile --quiet
cargo fetch --quiet
sources=$(cargo metadata --format-version 1 | tr ',' '\n' | sed -n 's/.*"manifest_path":"\(.*\)\/Cargo.toml".*/\1/p')
a2=$(echo "$sources" | grep '/a2-0\.10\.0$')/src
fcm=$(echo "$sources" | grep '/fcm-0\.9\.2$')/src

echo "a2 0.10.0"
claim "its endpoints are two fixed hosts" \
    sh -c "grep -n 'enum Endpoint' -A 6 '$a2/client.rs' | grep -c '(api' | grep -x 2"
claim "no constructor takes a URL, a CA, a server name or a connector" \
    absent 'pub (async )?fn .*(url|root|ca_|server_name|sni|connector)' "$a2/client.rs"
claim "roots are those compiled in" present 'with_webpki_roots' "$a2"
claim "it never reads Retry-After" absent 'retry.?after' "$a2"
claim "it never sends PING" absent 'keep_alive|http2_keep' "$a2"
claim "it loses reasons that APNs documents" cargo run --quiet
claim "it locks rustls 0.22" locked a2@0.10.0 'rustls v0\.22\.'
claim "and with it rustls-webpki 0.102, which the fixes of RUSTSEC-2026-0049, -0098, -0099 and -0104 left out" \
    locked a2@0.10.0 'rustls-webpki v0\.102\.'

echo "fcm 0.9.2"
claim "it posts to the legacy endpoint" present 'https://fcm\.googleapis\.com/fcm/send' "$fcm"
claim "it has no HTTP v1" absent 'v1/projects|messages:send' "$fcm"
claim "it has no OAuth2: it sends a server key" absent 'oauth|service_account|jwt' "$fcm"
claim "the server key goes into Authorization" present 'key=' "$fcm"

exit $failed
