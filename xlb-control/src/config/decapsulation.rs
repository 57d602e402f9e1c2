//! The configuration of a backend that decapsulates: a file of its own, with one table, `[backend]`.

use std::{net::IpAddr, path::Path};

use ipnet::IpNet;

use super::{ConfigError, Diagnostics, Loaded, Mode, decode};

/// `[backend]`: what a backend takes out of outer headers, and from whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decapsulation {
    /// Interfaces on which encapsulated packets come in, by name.
    pub interfaces: Vec<String>,
    /// How the program is attached.
    pub mode: Mode,
    /// Addresses that balancers send from. Encapsulated packets of others are dropped.
    pub balancers: Vec<IpNet>,
    /// Addresses that encapsulated packets may be for. Those for others are dropped.
    pub vips: Vec<IpAddr>,
    /// Addresses of other backends that packets may be passed on to, if a balancer names one as the
    /// alternative.
    pub peers: Vec<IpNet>,
    /// Whether the VIPs are put on the loopback interface, and the host kept from answering ARP for
    /// them.
    pub loopback: bool,
}

impl Decapsulation {
    /// The file that is read when none is named.
    pub const DEFAULT_PATH: &str = "/etc/xlb/backend.toml";

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// When the file can't be read, or when at least one of the complaints about it is an error;
    /// then with all of them, warnings included.
    pub fn load(path: &Path) -> Result<Loaded<Self>, ConfigError> {
        let text = super::read(path)?;
        Self::parse(&path.display().to_string(), &text).map_err(ConfigError::Invalid)
    }

    /// Reads the text of a file; the name is for the complaints.
    ///
    /// # Errors
    ///
    /// When at least one of the complaints is an error; then with all of them, warnings included.
    pub fn parse(file_name: &str, text: &str) -> Result<Loaded<Self>, Diagnostics> {
        decode::decapsulation(file_name, text)
    }
}
