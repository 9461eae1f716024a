#!/usr/bin/env bash
# Tests the static program in the file system of the container image, without a container engine: as the first process of its
# namespaces, as the image's user, and on port 53.
#
#   packaging/test-static.sh PROGRAM
#
# Needs root, unshare, ip, dig and python3. Nothing of this reaches the machine: it runs in its own namespaces.
set -euo pipefail
program=$(realpath "$1")
here=$(realpath "$(dirname "$0")")

for tool in unshare chroot ip dig python3; do
  command -v "$tool" >/dev/null || { echo "$tool is missing" >&2; exit 1; }
done
[[ $EUID -eq 0 ]] || { echo "root is needed" >&2; exit 1; }
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
"$here/image.sh" "$program" "$root/image"
unshare --mount --net --pid --fork --kill-child=KILL --mount-proc "$here/test/static.sh" "$root/image" "$here/test"
