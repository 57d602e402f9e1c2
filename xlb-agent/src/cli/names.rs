//! Which pool or service an operator means, and what else they could have meant.

use thiserror::Error;
use xlb_control::api::{ServiceStatus, Status};

/// A name that the agent does not know.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("there is no {kind} `{name}`{hint}")]
pub(super) struct UnknownName {
    kind: &'static str,
    name: String,
    hint: String,
}

impl UnknownName {
    fn new<'a>(kind: &'static str, name: &str, known: impl Iterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.collect();
        let hint = if known.is_empty() {
            format!("; the agent has no {kind}")
        } else if let Some(best) = nearest(name, &known) {
            format!("; did you mean `{best}`?")
        } else {
            String::new()
        };
        Self {
            kind,
            name: name.to_owned(),
            hint,
        }
    }
}

/// The known name that is the fewest slips of the finger away, if one for every three letters
/// explains the difference.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let slips_max = (name.chars().count() / 3).max(1);
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), *candidate))
        .filter(|(slips, _)| *slips <= slips_max)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// The pool that `name` means: a pool of that name, or else the pool of the service of that name.
pub(super) fn pool<'a>(name: &str, status: &'a Status) -> Result<&'a str, UnknownName> {
    let pools = || status.pools.iter().map(|pool| pool.name.as_str());
    let services = || status.services.iter();
    pools()
        .find(|pool| *pool == name)
        .or_else(|| {
            let service = services().find(|service| service.name == name)?;
            Some(service.pool.as_str())
        })
        .ok_or_else(|| {
            let known = pools().chain(services().map(|service| service.name.as_str()));
            UnknownName::new("pool or service", name, known)
        })
}

/// The service of that name.
pub(super) fn service<'a>(
    name: &str,
    services: &'a [ServiceStatus],
) -> Result<&'a ServiceStatus, UnknownName> {
    services
        .iter()
        .find(|service| service.name == name)
        .ok_or_else(|| {
            let known = services.iter().map(|service| service.name.as_str());
            UnknownName::new("service", name, known)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples;

    #[test]
    fn a_service_names_its_pool() {
        let status = samples::status();
        assert_eq!(pool("web", &status), Ok("web"));
        assert_eq!(pool("dns-front", &status), Ok("dns"));
    }

    #[test]
    fn an_unknown_name_comes_with_the_nearest() {
        let status = samples::status();
        assert_eq!(
            pool("wbe", &status).unwrap_err().to_string(),
            "there is no pool or service `wbe`; did you mean `web`?"
        );
        assert_eq!(
            service("dns-frnt", &status.services)
                .unwrap_err()
                .to_string(),
            "there is no service `dns-frnt`; did you mean `dns-front`?"
        );
    }

    #[test]
    fn nothing_is_suggested_where_nothing_is_near() {
        let status = samples::status();
        assert_eq!(
            service("mail", &status.services).unwrap_err().to_string(),
            "there is no service `mail`"
        );
        assert_eq!(
            service("mail", &[]).unwrap_err().to_string(),
            "there is no service `mail`; the agent has no service"
        );
    }
}
