//! Explicit congestion notification at the end of a tunnel (RFC 6040).

/// Not-ECT: the sender does not understand congestion marks.
pub const NOT_ECT: u8 = 0b00;
/// ECT(1).
pub const ECT_1: u8 = 0b01;
/// ECT(0).
pub const ECT_0: u8 = 0b10;
/// CE: congestion was experienced.
pub const CE: u8 = 0b11;

/// The ECN field of a packet that leaves its outer header (RFC 6040, section 4.2, figure 4); `None`:
/// it is to be dropped.
#[inline(always)]
#[must_use]
pub const fn decapsulated(inner: u8, outer: u8) -> Option<u8> {
    match (inner, outer) {
        (NOT_ECT, CE) => None,
        (_, CE) => Some(CE),
        (ECT_0, ECT_1) => Some(ECT_1),
        (inner, _) => Some(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figure, row by row.
    #[test]
    fn the_table_is_the_rfcs() {
        let outer = [NOT_ECT, ECT_0, ECT_1, CE];
        let rows = [
            (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
            (ECT_0, [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)]),
            (ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)]),
            (CE, [Some(CE), Some(CE), Some(CE), Some(CE)]),
        ];
        for (inner, row) in rows {
            for (outer, expected) in outer.into_iter().zip(row) {
                assert_eq!(decapsulated(inner, outer), expected, "{inner} {outer}");
            }
        }
    }
}
