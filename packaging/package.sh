# For build-deb.sh and build-rpm.sh, which source this at the root of the repository: reads their arguments, builds the program, and
# makes the files of the package.
#
#   source packaging/package.sh TOOL "$@"
#
# Sets `profile`. The crate TOOL, which makes the package, must be installed.

tool=$1
shift
profile=dist
build=yes
while (($#)); do
  case $1 in
    --profile) profile=${2:?"--profile needs a name"}; shift ;;
    --no-build) build=no ;;
    *) echo "usage: $0 [--profile PROFILE] [--no-build]" >&2; exit 2 ;;
  esac
  shift
done

if ! command -v "$tool" >/dev/null; then
  echo "$tool is missing: cargo install --locked $tool" >&2
  exit 1
fi
if [[ $build == yes ]]; then
  cargo build --locked --profile "$profile" --bin tapis >&2
fi
packaging/stage.sh "${CARGO_TARGET_DIR:-target}/$profile/tapis"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
