//! Owns the compiler as a process of its own, seen from the one that starts it.
//! Refuses to retry, and to trust: whatever the process does, the caller gets an image or a reason.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::plan::{Event, Outcome, Plan};
use crate::config::shown::Show;

/// Longest line that a compiler is listened to for. An outcome tells ten bad lines of each list.
const MAX_LINE: u64 = 64 << 20;
/// Octets of its errors that are kept, the last ones.
const MAX_ERRORS: usize = 4096;
/// How often to look whether it is gone, once it says no more.
const LOOK: Duration = Duration::from_millis(5);

/// Why a compiler made no image.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It could not be started.
    #[error("{program}: {source}; the compiler could not be started", program = .program.shown())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It ended by itself, and said why.
    #[error("{0}")]
    Failed(String),
    /// Somebody else ended it.
    #[error("the compiler was ended by signal {0}{remedy}", remedy = remedy(*.0))]
    Killed(i32),
    /// It said nothing for too long, and was ended.
    #[error("the compiler was ended: it reported no progress for {} s", .0.as_secs_f64())]
    Hung(Duration),
    /// What it said is not what a compiler says.
    #[error("the compiler's output can't be read: {0}; is its program another version?")]
    Nonsense(String),
}

impl ChildError {
    /// Whether the system did not let it work: there is no room, say. That may pass, and be otherwise elsewhere.
    pub fn is_of_system(&self) -> bool {
        match self {
            Self::Start { .. } => true,
            // As `io::Error` displays what the system says.
            Self::Failed(text) => text.contains("(os error "),
            Self::Killed(_) | Self::Hung(_) | Self::Nonsense(_) => false,
        }
    }
}

/// This program, also when its file was replaced since: then the name would be another version's.
fn own_program() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") {
        return Ok(PathBuf::from("/proc/self/exe"));
    }
    std::env::current_exe()
}

fn remedy(signal: i32) -> &'static str {
    if signal == libc::SIGKILL {
        "; most likely memory ran out; see the system's log"
    } else {
        ""
    }
}

/// Starts compilers.
#[derive(Clone, Debug)]
pub struct Compiler {
    /// The program that is started, and what it is told. Its plan is the first line of its standard
    /// input.
    pub program: PathBuf,
    /// See there.
    pub arguments: Vec<&'static str>,
    /// For how long it may tell nothing. It tells how far it is some times a second, but for the
    /// time that the disk takes to store the image.
    pub patience: Duration,
}

impl Compiler {
    /// A compiler that is this very program.
    ///
    /// # Errors
    /// When the system does not tell which one that is.
    pub fn own(patience: Duration) -> io::Result<Self> {
        Ok(Self {
            program: own_program()?,
            arguments: vec!["compile", "--plan", "-"],
            patience,
        })
    }

    /// Carries out a plan in a new process, and hands on what that tells on the way. When this
    /// future is dropped the process is ended.
    ///
    /// The process also ends when its standard input does: with this process, however that ends.
    ///
    /// # Errors
    /// [`ChildError`]; the process is gone then, and if it had written an image, nobody said so.
    pub async fn compile(
        &self,
        plan: &Plan,
        mut progress: impl FnMut(Event),
    ) -> Result<Outcome, ChildError> {
        let mut child = self.start().map_err(|source| ChildError::Start {
            program: self.program.clone(),
            source,
        })?;
        // The input stays open to the end.
        let (mut input, output, errors) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let plan = serde_json::to_vec(plan);
        let mut plan =
            plan.map_err(|error| ChildError::Failed(format!("{error}; rename the folder")))?;
        plan.push(b'\n');
        let give = async {
            if let Some(input) = &mut input {
                // If it does not take it, it has ended, and how it did tells more.
                let _ = input.write_all(&plan).await;
            }
        };
        let hear = async {
            match output {
                Some(output) => self.hear(output, &mut progress).await,
                None => Ok(None),
            }
        };
        let listen = async {
            let mut last = Vec::new();
            if let Some(errors) = errors {
                keep_last(errors, &mut last).await;
            }
            last
        };
        let end = async {
            tokio::pin!(hear, give);
            // One that does not take its plan is listened to no longer than any other.
            let heard = tokio::select! {
                heard = &mut hear => heard,
                () = &mut give => hear.await,
            };
            let heard = match heard {
                Err(error) => Err(error),
                Ok(outcome) => match timeout(self.patience, gone(&mut child)).await {
                    Ok(status) => Ok((outcome, status)),
                    Err(_) => Err(ChildError::Hung(self.patience)),
                },
            };
            if heard.is_err() {
                end(&mut child).await;
            }
            heard
        };
        let (heard, last) = tokio::join!(end, listen);
        let (outcome, status) = heard?;
        let status = status.map_err(|error| ChildError::Failed(error.to_string()))?;
        judge(outcome, status, &last)
    }

    fn start(&self) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command.spawn()
    }

    /// Reads what it tells, to the end.
    async fn hear(
        &self,
        output: impl AsyncRead + Unpin,
        progress: &mut impl FnMut(Event),
    ) -> Result<Option<Outcome>, ChildError> {
        let mut output = BufReader::new(output);
        let mut outcome = None;
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut limited = (&mut output).take(MAX_LINE);
            let read = timeout(self.patience, limited.read_until(b'\n', &mut line)).await;
            let read = read.map_err(|_| ChildError::Hung(self.patience))?;
            let count = read.map_err(|error| ChildError::Nonsense(error.to_string()))?;
            if count == 0 {
                return Ok(outcome);
            }
            match serde_json::from_slice(&line) {
                Ok(Event::Done(done)) => outcome = Some(done),
                Ok(event) => progress(event),
                // A line that ends early is its last one: how it ended tells more.
                Err(_) if !line.ends_with(b"\n") && (count as u64) < MAX_LINE => {}
                Err(error) => return Err(ChildError::Nonsense(error.to_string())),
            }
        }
    }
}

/// Waits until it is gone, by looking. `Child::wait` was seen to be woken before the process could be
/// waited for, and then to ask again without a pause, on the core that the process needed for ending.
async fn gone(child: &mut Child) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        sleep(LOOK).await;
    }
}

/// Ends it, and waits until it is gone.
async fn end(child: &mut Child) {
    let ended = match child.start_kill() {
        Ok(()) => gone(child).await.map(drop),
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        // It is gone already, or will be: it is ended again when it is dropped.
        tracing::debug!(%error, "the compiler can't be ended");
    }
}

/// Reads to the end and keeps the last octets.
async fn keep_last(mut errors: impl AsyncRead + Unpin, last: &mut Vec<u8>) {
    let mut piece = [0; MAX_ERRORS];
    while let Ok(count @ 1..) = errors.read(&mut piece).await {
        last.extend(&piece[..count]);
        let over = last.len().saturating_sub(MAX_ERRORS);
        last.drain(..over);
    }
}

fn judge(
    outcome: Option<Outcome>,
    status: ExitStatus,
    errors: &[u8],
) -> Result<Outcome, ChildError> {
    if let Some(signal) = status.signal() {
        return Err(ChildError::Killed(signal));
    }
    match outcome {
        Some(outcome) if status.success() => Ok(outcome),
        _ => {
            let text = String::from_utf8_lossy(errors);
            let last = text.lines().rfind(|line| !line.trim().is_empty());
            let said = last.map(|line| line.strip_prefix("tapis: ").unwrap_or(line).to_owned());
            let silent = || format!("the compiler ended with {status}, without a message");
            Err(ChildError::Failed(said.unwrap_or_else(silent)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::control::guard::policy::GuardPolicy;

    async fn outcome(script: &'static str) -> Result<Outcome, ChildError> {
        let compiler = Compiler {
            program: "/bin/sh".into(),
            arguments: vec!["-c", script],
            patience: Duration::from_secs(60),
        };
        let guard_policy = GuardPolicy::read(&Config::built_in());
        let plan = Plan::new("image".into(), Vec::new(), &guard_policy);
        compiler.compile(&plan, |_| {}).await
    }

    async fn reason(script: &'static str) -> String {
        outcome(script).await.expect_err("no image").to_string()
    }

    #[tokio::test]
    async fn how_it_ended_is_told() {
        let reason_of = reason("read plan; kill -9 $$").await;
        assert!(
            reason_of.contains("signal 9; most likely memory"),
            "{reason_of}"
        );
        let reason_of = reason("kill -15 $$").await;
        assert!(reason_of.ends_with("signal 15"), "{reason_of}");
        let reason_of = reason("echo one >&2; echo 'tapis: no room' >&2; exit 1").await;
        assert_eq!(reason_of, "no room");
        let reason_of = reason("exit 3").await;
        assert!(
            reason_of.contains("exit status: 3, without a message"),
            "{reason_of}"
        );
        let reason_of = reason("exit 0").await;
        assert!(reason_of.contains("without a message"), "{reason_of}");
    }

    #[tokio::test]
    async fn nonsense_is_told_and_a_line_that_is_cut_by_its_end_is_not() {
        let reason_of = reason("echo hello; exec cat /dev/zero").await;
        assert!(reason_of.contains("can't be read"), "{reason_of}");
        let reason_of = reason("printf '{\"writ'; kill -9 $$").await;
        assert!(reason_of.contains("signal 9"), "{reason_of}");
        let endless = reason("exec cat /dev/zero").await;
        assert!(endless.contains("can't be read"), "{endless}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_tells_nothing_is_ended() {
        // It does not read its plan, and waits for a line that never comes from itself.
        let hung = outcome("exec tail -f /dev/null").await;
        assert!(matches!(hung, Err(ChildError::Hung(_))), "{hung:?}");
        let silent = outcome("exec tail -f /dev/null >/dev/null").await;
        assert!(matches!(silent, Err(ChildError::Hung(_))), "{silent:?}");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_told() {
        let compiler = Compiler {
            program: "/nowhere/tapis".into(),
            arguments: Vec::new(),
            patience: Duration::MAX,
        };
        let plan = serde_json::from_str(r#"{"out":"x","lists":[],"base":null,"delta":null}"#);
        let plan: Plan = plan.expect("a plan");
        let reason = compiler.compile(&plan, |_| {}).await.expect_err("no image");
        assert!(reason.to_string().contains("/nowhere/tapis"), "{reason}");
    }
}
