#!/usr/bin/env bash
# Builds the RPM package, and prints its path.
#
#   packaging/build-rpm.sh [--profile PROFILE] [--no-build]
#
# The default profile is `dist`. With --no-build, a program that was built with the profile before is packed. The package needs
# at least the C library of the system that the program was built on.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=dist
build=yes
while (($#)); do
  case $1 in
    --profile) profile=$2; shift ;;
    --no-build) build=no ;;
    *) echo "usage: packaging/build-rpm.sh [--profile PROFILE] [--no-build]" >&2; exit 2 ;;
  esac
  shift
done

if ! command -v cargo-generate-rpm >/dev/null; then
  echo "cargo-generate-rpm is missing: cargo install --locked cargo-generate-rpm" >&2
  exit 1
fi
if [[ $build == yes ]]; then
  cargo build --locked --profile "$profile" --bin tapis >&2
fi
packaging/stage.sh "${CARGO_TARGET_DIR:-target}/$profile/tapis"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
out=${CARGO_TARGET_DIR:-target}/rpm
rm -rf "$out"
mkdir -p "$out"
cargo generate-rpm --profile "$profile" --auto-req builtin --output "$out/" >&2
ls "$out"/*.rpm
