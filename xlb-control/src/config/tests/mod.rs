//! Tests of the configuration as a whole: from text to configuration, or to complaints.

use super::{Config, Diagnostics, Loaded};

mod accepted;
mod complaints;
mod golden;
mod properties;

/// The head of a file, four lines long; what is tested begins in line 5.
const HEAD: &str = "[dataplane]\ninterfaces = [\"eth0\"]\n\n\n";

/// A pool and a service that are sound, in 10 lines.
const SOUND: &str = "\
[[pool]]
name = \"web\"
backends = [{ address = \"10.0.1.7\", port = 8080 }]

[[service]]
name = \"web\"
vip = \"192.0.2.10\"
port = 443
forward = \"dnat\"
pool = \"web\"
";

fn refused(text: &str) -> Diagnostics {
    match Config::parse("xlb.toml", text) {
        Ok(loaded) => panic!("was accepted: {loaded:?}"),
        Err(diagnostics) => diagnostics,
    }
}

fn accepted(text: &str) -> Loaded {
    match Config::parse("xlb.toml", text) {
        Ok(loaded) => loaded,
        Err(diagnostics) => panic!("was refused:\n{diagnostics}"),
    }
}
