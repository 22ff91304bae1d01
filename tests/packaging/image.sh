#!/usr/bin/env bash
# Builds what the Dockerfile's last stage holds and runs it as an engine would, without one: in a root
# of its own, as the image's user, by its entry point: tests/packaging/image.sh PROGRAM. Needs root.
set -euo pipefail

program=$(realpath "$1")
top=$(realpath "$(dirname "$0")/../..")
fail() { echo "image: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "must be root"
root=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true; rm -rf "$root"' EXIT
chmod 755 "$root"
"$top/config/docker/root.sh" "$program" "$root"

kilobytes=$(du -sk --apparent-size "$root" | cut -f1)
echo "image: $kilobytes kB"
[ "$kilobytes" -lt "${LARGEST:-50000}" ] || fail "larger than ${LARGEST:-50000} kB"

from_dockerfile() { sed -n "s/^ *$1 *\\(.*\\)/\\1/p" "$top/Dockerfile" | tr -d '[],"'; }
user=$(from_dockerfile USER) folder=$(from_dockerfile WORKDIR | tail -1)
entry=$(from_dockerfile ENTRYPOINT) command=$(sed -n 's/^CMD *//p' "$top/Dockerfile" | tr -d '[],"')
health=$(sed -n 's/^ \+CMD *//p' "$top/Dockerfile" | tr -d '[],"')
[ "${user%%:*}" != 0 ] || fail "it runs as root"

# What a mounted configuration would be.
port=$((20000 + RANDOM % 10000))
cat >"$root/opt/rouse/config/rouse.toml" <<END
workers = 1
[[listen]]
transport = "udp"
address = "127.0.0.1:$port"
[[upstream]]
name = "pbx"
domains = ["*"]
nodes = ["sip:127.0.0.1:9;transport=udp"]
[store]
path = "data/store"
END
inside() { env -i "$(command -v chroot)" --userspec="$user" "$root" "$entry" "$@"; }
[ "$entry" = /usr/bin/rouse ] || fail "the entry point is $entry"
[ "${health%% *}" = "$entry" ] || fail "the health check runs ${health%% *}"
# chroot goes to the new root; the paths of the commands count from WORKDIR.
absolute() { echo "$1" | sed "s#config/rouse.toml#$folder/config/rouse.toml#"; }
sed -i "s#data/store#$folder/data/store#" "$root/opt/rouse/config/rouse.toml"
# exec: the signal is for the program, not for a shell around it.
(exec env -i "$(command -v chroot)" --userspec="$user" "$root" "$entry" $(absolute "$command")) \
    >"$root/log" 2>&1 & pid=$!
for _ in $(seq 100); do
    if inside $(absolute "${health#"$entry"}") >/dev/null 2>&1; then break; fi
    kill -0 "$pid" 2>/dev/null || { cat "$root/log" >&2; fail "it ended by itself"; }
    read -rt 0.1 <> <(:) || true
done
inside $(absolute "${health#"$entry"}") || { cat "$root/log" >&2; fail "it is not healthy"; }
[ "$(stat -c %u "$root/opt/rouse/data/store")" = "${user%%:*}" ] || fail "the store is somebody else's"
kill -TERM "$pid"
code=0; wait "$pid" || code=$?
pid=
[ "$code" = 0 ] || fail "its exit code after SIGTERM is $code"
if inside $(absolute "${health#"$entry"}") >/dev/null 2>&1; then fail "healthy though it has ended"; fi
echo "image: all well"
