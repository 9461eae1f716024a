//! The clocks of the server under test, which a test sets forward.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The C library's clock, replaced in the process of the server.
const SOURCE: &str = include_str!("clock.c");

pub(crate) struct Clock {
    file: File,
    passed: Duration,
}

impl Clock {
    /// Compiles the replacement in `folder`, and lets `server` use it.
    pub(crate) fn replace(server: &mut Command, folder: &Path) -> Self {
        let [source, library, time] =
            ["clock.c", "clock.so", "clock"].map(|name| folder.join(name));
        fs::write(&source, SOURCE).expect("written");
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let status = Command::new(compiler)
            .args(["-O", "-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .status();
        assert!(status.expect("a C compiler").success());
        fs::write(&time, 0_u64.to_ne_bytes()).expect("written");
        let file = File::options().write(true).open(&time).expect("created");
        let clock = Self {
            file,
            passed: Duration::ZERO,
        };
        clock.set(server, folder);
        clock
    }

    /// Lets another process of a server in `folder` use it.
    pub(crate) fn set(&self, server: &mut Command, folder: &Path) {
        server
            .env("LD_PRELOAD", folder.join("clock.so"))
            .env("SHIFTED_CLOCK", folder.join("clock"));
    }

    /// Sets the clocks forward.
    pub(crate) fn advance(&mut self, by: Duration) {
        self.passed += by;
        let seconds = self.passed.as_secs().to_ne_bytes();
        self.file.write_all_at(&seconds, 0).expect("written");
    }
}
