#!/usr/bin/env bash
# Builds a static program, which needs no file of the system, and prints its path. For the Dockerfile.
#
#   packaging/build-static.sh [--profile PROFILE]
#
# The default profile is `dist`. On Debian and its relatives the C library's static part is in the package libc6-dev.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  echo "usage: packaging/build-static.sh [--profile PROFILE]" >&2
  exit 2
}
profile=dist
case $# in
  0) ;;
  2) [[ $1 == --profile ]] || usage; profile=$2 ;;
  *) usage ;;
esac

target=$(rustc -vV | sed -n 's/^host: //p')
# A static program can't look for getrandom(2) in the C library at run time, and would read /dev/urandom, which a bare
# container may lack. So the call is linked.
flags='-C target-feature=+crt-static --cfg getrandom_backend="linux_getrandom"'
# With a target, the flags are not those of build scripts and macros, which can't be static.
RUSTFLAGS="${RUSTFLAGS:-} $flags" cargo build --locked --profile "$profile" --target "$target" --bin tapis >&2
# Cargo's name for the folder of the profile `dev`.
folder=${profile/#dev/debug}
program=${CARGO_TARGET_DIR:-target}/$target/$folder/tapis
if ldd "$program" 2>&1 | grep -q "=>"; then
  echo "$program needs libraries of the system" >&2
  exit 1
fi
echo "$program"
