//! Runs the compiler as a child process, and returns its outcome or the reason for its failure.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures_util::future::select_all;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::plan::{Event, Outcome, Plan};
use crate::config::shown::Show;
use crate::control::sources::feeds::arrival::{Arrival, ArrivalState};

/// Longest line that is read from a compiler. An outcome has ten bad lines of each list.
const MAX_LINE: u64 = 64 << 20;
/// The last bytes of its standard error that are kept.
const MAX_ERRORS: usize = 4096;
/// How often to check whether the process has ended, once its output has.
const POLL: Duration = Duration::from_millis(5);
/// Variables with which a service manager addresses the server alone.
const OF_SERVICE: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
];

/// Why a compiler wrote no image.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It could not be started.
    #[error("{program}: {source}; the compiler could not be started", program = .program.shown())]
    Start {
        /// The program.
        program: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// It failed with this message.
    #[error("{0}")]
    Failed(String),
    /// A signal ended it.
    #[error("the compiler was ended by signal {0}{remedy}", remedy = remedy(*.0))]
    Killed(i32),
    /// It reported nothing for too long, and was killed.
    #[error("the compiler was ended: it reported no progress for {} s", .0.as_secs_f64())]
    Hung(Duration),
    /// Its output can't be parsed.
    #[error("the compiler's output can't be read: {0}; is its program another version?")]
    Nonsense(String),
}

impl ChildError {
    /// Whether an error of the system is the cause, such as a full disk, so that another attempt later or in another
    /// directory may succeed.
    pub fn is_of_system(&self) -> bool {
        match self {
            Self::Start { .. } => true,
            // `io::Error` displays errors of the system with these words.
            Self::Failed(text) => text.contains("(os error "),
            Self::Killed(_) | Self::Hung(_) | Self::Nonsense(_) => false,
        }
    }
}

/// This program, even if its file was replaced by another version since.
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
    /// The program. It reads the plan from the first line of its standard input.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<&'static str>,
    /// How long it may report nothing. It reports several times a second, except while the disk stores the image.
    pub patience: Duration,
}

impl Compiler {
    /// A compiler that is this program.
    ///
    /// # Errors
    /// If the system does not report its path.
    pub fn own(patience: Duration) -> io::Result<Self> {
        Ok(Self {
            program: own_program()?,
            arguments: vec!["compile", "--plan", "-"],
            patience,
        })
    }

    /// Compiles a plan in a new process and passes its reports to `progress`. `arrivals` are the states of the transfers
    /// in the plan. The process is killed when this future is
    /// dropped. It also ends when its standard input does, so it does not outlive this process.
    ///
    /// # Errors
    /// [`ChildError`]; the process has ended then, and there may be an image that it did not report.
    pub async fn compile(
        &self,
        plan: &Plan,
        arrivals: Vec<watch::Receiver<Arrival>>,
        mut progress: impl FnMut(Event),
    ) -> Result<Outcome, ChildError> {
        let mut child = self.start().map_err(|source| ChildError::Start {
            program: self.program.clone(),
            source,
        })?;
        // The input stays open until the process has ended.
        let (mut input, output, errors) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let plan = serde_json::to_vec(plan);
        let mut plan = plan.map_err(|error| {
            ChildError::Failed(format!(
                "{error}; rename the folder whose path is not valid UTF-8"
            ))
        })?;
        plan.push(b'\n');
        let send_plan = async {
            if let Some(input) = &mut input {
                // If this fails, the process has ended, and its status says more.
                let _ = input.write_all(&plan).await;
                let _ = send_arrivals(input, arrivals).await;
            }
        };
        let reports = async {
            match output {
                Some(output) => self.read_reports(output, &mut progress).await,
                None => Ok(None),
            }
        };
        let read_errors = async {
            let mut last = Vec::new();
            if let Some(errors) = errors {
                keep_last(errors, &mut last).await;
            }
            last
        };
        let end = async {
            tokio::pin!(reports, send_plan);
            // A process that does not read its plan gets no more time than any other.
            let result = tokio::select! {
                result = &mut reports => result,
                () = &mut send_plan => reports.await,
            };
            let result = match result {
                Err(error) => Err(error),
                Ok(outcome) => match timeout(self.patience, ended(&mut child)).await {
                    Ok(status) => Ok((outcome, status)),
                    Err(_) => Err(ChildError::Hung(self.patience)),
                },
            };
            if result.is_err() {
                kill(&mut child).await;
            }
            result
        };
        let (result, last) = tokio::join!(end, read_errors);
        let (outcome, status) = result?;
        let status = status.map_err(|error| ChildError::Failed(error.to_string()))?;
        concluded(outcome, status, &last)
    }

    fn start(&self) -> io::Result<Child> {
        self.command().spawn()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        for variable in OF_SERVICE {
            command.env_remove(variable);
        }
        command
    }

    /// Reads its reports to the end.
    async fn read_reports(
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
                // If a line is incomplete, the process ended within it. The exit status of the process says more.
                Err(_) if !line.ends_with(b"\n") && (count as u64) < MAX_LINE => {}
                Err(error) => return Err(ChildError::Nonsense(error.to_string())),
            }
        }
    }
}

/// Sends each report about a transfer, until all transfers have ended.
async fn send_arrivals(
    input: &mut ChildStdin,
    mut arrivals: Vec<watch::Receiver<Arrival>>,
) -> io::Result<()> {
    for arrival in &mut arrivals {
        arrival.mark_changed();
    }
    while !arrivals.is_empty() {
        let changes = arrivals
            .iter_mut()
            .map(|arrival| Box::pin(arrival.changed()));
        let (changed, which, _) = select_all(changes).await;
        let mut arrival = arrivals[which].borrow_and_update().clone();
        if changed.is_err() && arrival.state == ArrivalState::Arriving {
            // The task of the transfer has ended early.
            arrival.state = ArrivalState::Failed;
        }
        let mut line = serde_json::to_vec(&arrival)?;
        line.push(b'\n');
        input.write_all(&line).await?;
        if arrival.state != ArrivalState::Arriving {
            arrivals.remove(which);
        }
    }
    Ok(())
}

/// Waits until the process has ended, by polling. `Child::wait` was seen to wake before the process could be reaped. It
/// then spun on the core that the process needed in order to end.
async fn ended(child: &mut Child) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        sleep(POLL).await;
    }
}

/// Kills it, and waits until it has ended.
async fn kill(child: &mut Child) {
    let result = match child.start_kill() {
        Ok(()) => ended(child).await.map(drop),
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        // The process has ended already, or it will end: it is killed again when `child` is dropped.
        tracing::debug!(%error, "the compiler can't be killed");
    }
}

/// Reads to the end and keeps the last bytes.
async fn keep_last(mut errors: impl AsyncRead + Unpin, last: &mut Vec<u8>) {
    let mut piece = [0; MAX_ERRORS];
    while let Ok(count @ 1..) = errors.read(&mut piece).await {
        last.extend(&piece[..count]);
        let over = last.len().saturating_sub(MAX_ERRORS);
        last.drain(..over);
    }
}

/// The outcome, or the failure that the exit status and the last line of standard error describe.
fn concluded(
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
        compiler.compile(&plan, Vec::new(), |_| {}).await
    }

    async fn reason(script: &'static str) -> String {
        outcome(script).await.expect_err("no image").to_string()
    }

    #[tokio::test]
    async fn the_end_of_the_process_is_reported() {
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
    async fn an_unreadable_line_is_reported_unless_the_end_of_the_process_cut_it() {
        let reason_of = reason("echo hello; exec cat /dev/zero").await;
        assert!(reason_of.contains("can't be read"), "{reason_of}");
        let reason_of = reason("printf '{\"writ'; kill -9 $$").await;
        assert!(reason_of.contains("signal 9"), "{reason_of}");
        let endless = reason("exec cat /dev/zero").await;
        assert!(endless.contains("can't be read"), "{endless}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_reports_nothing_is_killed() {
        // It neither reads its plan nor writes anything.
        let hung = outcome("exec tail -f /dev/null").await;
        assert!(matches!(hung, Err(ChildError::Hung(_))), "{hung:?}");
        let silent = outcome("exec tail -f /dev/null >/dev/null").await;
        assert!(matches!(silent, Err(ChildError::Hung(_))), "{silent:?}");
    }

    #[test]
    fn the_compiler_can_not_speak_to_the_service_manager_for_the_server() {
        let compiler = Compiler::own(Duration::MAX).expect("a path");
        let command = compiler.command();
        let removed = command.as_std().get_envs();
        let removed: Vec<_> = removed.filter(|(_, value)| value.is_none()).collect();
        assert!(removed.iter().any(|(name, _)| *name == "NOTIFY_SOCKET"));
        assert_eq!(removed.len(), OF_SERVICE.len());
    }

    #[tokio::test]
    async fn a_missing_program_is_reported() {
        let compiler = Compiler {
            program: "/nowhere/tapis".into(),
            arguments: Vec::new(),
            patience: Duration::MAX,
        };
        let plan = serde_json::from_str(r#"{"out":"x","lists":[],"base":null,"delta":null}"#);
        let plan: Plan = plan.expect("a plan");
        let reason = compiler
            .compile(&plan, Vec::new(), |_| {})
            .await
            .expect_err("no image");
        assert!(reason.to_string().contains("/nowhere/tapis"), "{reason}");
    }
}
