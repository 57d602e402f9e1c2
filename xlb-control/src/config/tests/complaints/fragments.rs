//! `fragments` of a service.

use super::{Row, expect};
use crate::config::{
    Severity,
    tests::{HEAD, SOUND, refused},
};

#[test]
fn addresses_are_refused_where_they_say_too_little() {
    let rows: &[Row<'_>] = &[
        (
            "fragments = \"address\"",
            "`fragments = \"address\"` is for UDP: it would tear connections, whose other packets go by \
             their ports",
            (15, 13),
            "`fragments = \"follow\"`",
        ),
        (
            "fragments = \"address\"\nprotocol = \"udp\"\nudp = \"tracked\"",
            "`fragments = \"address\"` is lost on `udp = \"tracked\"`: only the ports lead to the record \
             of a flow",
            (15, 13),
            "remove it",
        ),
        (
            "fragments = \"adress\"",
            "`fragments` can't be `adress`",
            (15, 13),
            "did you mean `address`?",
        ),
    ];
    for &(lines, message, place, help) in rows {
        let text = format!("{HEAD}{SOUND}{lines}\n");
        let row = (text.as_str(), message, place, help);
        expect(&refused(&text), Severity::Error, row);
    }
}

#[test]
fn a_vip_with_two_services_of_udp_has_no_fragments_by_address() {
    let second = "\n[[service]]\nname = \"two\"\nvip = \"192.0.2.10\"\nport = 53\nprotocol = \"udp\"\n\
                  forward = \"l2-dsr\"\nbackends = [{ address = \"10.0.1.9\", port = 53 }]\n";
    let first = "protocol = \"udp\"\nfragments = \"address\"\n";
    let text = format!("{HEAD}{SOUND}{first}{second}");
    let message = "service `web` has the VIP 192.0.2.10 with `fragments = \"address\"`, and service `two` \
                   has it too: fragments have no port to tell which of the two they are for";
    let row = (
        text.as_str(),
        message,
        (20, 7),
        "give one of them another VIP",
    );
    expect(&refused(&text), Severity::Error, row);
}
