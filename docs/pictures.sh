#!/usr/bin/env bash
# Makes the pictures in docs/pictures from a gateway with invented traffic: docs/pictures.sh [ROUSE]
# Wants Chromium and python3.
set -euo pipefail
cd "$(dirname "$0")/.."

rouse=${1:-target/debug/rouse}
at=127.0.0.1:18061
log=$(mktemp)
"$rouse" demo --serve --admin $at >"$log" 2>&1 & pid=$!
trap 'kill $pid 2>/dev/null || true; rm -f "$log"' EXIT

# The last call that was answered by a phone that had to be woken, once one phone did not wake too.
story() {
    python3 - "http://$at/api/calls" <<'PYTHON'
import json, sys, urllib.request
try:
    calls = json.load(urllib.request.urlopen(sys.argv[1]))["calls"]
except OSError:
    sys.exit(1)
woken = [call["id"] for call in calls if call["outcome"] == "answered" and call["wake_ms"]]
if len(calls) < 15 or not woken or not any(call["outcome"] == "unreachable" for call in calls):
    sys.exit(1)
print(woken[0])
PYTHON
}
until id=$(story); do
    kill -0 $pid 2>/dev/null || { cat "$log" >&2; exit 1; }
    read -rt 1 <> <(:) || true
done

picture() { # NAME WIDTH HEIGHT VIEW [OPTION]
    chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size="$2,$3" ${5:-} \
        --virtual-time-budget=9000 --screenshot="docs/pictures/$1.png" "http://$at/#$4" 2>/dev/null
    echo "docs/pictures/$1.png"
}
mkdir -p docs/pictures
picture now 1280 1000 /
picture call 1280 760 "/call/$id"
picture call-dark 1280 760 "/call/$id" --blink-settings=preferredColorScheme=0
picture phone 500 900 /devices
