#!/usr/bin/env bash
# Makes the file system of the container image.
#
#   packaging/image.sh PROGRAM DIRECTORY
#
# PROGRAM is the static program that packaging/build-static.sh built. DIRECTORY must not exist.
set -euo pipefail
program=$1 out=$2
here=$(dirname "$0")
user=65532
authorities=/etc/ssl/certs/ca-certificates.crt

[[ -f $authorities ]] || {
  echo "$authorities is missing: install ca-certificates" >&2
  exit 1
}
mkdir "$out"
mkdir -p "$out"/{etc/ssl/certs,run/tapis,usr/bin,var/lib/tapis}
cp "$program" "$out/usr/bin/tapis"
cp -r "$here/etc" "$out/etc/tapis"
cp "$here/image/tapis.toml" "$out/etc/tapis/"
# For lists by URL and encrypted upstream servers.
cp -L "$authorities" "$out$authorities"
# The names of the user and the group, for messages.
echo "tapis:x:$user:$user::/var/lib/tapis:/sbin/nologin" >"$out/etc/passwd"
echo "tapis:x:$user:" >"$out/etc/group"
chmod -R u=rwX,go=rX "$out"
if [[ $EUID -eq 0 ]]; then
  chown -R "$user:$user" "$out/run/tapis" "$out/var/lib/tapis"
fi
