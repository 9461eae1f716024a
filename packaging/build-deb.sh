#!/usr/bin/env bash
# Builds the Debian package, and prints its path.
#
#   packaging/build-deb.sh [--profile PROFILE] [--no-build]
#
# The default profile is `dist`. With --no-build, a program that was built with the profile before is packed.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=dist
build=yes
while (($#)); do
  case $1 in
    --profile) profile=$2; shift ;;
    --no-build) build=no ;;
    *) echo "usage: packaging/build-deb.sh [--profile PROFILE] [--no-build]" >&2; exit 2 ;;
  esac
  shift
done

if ! command -v cargo-deb >/dev/null; then
  echo "cargo-deb is missing: cargo install --locked cargo-deb" >&2
  exit 1
fi
if [[ $build == yes ]]; then
  cargo build --locked --profile "$profile" --bin tapis >&2
fi
packaging/stage.sh "${CARGO_TARGET_DIR:-target}/$profile/tapis"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
# The maintainer is whoever builds the package for others.
cargo deb --locked --no-build --no-strip --profile "$profile" ${DEBFULLNAME:+--maintainer "$DEBFULLNAME <${DEBEMAIL:?}>"}
