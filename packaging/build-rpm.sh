#!/usr/bin/env bash
# Builds the RPM package, and prints its path.
#
#   packaging/build-rpm.sh [--profile PROFILE] [--no-build]
#
# The default profile is `dist`. With --no-build, a program that was built with the profile before is packed. The package needs
# at least the C library of the system that the program was built on.
set -euo pipefail
cd "$(dirname "$0")/.."
source packaging/package.sh cargo-generate-rpm "$@"

out=${CARGO_TARGET_DIR:-target}/rpm
rm -rf "$out"
mkdir -p "$out"
cargo generate-rpm --profile "$profile" --auto-req builtin --output "$out/" >&2
ls "$out"/*.rpm
