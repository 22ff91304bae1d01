#!/usr/bin/env bash
# Asks a running gateway all that its API's description allows, and much that it forbids.
# usage: tests/admin/schemathesis.sh ROUSE SCHEMATHESIS
set -euo pipefail
rouse=$(realpath "$1") schemathesis=$(realpath -s "$2")
description=$(realpath "$(dirname "$0")/../../docs/openapi.json")
folder=$(mktemp -d)
cd "$folder" # it leaves notes where it runs
gateway=
trap '[ -z "$gateway" ] || kill "$gateway" 2>/dev/null; rm -rf "$folder"' EXIT

token=0123456789abcdef0123456789abcdef
echo "$token" >"$folder/token"
cat >"$folder/rouse.toml" <<END
workers = 2
[[listen]]
transport = "udp"
address = "127.0.0.1:0"
[[upstream]]
name = "pbx"
domains = ["*"]
nodes = ["sip:127.0.0.1:9;transport=udp"]
[store]
path = "$folder/store"
[admin]
address = "127.0.0.1:0"
token_file = "$folder/token"
END
: >"$folder/out" # it is read before the gateway's shell has made it
"$rouse" serve --config "$folder/rouse.toml" >"$folder/out" 2>"$folder/log" &
gateway=$!
for _ in $(seq 200); do
    address=$(sed -n 's/^operators are served on //p' "$folder/out")
    [ -z "$address" ] || break
    kill -0 "$gateway" || { cat "$folder/log"; exit 1; }
    sleep 0.05
done

# Events and captures never end, and a gateway that drains is not ready: tests/admin has both.
"$schemathesis" run "$description" --url "http://$address" \
    --header "Authorization: Bearer $token" --exclude-path /api/events --exclude-path /api/capture --exclude-path /api/drain \
    --max-examples "${EXAMPLES:-40}" --seed 1 --workers 1 --rate-limit 80/s --no-color --max-response-time 5

kill -0 "$gateway" || { echo "the gateway has ended"; cat "$folder/log"; exit 1; }
