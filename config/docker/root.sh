#!/bin/sh
# Gathers what the image holds: config/docker/root.sh PROGRAM FOLDER. The program, stripped; the shared
# libraries that it names; certificates; a user; a place for data that this user may write to.
set -eu

program=$1 root=$2
top=$(cd "$(dirname "$0")/../.." && pwd)
user=65532

mkdir -p "$root/usr/bin" "$root/etc/ssl/certs" "$root/tmp"
chmod 1777 "$root/tmp"
cp "$program" "$root/usr/bin/rouse"
strip "$root/usr/bin/rouse"
# The loader stands alone on its line, the others behind an arrow.
ldd "$program" | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/[^ ]*ld-linux[^ ]*\) .*/\1/p' |
    while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
echo "hosts: files dns" >"$root/etc/nsswitch.conf"
echo "rouse:x:$user:$user::/opt/rouse:/" >"$root/etc/passwd"
echo "rouse:x:$user:" >"$root/etc/group"
mkdir -p "$root/opt/rouse/config" "$root/opt/rouse/certs"
cp "$top/config/rouse.toml" "$root/opt/rouse/config/"
install -d -o "$user" -g "$user" -m 700 "$root/opt/rouse/data"
