#!/usr/bin/env bash
# Makes the files of packages that are no part of the repository: manual pages, completions, bill of materials, changelog.
#
#   packaging/stage.sh PROGRAM [DIRECTORY]
#
# PROGRAM is the built program; the files go to target/package unless another directory is named.
set -euo pipefail
program=$(realpath "$1")
out=$(realpath -m "${2:-$(dirname "$0")/../target/package}")
cd "$(dirname "$0")/.."

version=$("$program" --version | cut -d' ' -f2)
# Files of a package have the time of the last change, not that of the build.
date=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}

rm -rf "$out"
mkdir -p "$out"/{man,systemd,completions}
"$program" man "$out/man" >/dev/null
gzip -9n "$out"/man/*
for shell in bash zsh fish; do
  "$program" completions "$shell" >"$out/completions/$shell"
done
# The socket is an example: its addresses must be those of the configuration.
cp packaging/systemd/tapis.service "$out/systemd/"
packaging/sbom.py >"$out/sbom.cdx.json"
gzip -9nc CHANGELOG.md >"$out/changelog.gz"
cat >"$out/debian-changelog" <<CHANGES
tapis ($version-1) unstable; urgency=medium

  * Version $version. /usr/share/doc/tapis/changelog.gz has the changes.

 -- The Tapis contributors <maintainers@tapis.invalid>  $(date -u -d "@$date" '+%a, %d %b %Y %H:%M:%S +0000')
CHANGES
find "$out" -exec touch -h -d "@$date" {} +
