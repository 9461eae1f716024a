# For the tests of packages: steps, failures, and queries.

step() { echo "- $*"; }
fail() {
  echo "FAILED: $*" >&2
  explain >&2
  exit 1
}
answer() { dig @127.0.0.1 +short +timeout=1 +tries=1 "$1" A 2>/dev/null | grep -v "^;" || true; }
# Waits until a name is answered so.
until_answer() {
  for _ in {1..300}; do
    [[ $(answer "$1") == "$2" ]] && return
    sleep 0.1
  done
  fail "$1 is answered by '$(answer "$1")', not by '$2'"
}
# The reason of a failure under systemd.
explain() {
  systemctl status tapis --no-pager || true
  journalctl -u tapis --no-pager --lines 30 || true
}
