#!/usr/bin/env bash
# Makes the files of a release in target/release-VERSION: source, program, Debian and RPM package, bill of materials, notes,
# checksums.
#
#   packaging/release.sh VERSION [--dry-run]
#
# Everything is made from the last commit. The same commit and compiler give the same files. --dry-run makes only the files that
# need no build. Nothing is published: sign SHA256SUMS, and put the files where users find them.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  echo "usage: packaging/release.sh VERSION [--dry-run]" >&2
  exit 2
}
[[ $# -ge 1 && $# -le 2 && $1 =~ ^[0-9]+\.[0-9]+\.[0-9]+ ]] || usage
version=$1
dry=${2:-}
[[ -z $dry || $dry == --dry-run ]] || usage

problems=()
now=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -1)
[[ $now == "$version" ]] || problems+=("Cargo.toml has version $now: change it to $version, and run cargo check")
[[ -z $(git status --porcelain) ]] || problems+=("there are changes that are not committed: commit them")
if git rev-parse --quiet --verify "refs/tags/v$version" >/dev/null && [[ $(git rev-parse "v$version^{commit}") != $(git rev-parse HEAD) ]]; then
  problems+=("tag v$version is another commit: choose a new version")
fi
notes=$(packaging/notes.sh "$version" 2>&1) || problems+=("$notes")
if ((${#problems[@]})); then
  printf 'release.sh: %s\n' "${problems[@]}" >&2
  exit 1
fi

out=$PWD/target/release-$version
name=tapis-$version
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
rm -rf "$out"
mkdir -p "$out"

# Packs a directory so that the archive depends on nothing but its content.
pack() {
  tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --format=ustar -C "$1" -cf - "$2" | gzip -9n
}

echo "$notes" >"$out/NOTES.md"
packaging/sbom.py >"$out/$name.cdx.json"
git archive --format=tar --prefix="$name/" HEAD | gzip -9n >"$out/$name-source.tar.gz"

if [[ -z $dry ]]; then
  target=${CARGO_TARGET_DIR:-target}
  # Paths of this machine must not be part of the program.
  export RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$PWD=/tapis --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
  package=$(packaging/build-deb.sh)
  cp "$package" "$out/"
  package=$(packaging/build-rpm.sh --no-build)
  cp "$package" "$out/"
  system=$(rustc -vV | sed -n 's/^host: //p')
  staged=$(mktemp -d)
  trap 'rm -rf "$staged"' EXIT
  # Files of packaging/ are where the documentation has links to them.
  mkdir -p "$staged/$name/packaging"
  cp -r "$target/dist/tapis" target/package/{man,completions} docs README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT "$staged/$name/"
  cp -r packaging/{etc,systemd,prometheus,grafana,logrotate} "$staged/$name/packaging/"
  pack "$staged" "$name" >"$out/$name-$system.tar.gz"
fi

(cd "$out" && sha256sum -- * >SHA256SUMS)
echo "$out:"
ls "$out"
