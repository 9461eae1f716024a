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
# Upgrades the package by a command, while queries are sent that must all be answered.
upgrade_under_load() {
  local load
  rm -f stop
  python3 -B test/load.py >load.log 2>&1 &
  load=$!
  sleep 1
  "$@" >upgrade.log 2>&1 </dev/null || fail "$*: $(cat upgrade.log)"
  grep -q "has taken over from process" upgrade.log || fail "no take-over: $(cat upgrade.log)"
  sleep 1
  touch stop
  wait "$load" || fail "queries were lost: $(cat load.log)"
  cat load.log
}
# The process that systemd follows after the one that is named.
followed() {
  local new
  new=$(systemctl show --value --property MainPID tapis)
  [[ $new != "$1" && -d /proc/$new && ! -d /proc/$1 ]] || fail "systemd follows process $new instead of $1"
  [[ $(systemctl show --value --property ActiveState tapis) == active ]] || fail "it is not active"
  [[ $(systemctl show --value --property NRestarts tapis) == 0 ]] || fail "systemd restarted it"
  echo "$new"
}
# The reason of a failure under systemd.
explain() {
  systemctl status tapis --no-pager || true
  journalctl -u tapis --no-pager --lines 30 || true
}
