//! What people write out of habit: the message says what is meant.

use crate::support::server::{folder, list, tapis, text};

fn check(config: &str) -> String {
    let folder = folder(config, &[]);
    let path = folder.path().join("tapis.toml");
    let output = tapis()
        .arg("check")
        .arg("--config")
        .arg(path)
        .output()
        .expect("it ran");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    text(&output)
}

#[test]
fn a_url_is_no_path_and_the_message_says_so() {
    for config in [
        list("ads", "").replace("path = \"ads\"", "path = \"https://lists.example/ads.txt\""),
        "[guard]\npopular = \"https://lists.example/top.csv\"\n".to_owned(),
        "[orders]\npath = \"http://orders.example/\"\n".to_owned(),
    ] {
        let told = check(&config);
        assert!(
            told.contains("a URL") && told.contains("download"),
            "{told}"
        );
        assert!(!told.contains("No such file"), "{told}");
    }
    let told = check("[state]\ndir = \"file:///var/lib/tapis\"\n");
    assert!(told.contains("write \"/var/lib/tapis\""), "{told}");
}
