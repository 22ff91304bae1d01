#!/usr/bin/env bash
# Installs a Debian package, runs the unit's own command line as the unit's user, stops it, upgrades
# over it, removes and purges it: tests/packaging/deb.sh FILE.deb. Needs root and no systemd.
set -euo pipefail

deb=$(realpath "$1")
fail() { echo "deb: $*" >&2; exit 1; }
is() { [ "$2" = "$3" ] || fail "$1: $2, not $3"; }

[ "$(id -u)" = 0 ] || fail "must be root"
if dpkg-query -W rouse >/dev/null 2>&1; then fail "rouse is installed here already: remove it first"; fi
[ ! -e /etc/rouse ] || fail "/etc/rouse is there already"

trap 'dpkg --purge rouse >/dev/null 2>&1 || true' EXIT
dpkg --install "$deb" >/dev/null || apt-get -qq -y --fix-broken install >/dev/null

echo "deb: files and rights"
unit=$(dpkg -L rouse | grep '/rouse\.service$')
is "the state's rights" "$(stat -c '%U %a' /var/lib/rouse)" "rouse 700"
is "the keys' rights" "$(stat -c '%U:%G %a' /etc/rouse/certs)" "root:rouse 750"
is "the configuration's rights" "$(stat -c '%U:%G %a' /etc/rouse/rouse.toml)" "root:rouse 640"
dpkg-query --show --showformat='${Conffiles}\n' rouse | grep -q /etc/rouse/rouse.toml || fail "no conffile"
dpkg -L rouse | grep -q '/rouse\.socket$' || fail "no socket unit"
man=$(dpkg -L rouse | grep -c '/man1/rouse.*\.1\(\.gz\)\?$' || true)
[ "$man" -ge 10 ] || fail "$man pages of the manual"
bash -n /usr/share/bash-completion/completions/rouse || fail "the completions for bash do not hold"
grep -q '^#compdef rouse' /usr/share/zsh/vendor-completions/_rouse || fail "no completions for zsh"
su -s /bin/sh rouse -c 'rouse check --offline --config /etc/rouse/rouse.toml' >/dev/null ||
    fail "the configuration that is shipped does not hold"
if command -v systemd-analyze >/dev/null; then
    # Before systemd 253 Type=notify-reload is unknown; the unit says what to do there.
    wrong=$(systemd-analyze verify --man=no "$unit" "${unit%.service}.socket" 2>&1 | grep -i rouse | grep -v notify-reload || true)
    [ -z "$wrong" ] || fail "$wrong"
fi

echo "deb: the unit's command line, its user, its folder"
command=$(sed -n 's/^ExecStart=//p' "$unit")
folder=$(sed -n 's/^WorkingDirectory=//p' "$unit")
user=$(sed -n 's/^User=//p' "$unit")
log=$(mktemp) port=$((20000 + RANDOM % 10000))
cd "$folder"
setpriv --reuid "$user" --regid "$user" --clear-groups env \
    ROUSE__LISTEN__0__ADDRESS=127.0.0.1:$port ROUSE__LISTEN__1__ADDRESS=127.0.0.1:$port \
    $command >"$log" 2>&1 & pid=$!
for _ in $(seq 300); do
    if (exec 3<>/dev/tcp/127.0.0.1/$port) 2>/dev/null; then break; fi
    kill -0 "$pid" 2>/dev/null || { cat "$log" >&2; fail "it ended by itself"; }
    read -rt 0.1 <> <(:) || true
done
(exec 3<>/dev/tcp/127.0.0.1/$port) 2>/dev/null || { cat "$log" >&2; fail "it does not listen"; }
kill -TERM "$pid"
code=0; wait "$pid" || code=$?
is "its exit code after SIGTERM" "$code" 0
[ -d /var/lib/rouse/store ] || fail "it kept no store"

echo "deb: upgrade, removal, purge"
echo "# mine" >>/etc/rouse/rouse.toml
dpkg --install --force-confdef --force-confold "$deb" >/dev/null
grep -q '^# mine$' /etc/rouse/rouse.toml || fail "an upgrade took the operator's configuration away"
dpkg --remove rouse >/dev/null
[ -d /var/lib/rouse/store ] || fail "removal took the registrations away; only purge may"
dpkg --purge rouse >/dev/null
[ ! -e /var/lib/rouse ] || fail "purge left the registrations"
[ ! -e /etc/rouse/rouse.toml ] || fail "purge left the configuration"
trap - EXIT
echo "deb: all well"
