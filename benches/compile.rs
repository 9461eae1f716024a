//! Measures compiling a list, reading the image, and changing a few rules. `live/` measures a running server.
//!
//! ```text
//! cargo bench --bench compile                               # 1.5 million generated names
//! cargo bench --bench compile -- 1500000 9500000            # these numbers of names
//! TAPIS_NAMES=names.txt cargo bench --bench compile         # names of a file
//! ```
//! Pin the benchmark to one core: put `taskset -c 1` in front of the command. Each round
//!
//! - compiles the list with `tapis compile`, and sorts the same file with `sort -u` in one thread;
//! - reads the image, and hashes it with BLAKE3 in one thread;
//! - compiles small images of 11 and of 16,000 changes, and makes a snapshot of each, ready to be put in force.
//!   Half of the changes are new names, half are names of the list.
//!
//! Figures are medians of the rounds, with the lowest and the highest value.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod names;

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{BufWriter, Write as _};
use std::path::Path as FilePath;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use names::Random;
use tapis::control::persist::store::read_image;
use tapis::policy::builder::Builder;
use tapis::policy::image::Image;
use tapis::policy::image::provenance::ImageSource;
use tapis::policy::images::Images;
use tapis::policy::rule::Scope;
use tapis::policy::snapshot::Snapshot;
use tapis::wire::name::Name;

const ROUNDS: usize = 5;
/// A large number of changes.
const MANY: usize = 16_000;
const LIST: &str = "names";

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let test = arguments.iter().any(|argument| argument == "--test");
    let sizes: Vec<usize> = arguments.iter().filter_map(|a| a.parse().ok()).collect();
    let (sizes, rounds) = match (test, sizes.is_empty()) {
        (true, _) => (vec![5_000], 1),
        (false, true) => (vec![1_500_000], ROUNDS),
        (false, false) => (sizes, ROUNDS),
    };
    for size in sizes {
        measure(size, rounds);
    }
}

/// The seconds of each round.
#[derive(Default)]
struct Times(Vec<f64>);

impl Times {
    fn take<T>(&mut self, act: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = black_box(act());
        self.0.push(start.elapsed().as_secs_f64());
        done
    }

    fn spread(&self) -> (f64, f64, f64) {
        let mut all = self.0.clone();
        all.sort_by(f64::total_cmp);
        (all[all.len() / 2], all[0], all[all.len() - 1])
    }

    /// The ratios to the times of another contender in the same rounds.
    fn to(&self, other: &Self) -> Self {
        Self(
            self.0
                .iter()
                .zip(&other.0)
                .map(|(one, other)| one / other)
                .collect(),
        )
    }
}

fn say(what: &str, times: &Times, beside: Option<(&str, &Times)>) {
    let (median, least, most) = times.spread();
    let unit = |seconds: f64| seconds * 1e3;
    print!(
        "  {what:<24} {:9.2} ms ({:.2} to {:.2})",
        unit(median),
        unit(least),
        unit(most)
    );
    if let Some((name, other)) = beside {
        let (ratio, least, most) = times.to(other).spread();
        let other = unit(other.spread().0);
        print!(" | {name} {other:.2} ms | {ratio:.2} x ({least:.2} to {most:.2})");
    }
    println!();
}

fn measure(size: usize, rounds: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let list = folder.path().join("names.txt");
    let out = folder.path().join("names.image");
    let config = folder.path().join("tapis.toml");
    let text = format!("[[list]]\nname = \"{LIST}\"\npath = {list:?}\nkind = \"block\"\n");
    fs::write(&config, text).expect("room for the configuration");
    let names = write_list(&list, size);
    let text = fs::metadata(&list).expect("just written").len();
    println!("{size} names, {text} bytes of text");
    let [mut built, mut sorted, mut read, mut hashed] = [(); 4].map(|()| Times::default());
    let [mut few, mut many] = [(); 2].map(|()| Times::default());
    for _ in 0..rounds {
        let summary = built.take(|| compile(&config, &out));
        sorted.take(|| sort(&list));
        let image = Arc::new(read.take(|| read_image(&out).expect("an image")));
        let bytes = fs::read(&out).expect("the image");
        hashed.take(|| blake3::hash(&bytes));
        drop(bytes);
        few.take(|| change(&names, &image, 11));
        many.take(|| change(&names, &image, MANY));
        println!("  {summary}");
    }
    say("compile", &built, Some(("sort -u", &sorted)));
    say("read and check", &read, Some(("BLAKE3", &hashed)));
    say("11 changes", &few, None);
    say("16,000 changes", &many, None);
}

/// Writes a list of `size` names. Returns some of them.
fn write_list(to: &FilePath, size: usize) -> Vec<String> {
    let names = names::some(1, size);
    let mut file = BufWriter::new(File::create(to).expect("room for the list"));
    for name in &names {
        writeln!(file, "{name}").expect("room for the list");
    }
    file.flush().expect("room for the list");
    let step = names.len().div_ceil(MANY);
    names.into_iter().step_by(step).collect()
}

/// Compiles the list with the program. Returns the last line of its output.
fn compile(config: &FilePath, out: &FilePath) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tapis"))
        .args(["--config".as_ref(), config.as_os_str()])
        .args(["compile".as_ref(), "-o".as_ref(), out.as_os_str()])
        .output()
        .expect("tapis starts");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .last()
        .map_or_else(String::new, str::to_owned)
}

fn sort(list: &FilePath) {
    let status = Command::new("sort")
        .args(["-u", "--parallel=1"])
        .arg(list)
        .env("LC_ALL", "C")
        .stdout(Stdio::from(
            File::create("/dev/null").expect("there always"),
        ))
        .status();
    assert!(status.expect("there is a `sort`").success());
}

/// Applies changes to a base: from parsed names to a publishable snapshot.
fn change(names: &[String], base: &Arc<Image>, count: usize) -> Snapshot {
    let mut random = Random(count as u64);
    let mut builder = Builder::new();
    let source = builder.source(ImageSource::named(LIST)).expect("the first");
    for number in 0..count {
        let name = match number % 2 {
            0 => format!("new{number}.example"),
            _ => names[random.below(names.len())].clone(),
        };
        let Ok(name) = Name::from_text(&name) else {
            continue;
        };
        builder.insert(&name, source, Scope::Exact).expect("room");
    }
    let delta = Arc::new(builder.finish().expect("room"));
    Snapshot::default().with_rules(
        Vec::new(),
        Images {
            base: Some(Arc::clone(base)),
            delta: Some(delta),
            ..Images::default()
        },
    )
}
