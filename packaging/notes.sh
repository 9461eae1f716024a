#!/usr/bin/env bash
# Prints the notes of a release: the part of CHANGELOG.md about it.
#
#   packaging/notes.sh VERSION [CHANGELOG]
set -euo pipefail
version=$1
changelog=${2:-$(dirname "$0")/../CHANGELOG.md}

notes=$(awk -v heading="## [$version]" '
  index($0, "## ") == 1 { inside = index($0, heading) == 1; next }
  # Links of headings to the repository are at the end.
  inside && !/^\[[^]]*\]: / { print }
' "$changelog")
if [[ -z ${notes//[[:space:]]/} ]]; then
  echo "$changelog: there is no part about $version; write it below a heading: ## [$version] - $(date -u +%F)" >&2
  exit 1
fi
# Without the empty lines at the start; the shell has removed those at the end.
sed '/./,$!d' <<<"$notes"
