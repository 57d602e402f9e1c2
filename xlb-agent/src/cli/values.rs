//! Values of the command line: each parser says what to type where it can't read what was typed.

use std::{net::SocketAddr, time::Duration};

use serde::{
    Serialize,
    de::{
        DeserializeOwned, IntoDeserializer,
        value::{Error, StrDeserializer},
    },
};
use xlb_control::config::Protocol;

/// Parses `10.0.1.7:8080` or `[2001:db8::7]:8080`.
pub(super) fn endpoint(text: &str) -> Result<SocketAddr, String> {
    let endpoint: SocketAddr = text
        .parse()
        .map_err(|_| endpoint_hint(text).to_owned() + ENDPOINT_EXAMPLES)?;
    if endpoint.port() == 0 {
        return Err("port 0 can't be reached; type a port from 1 to 65535".to_owned());
    }
    Ok(endpoint)
}

/// Parses the same of a backend, whose port is 0 if it has none of its own.
pub(super) fn backend(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(endpoint) => Ok(endpoint),
        Err(_) => endpoint(text),
    }
}

/// Parses `192.0.2.10:443/tcp` or `[2001:db8::10]:53/udp`.
pub(super) fn destination(text: &str) -> Result<(SocketAddr, Protocol), String> {
    let (at, protocol) = text.rsplit_once('/').ok_or_else(|| {
        "the protocol is missing; type it as in `192.0.2.10:443/tcp` or `[2001:db8::10]:53/udp`"
            .to_owned()
    })?;
    Ok((endpoint(at)?, named(protocol)?))
}

const ENDPOINT_EXAMPLES: &str =
    "; type an address and a port, as in `10.0.1.7:8080` or `[2001:db8::7]:8080`";

fn endpoint_hint(text: &str) -> &'static str {
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        "an IPv6 address stands in brackets, followed by the port"
    } else if text.parse::<std::net::Ipv4Addr>().is_ok() {
        "the port is missing"
    } else {
        "this is not an address and a port (names are not resolved)"
    }
}

/// Parses a duration with a unit into whole seconds, rounded up.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let duration: Duration = humantime::parse_duration(text).map_err(|error| {
        let why = if text.parse::<f64>().is_ok() {
            "a duration needs a unit".to_owned()
        } else {
            error.to_string()
        };
        format!("{why}; type it as in `30s`, `5m` or `1h30m`")
    })?;
    let up = u64::from(duration.subsec_nanos() > 0);
    Ok(duration.as_secs().saturating_add(up))
}

/// Parses an enum of the configuration by the name that it has in the file.
pub(super) fn named<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let deserializer: StrDeserializer<'_, Error> = text.into_deserializer();
    T::deserialize(deserializer).map_err(|error| error.to_string())
}

/// The name that a value has in the file and in the control API.
pub(super) fn name<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xlb_control::config::Forward;

    #[test]
    fn endpoints() {
        assert_eq!(
            endpoint("10.0.1.7:8080"),
            Ok("10.0.1.7:8080".parse().unwrap())
        );
        assert_eq!(
            endpoint("[2001:db8::7]:8080"),
            Ok("[2001:db8::7]:8080".parse().unwrap())
        );
    }

    #[test]
    fn what_is_wrong_with_an_endpoint_is_said() {
        for (text, why) in [
            ("10.0.1.7", "the port is missing"),
            ("2001:db8::7", "stands in brackets"),
            ("web1:80", "names are not resolved"),
            ("10.0.1.7:80800", "not an address and a port"),
        ] {
            let error = endpoint(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
            assert!(
                error.ends_with("as in `10.0.1.7:8080` or `[2001:db8::7]:8080`"),
                "{text}: {error}"
            );
        }
        assert!(endpoint("10.0.1.7:0").unwrap_err().contains("port 0"));
    }

    #[test]
    fn destinations() {
        let (endpoint, protocol) = destination("[2001:db8::10]:53/udp").unwrap();
        assert_eq!(endpoint, "[2001:db8::10]:53".parse().unwrap());
        assert_eq!(protocol, Protocol::Udp);
        for (text, why) in [
            ("192.0.2.10:443", "the protocol is missing"),
            ("192.0.2.10/tcp", "the port is missing"),
            (
                "192.0.2.10:443/dccp",
                "expected one of `tcp`, `udp`, `sctp`",
            ),
        ] {
            let error = destination(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn durations_have_a_unit_and_are_rounded_up() {
        assert_eq!(seconds("5m"), Ok(300));
        assert_eq!(seconds("1500ms"), Ok(2));
        assert_eq!(
            seconds("300"),
            Err("a duration needs a unit; type it as in `30s`, `5m` or `1h30m`".to_owned())
        );
        assert!(seconds("soon").is_err());
    }

    #[test]
    fn names_are_those_of_the_file() {
        assert_eq!(named("l2-dsr"), Ok(Forward::L2Dsr));
        assert_eq!(name(&Forward::L2Dsr), "l2-dsr");
        let error = named::<Protocol>("dccp").unwrap_err();
        assert!(
            error.contains("expected one of `tcp`, `udp`, `sctp`"),
            "{error}"
        );
    }
}
