//! `tapis image`: checks an image file, and prints its contents and the sources of its rules.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::failure::Failure;
use super::plain::print_json;
use crate::config::shown::{Show, counted};
use crate::control::persist::store::read_image;
use crate::policy::image::Image;
use crate::policy::image::provenance::Provenance;

#[derive(Debug, Args)]
pub(super) struct ImageArgs {
    /// The image's file.
    file: PathBuf,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct ImageSummary {
    file: PathBuf,
    #[serde(rename = "octets")]
    bytes: usize,
    rules: u64,
    pruned: u64,
    nodes: u64,
    buckets: u64,
    /// The number of children in the fullest bucket, which is the maximum number of comparisons of a lookup at one
    /// label.
    fullest_bucket: u32,
    sections: Vec<SectionSize>,
    provenance: Provenance,
}

#[derive(Debug, Serialize)]
struct SectionSize {
    name: &'static str,
    #[serde(rename = "octets")]
    bytes: usize,
    digest: String,
}

pub(super) fn run(args: &ImageArgs, out: &mut impl Write) -> Result<(), Failure> {
    let summary = ImageSummary::new(args, &read_image(&args.file)?);
    if args.json {
        print_json(&summary, out)?;
        return Ok(());
    }
    print(&summary, out)
}

impl ImageSummary {
    fn new(args: &ImageArgs, image: &Image) -> Self {
        let facts = image.facts();
        let sections = image.extents().map(|(section, extent)| SectionSize {
            name: section.name(),
            bytes: extent.len,
            digest: blake3::Hash::from(extent.digest).to_string(),
        });
        Self {
            file: args.file.clone(),
            bytes: image.size(),
            rules: facts.rules,
            pruned: image.pruned(),
            nodes: facts.nodes,
            buckets: facts.buckets,
            fullest_bucket: facts.fullest,
            sections: sections.collect(),
            provenance: image.provenance().clone(),
        }
    }
}

fn print(summary: &ImageSummary, out: &mut impl Write) -> Result<(), Failure> {
    let (file, bytes) = (summary.file.shown(), summary.bytes);
    let given = summary.rules + summary.pruned;
    writeln!(out, "{file}: {bytes} bytes, complete and undamaged")?;
    writeln!(
        out,
        "made by tapis {} at {:.0}",
        summary.provenance.made_by, summary.provenance.made_at
    )?;
    writeln!(
        out,
        "{} given, {} pruned, {} in it; {:.2} bytes for each rule given",
        counted(given, "rule", "rules"),
        summary.pruned,
        summary.rules,
        bytes as f64 / given.max(1) as f64
    )?;
    writeln!(
        out,
        "{} in {}, the fullest of {}",
        counted(summary.nodes, "node", "nodes"),
        counted(summary.buckets, "bucket", "buckets"),
        summary.fullest_bucket
    )?;
    for section in &summary.sections {
        let (name, size) = (section.name, section.bytes);
        writeln!(
            out,
            "section {name:<12} {size:>12} bytes  {:.16}",
            section.digest
        )?;
    }
    for source in &summary.provenance.sources {
        let (name, path) = (&source.name, source.path.shown());
        writeln!(
            out,
            "source {name}: {}, read {:.0} from {path}, digest {:.16}",
            counted(source.rules, "rule", "rules"),
            source.read_at,
            source.digest
        )?;
    }
    Ok(())
}
