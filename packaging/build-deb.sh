#!/usr/bin/env bash
# Builds the Debian package, and prints its path.
#
#   packaging/build-deb.sh [--profile PROFILE] [--no-build]
#
# The default profile is `dist`. With --no-build, a program that was built with the profile before is packed.
set -euo pipefail
cd "$(dirname "$0")/.."
source packaging/package.sh cargo-deb "$@"

# The maintainer is the person who builds the package for others.
cargo deb --locked --no-build --no-strip --profile "$profile" ${DEBFULLNAME:+--maintainer "$DEBFULLNAME <${DEBEMAIL:?}>"}
