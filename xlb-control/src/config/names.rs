//! The names by which the values of the model's enumerations are written in the file, in commands
//! and in output.

use std::{fmt, str::FromStr};

use super::{
    Affinity, AllDown, Announce, CheckKind, Forward, Fragments, Mode, OnRemove, Policy, Protocol,
    Settle, Udp, suggest,
};

/// An enumeration whose values have names.
pub trait Named: Copy + Sized + 'static {
    /// All values.
    const ALL: &'static [Self];

    /// Name of the value.
    fn name(self) -> &'static str;
}

/// A name that none of the values has.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{found}` is not known; {advice}")]
pub struct UnknownName {
    /// What was written.
    pub found: String,
    /// What to write instead.
    pub advice: String,
}

macro_rules! named {
    ($type:ident { $($value:ident = $name:literal),+ $(,)? }) => {
        impl Named for $type {
            const ALL: &'static [Self] = &[$(Self::$value),+];

            fn name(self) -> &'static str {
                match self {
                    $(Self::$value => $name),+
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl FromStr for $type {
            type Err = UnknownName;

            fn from_str(text: &str) -> Result<Self, UnknownName> {
                parse(text)
            }
        }
    };
}

named!(Mode { Auto = "auto", Native = "native", Generic = "generic" });
named!(Protocol { Tcp = "tcp", Udp = "udp", Sctp = "sctp" });
named!(Forward { Dnat = "dnat", L2Dsr = "l2-dsr", Ipip = "ipip", Gue = "gue", Local = "local", FullNat = "full-nat" });
named!(Policy { Maglev = "maglev", RoundRobin = "round-robin", LeastConnections = "least-connections" });
named!(Affinity { ClientIp = "client-ip" });
named!(Fragments {
    Follow = "follow",
    Address = "address"
});
named!(Udp { Stateless = "stateless", Tracked = "tracked" });
named!(AllDown { Panic = "panic", Drop = "drop" });
named!(OnRemove { Drain = "drain", Drop = "drop" });
named!(Settle { Auto = "auto", Never = "never" });
named!(CheckKind { Tcp = "tcp" });
named!(Announce { Arp = "arp" });

fn parse<T: Named>(text: &str) -> Result<T, UnknownName> {
    T::ALL
        .iter()
        .copied()
        .find(|value| value.name() == text)
        .ok_or_else(|| UnknownName {
            found: text.to_owned(),
            advice: suggest::advice(text, T::ALL.iter().map(|value| value.name())),
        })
}

#[cfg(test)]
mod tests {
    use serde::{Serialize, de::DeserializeOwned};

    use super::*;

    /// The API's JSON and the file must not drift apart.
    fn same_in_json<T: Named + Serialize + DeserializeOwned + PartialEq + fmt::Debug>() {
        for &value in T::ALL {
            assert_eq!(serde_json::to_value(value).unwrap(), value.name());
            assert_eq!(parse::<T>(value.name()), Ok(value));
        }
    }

    #[test]
    fn names_are_those_of_the_api() {
        same_in_json::<Mode>();
        same_in_json::<Protocol>();
        same_in_json::<Forward>();
        same_in_json::<Policy>();
        same_in_json::<Affinity>();
        same_in_json::<Udp>();
        same_in_json::<AllDown>();
        same_in_json::<OnRemove>();
        same_in_json::<Settle>();
        same_in_json::<CheckKind>();
        same_in_json::<Announce>();
    }

    #[test]
    fn an_unknown_name_says_what_to_write() {
        assert_eq!(
            "l2dsr".parse::<Forward>().unwrap_err().to_string(),
            "`l2dsr` is not known; did you mean `l2-dsr`?"
        );
        assert_eq!(
            "x".parse::<Protocol>().unwrap_err().to_string(),
            "`x` is not known; use one of `tcp`, `udp`, `sctp`"
        );
    }
}
