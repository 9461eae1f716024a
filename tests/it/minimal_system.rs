//! The built-in default on a minimal system: an ordinary user, no IPv6, no writable `/run`, and a
//! resolv.conf without a valid line. It runs in separate namespaces, so it needs root, unshare,
//! setpriv and dig: `cargo test --test it -- --ignored`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::server::text;

const SCRIPT: &str = r#"
set -e
ip link set lo up
for where in all lo; do echo 1 > /proc/sys/net/ipv6/conf/$where/disable_ipv6; done
printf 'nameserver\noptions timeout:x\nunheard-of\n' > odd; mount --bind odd /etc/resolv.conf
user='setpriv --reuid=65534 --regid=65534 --clear-groups env -u XDG_RUNTIME_DIR TMPDIR=/tmp'
$user mkfifo log/fifo
$user ./tapis 2> log/fifo &
server=$!
trap 'kill $server' EXIT
exec 3< log/fifo
while read -r line; do case $line in *'INFO serving'*) break;; esac; done <&3
cat <&3 > /dev/null 2>&1 &
: > odd # dig is not as lenient
dig @127.0.0.1 -p 5335 +tries=1 +short web.telegram.org
dig @127.0.0.1 -p 5335 +tries=1 example.org | grep -o -e 'status: [A-Z]*' -e 'EDE: [0-9]*'
$user ./tapis status | grep -o 'listening on .*'
kill $server
trap - EXIT
wait $server
"#;

#[test]
#[ignore = "needs root, unshare, setpriv, ip and dig"]
fn the_built_in_default_starts_for_an_ordinary_user_on_a_minimal_system() {
    let folder = tempfile::tempdir().expect("a folder");
    let everybody = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("changed");
    };
    everybody(folder.path(), 0o755);
    let program = folder.path().join("tapis");
    fs::copy(env!("CARGO_BIN_EXE_tapis"), &program).expect("copied");
    everybody(&program, 0o755);
    fs::create_dir(folder.path().join("log")).expect("made");
    everybody(&folder.path().join("log"), 0o777);
    let output = Command::new("unshare")
        .args(["--net", "--mount", "sh", "-c", SCRIPT])
        .current_dir(folder.path())
        .output()
        .expect("it ran");
    assert!(output.status.success(), "{}", text(&output));
    let report = String::from_utf8_lossy(&output.stdout);
    let expected = "0.0.0.0\nstatus: SERVFAIL\nEDE: 22\nlistening on 127.0.0.1:5335 (UDP, TCP)\n";
    assert_eq!(report, expected, "{}", text(&output));
}
