//! Which addresses downloads may connect to: public ones, and those that the operator permits. Otherwise a publisher's
//! name server could make this server send requests to machines in its own network.

use std::net::IpAddr;

use crate::config::download::Downloads;
use crate::config::public::is_public;
use crate::config::web::WebHost;

/// Whether a download from `host` may connect to this address of it.
pub(super) fn is_permitted(settings: &Downloads, host: &WebHost, address: IpAddr) -> bool {
    let address = address.to_canonical();
    let mut networks = settings.private_networks.iter();
    is_public(address)
        || settings.private_hosts.contains(&host.to_string())
        || networks.any(|network| network.contains(&address))
}
