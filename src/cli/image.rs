//! Owns `tapis image`: what is in an image file, and where it comes from.
//! Refuses to say anything of a damaged one but that, and how.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::failure::Failure;
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
struct Told {
    file: PathBuf,
    octets: usize,
    rules: u64,
    pruned: u64,
    nodes: u64,
    buckets: u64,
    /// Children in the fullest bucket: the most that a lookup ever compares at one label.
    fullest_bucket: u32,
    sections: Vec<SectionSize>,
    provenance: Provenance,
}

#[derive(Debug, Serialize)]
struct SectionSize {
    name: &'static str,
    octets: usize,
    digest: String,
}

pub(super) fn run(args: &ImageArgs, out: &mut impl Write) -> Result<(), Failure> {
    let told = tell(args, &read_image(&args.file)?);
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&told)?)?;
        return Ok(());
    }
    print(&told, out)
}

fn tell(args: &ImageArgs, image: &Image) -> Told {
    let facts = image.facts();
    let sections = image.extents().map(|(section, extent)| SectionSize {
        name: section.name(),
        octets: extent.len,
        digest: blake3::Hash::from(extent.digest).to_string(),
    });
    Told {
        file: args.file.clone(),
        octets: image.size(),
        rules: facts.rules,
        pruned: image.pruned(),
        nodes: facts.nodes,
        buckets: facts.buckets,
        fullest_bucket: facts.fullest,
        sections: sections.collect(),
        provenance: image.provenance().clone(),
    }
}

fn print(told: &Told, out: &mut impl Write) -> Result<(), Failure> {
    let (file, octets) = (told.file.shown(), told.octets);
    let given = told.rules + told.pruned;
    writeln!(out, "{file}: {octets} bytes, whole and undamaged")?;
    writeln!(
        out,
        "made by tapis {} at {:.0}",
        told.provenance.made_by, told.provenance.made_at
    )?;
    writeln!(
        out,
        "{} given, {} pruned, {} in it; {:.2} bytes for each rule given",
        counted(given, "rule", "rules"),
        told.pruned,
        told.rules,
        octets as f64 / given.max(1) as f64
    )?;
    writeln!(
        out,
        "{} in {}, the fullest of {}",
        counted(told.nodes, "node", "nodes"),
        counted(told.buckets, "bucket", "buckets"),
        told.fullest_bucket
    )?;
    for section in &told.sections {
        let (name, size) = (section.name, section.octets);
        writeln!(
            out,
            "section {name:<12} {size:>12} bytes  {:.16}",
            section.digest
        )?;
    }
    for source in &told.provenance.sources {
        let (name, path) = (&source.name, source.path.shown());
        let whole = if source.whole {
            ", in place of the base's"
        } else {
            ""
        };
        writeln!(
            out,
            "source {name}: {}{whole}, read {:.0} from {path}, digest {:.16}",
            counted(source.rules, "rule", "rules"),
            source.read_at,
            source.digest
        )?;
    }
    Ok(())
}
