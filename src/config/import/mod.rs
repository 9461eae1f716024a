//! Turns configurations of other DNS programs into one of this server, and reports each setting that has no counterpart.

mod adguard;
mod adguard_keys;
mod bind;
mod bind_acl;
mod bind_options;
mod bind_syntax;
mod blocky;
mod blocky_lists;
mod dnscrypt;
mod dnscrypt_keys;
mod dnsmasq;
mod dnsmasq_files;
mod dnsmasq_options;
mod dnsmasq_records;
mod draft;
mod draft_names;
mod draft_parts;
mod duration;
mod encrypted;
mod error;
mod folder;
mod hosts;
mod keys;
mod list_urls;
mod normalise;
mod option_line;
mod own_rules;
mod pihole;
mod pihole_exports;
mod pihole_keys;
mod recognise;
mod reverse;
mod servers;
mod source;
mod tool;
mod tree;
mod unbound;
mod unbound_settings;
mod unbound_syntax;
mod unbound_zones;
mod write;

#[cfg(test)]
mod tests;

use std::path::Path;

use self::draft::Draft;
use self::folder::Folder;

pub use self::error::ImportError;
pub use self::source::NotCarried;
pub use self::tool::Tool;
pub use self::write::Imported;

/// Imports a program's configuration from its file, or from the directory that has it. Files that it includes are read
/// if they are in that directory. Passwords and keys are in no part of the result.
///
/// # Errors
/// [`ImportError`] if the file can't be read, is another program's, or has an error that hides the rest of it.
pub fn import(tool: Tool, path: &Path) -> Result<Imported, ImportError> {
    let (folder, main) = Folder::open(tool, path)?;
    let mut draft = Draft::default();
    let main_text = folder.read_main(&main)?;
    recognise::check(tool, &main_text)?;
    match tool {
        Tool::Dnsmasq => dnsmasq::import(&folder, &main_text, &mut draft),
        Tool::Unbound => unbound::import(&folder, &main_text, &mut draft),
        Tool::Bind => bind::import(&folder, &main_text, &mut draft)?,
        Tool::DnscryptProxy => dnscrypt::import(&folder, &main_text, &mut draft)?,
        Tool::Pihole => pihole::import(&folder, &main_text, &mut draft)?,
        Tool::Adguard => adguard::import(&folder, &main_text, &mut draft)?,
        Tool::Blocky => blocky::import(&folder, &main_text, &mut draft)?,
    }
    Ok(write::finish(draft, tool))
}
