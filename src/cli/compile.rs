//! `tapis compile`: compiles lists to one image file, for a user, or for the server that started this process.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::configuration::{Need, read_config};
use super::failure::Failure;
use super::list_summary;
use super::progress::Progress;
use crate::config::shown::{Show, counted};
use crate::control::compile::arrival::Arrivals;
use crate::control::compile::error::CompileError;
use crate::control::compile::plan::{Event, ListOutcome, Outcome, Plan, PlanList};
use crate::control::compile::run::{compile, compile_arriving};
use crate::control::guard::policy::GuardPolicy;
use crate::control::guard::release;
use crate::policy::image::layout::MAGIC;
use crate::sys::background::lower_own_priority;

#[derive(Debug, Args)]
pub(super) struct CompileArgs {
    /// The file to write the image to.
    #[arg(short, long, value_name = "FILE", required_unless_present = "plan")]
    out: Option<PathBuf>,
    /// Release a guard of a list, `empty` or `bad`, as in ads:bad; may be repeated.
    #[arg(long, value_name = "LIST:GUARD")]
    accept: Vec<String>,
    /// Read a server's plan from the first line of standard input (`-`), and report events on standard output.
    /// Exits when the input ends.
    #[arg(long, hide = true, value_name = "-", value_parser = ["-"], conflicts_with_all = ["out", "accept"])]
    plan: Option<String>,
}

impl CompileArgs {
    /// The plan of a server has all settings that the compiler needs.
    pub(super) fn need(&self) -> Need {
        match self.plan {
            Some(_) => Need::Nothing,
            None => Need::AsServer,
        }
    }
}

pub(super) fn run(
    config: Option<&PathBuf>,
    args: &CompileArgs,
    out: &mut impl Write,
) -> Result<(), Failure> {
    match &args.out {
        Some(image) => compile_for_user(config, args, image, out),
        None => compile_for_server(out),
    }
}

fn compile_for_server(out: &mut impl Write) -> Result<(), Failure> {
    lower_own_priority();
    let mut input = BufReader::new(io::stdin());
    let mut line = Vec::new();
    input.read_until(b'\n', &mut line)?;
    let plan: Plan = serde_json::from_slice(&line)?;
    let arrivals = Arc::new(Arrivals::default());
    let reported = Arc::clone(&arrivals);
    // The input ends when the server does. The image is not needed then.
    std::thread::Builder::new().spawn(move || {
        // A line that can't be read comes from another version; without it, the transfer never goes on.
        for line in input.lines().map_while(Result::ok) {
            if let Ok(arrival) = serde_json::from_str(&line) {
                reported.report(arrival);
            }
        }
        std::process::exit(1);
    })?;
    let mut written = Ok(());
    let outcome = compile_arriving(&plan, &arrivals, |event| {
        if written.is_ok() {
            written = write_event(out, &event);
        }
    })?;
    written?;
    Ok(write_event(out, &Event::Done(outcome))?)
}

fn write_event(out: &mut impl Write, event: &Event) -> io::Result<()> {
    serde_json::to_writer(&mut *out, event)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// The reason why an image must not replace the file; `None` if it may, or there is no file.
fn replacement_problem(path: &Path) -> Option<&'static str> {
    // A file that can't be examined can't be replaced either: writing the image fails later, and reports the reason.
    let metadata = fs::symlink_metadata(path).ok()?;
    if !metadata.is_file() {
        return Some("is not a regular file, and is not replaced: name another one with -o");
    }
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(8).read_to_end(&mut head));
    let is_image = read.is_ok() && (head.is_empty() || head == MAGIC);
    (!is_image)
        .then_some("is not an image, and is not replaced: name another file with -o, or remove it")
}

fn compile_for_user(
    config: Option<&PathBuf>,
    args: &CompileArgs,
    image: &Path,
    out: &mut impl Write,
) -> Result<(), Failure> {
    if let Some(why) = replacement_problem(image) {
        let (path, why) = (image.shown(), why);
        return Err(Failure::Other(format!("{path}: {why}").into()));
    }
    let config = read_config(config)?;
    let mut lists: Vec<_> = config.lists.iter().map(PlanList::read).collect();
    for text in &args.accept {
        let (name, guard) = release::read(text)?;
        let list = lists.iter_mut().find(|list| list.name == name);
        let list = list.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("--accept {name}: the configuration has no such list"),
            )
        })?;
        list.released = list.released.and(guard.into());
    }
    let guard_policy = GuardPolicy::read(&config);
    if !guard_policy.problems().is_empty() {
        return Err(Failure::Other(guard_policy.problems().join("\n").into()));
    }
    let plan = Plan {
        strict: true,
        ..Plan::new(image.to_owned(), lists, &guard_policy)
    };
    let progress = Progress::bar();
    let result = compile(&plan, |event| show(&progress, &event));
    drop(progress);
    match result {
        Ok(outcome) => {
            print_lists(&plan, &outcome.lists, out)?;
            Ok(print_outcome(image, &outcome, out)?)
        }
        Err(CompileError::Refused(lists)) => {
            print_lists(&plan, &lists, out)?;
            Err(CompileError::Refused(lists).into())
        }
        Err(error) => Err(error.into()),
    }
}

fn print_lists(plan: &Plan, lists: &[ListOutcome], out: &mut impl Write) -> io::Result<()> {
    for (list, outcome) in plan.lists.iter().zip(lists) {
        match (&outcome.refused, &outcome.notes) {
            (Some(refused), _) => {
                // The remedy names `tapis reload`, as for a server. Here, `tapis compile` has to be repeated instead.
                let verb = format!("tapis compile -o {} ", plan.out.shown());
                let refused = refused.to_string().replace("tapis reload ", &verb);
                writeln!(out, "{}: {refused}", list.name)?;
            }
            (None, Some(notes)) => {
                list_summary::print_list(
                    &list.name,
                    &list.path,
                    outcome.rules,
                    &notes.tally,
                    list_summary::SHOWN,
                    out,
                )?;
            }
            (None, None) => {}
        }
    }
    Ok(())
}

fn print_outcome(image: &Path, outcome: &Outcome, out: &mut impl Write) -> io::Result<()> {
    let per_name = outcome.bytes as f64 / outcome.given.max(1) as f64;
    writeln!(
        out,
        "{}: {} in, {}, {} pruned, {}, {per_name:.1} per name, {:.1} s, {} MB of memory",
        image.shown(),
        counted(outcome.given, "name", "names"),
        counted(outcome.rules, "rule", "rules"),
        outcome.pruned,
        counted(outcome.bytes, "byte", "bytes"),
        outcome.seconds,
        outcome.peak / 1_000_000,
    )
}

fn show(progress: &Progress, event: &Event) {
    let (step, list, done, of) = match event {
        Event::Reading { list, bytes, of } => ("reading", &**list, *bytes, *of),
        Event::Writing { names, of } => ("writing", "", *names, *of),
        Event::Done(_) => return,
    };
    progress.show(step, list);
    progress.set(done, of);
}
