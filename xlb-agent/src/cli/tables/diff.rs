//! `diff`: a paragraph for each service that would change.

use std::fmt::Write;

use xlb_control::{
    api::{Diff, DiffKind, FlowsCut, PoolDiff, ServiceDiff, SlotsDiff},
    config::At,
};

use crate::cli::units::percent;

/// What would change, in paragraphs; a line says how many services would not.
pub(in crate::cli) fn differences(diff: &Diff) -> String {
    let mut paragraphs = Vec::new();
    if !diff.host.is_empty() {
        paragraphs.push(paragraph("host: changes", &diff.host));
    }
    let changed = |service: &&ServiceDiff| service.change != DiffKind::Unchanged;
    paragraphs.extend(diff.services.iter().filter(changed).map(service));
    paragraphs.extend(diff.pools.iter().map(pool));
    let same = diff.services.len() - diff.services.iter().filter(changed).count();
    if same > 0 || paragraphs.is_empty() {
        let plural = if same == 1 { "" } else { "s" };
        paragraphs.push(format!("no change: {same} service{plural}\n"));
    }
    paragraphs.join("\n")
}

fn service(service: &ServiceDiff) -> String {
    let address = At {
        vip: service.vip,
        ports: service.port,
    };
    let head = format!(
        "service {} ({address}/{}, pool {}): {}",
        service.service,
        service.protocol,
        service.pool,
        fate(service.change)
    );
    let mut lines = service.changes.clone();
    match service.change {
        DiffKind::Added => {}
        DiffKind::Removed => lines.push(cut(&service.flows_cut, service.slots.ring)),
        DiffKind::Unchanged | DiffKind::Changed => {
            lines.push(slots(&service.slots));
            lines.push(cut(&service.flows_cut, service.slots.ring));
        }
    }
    paragraph(&head, &lines)
}

fn pool(pool: &PoolDiff) -> String {
    let head = format!(
        "pool {} (behind no service): {}",
        pool.pool,
        fate(pool.change)
    );
    let mut lines = pool.changes.clone();
    if pool.change == DiffKind::Changed {
        lines.push(slots(&pool.slots));
    }
    paragraph(&head, &lines)
}

fn paragraph(head: &str, lines: &[String]) -> String {
    let mut text = format!("{head}\n");
    for line in lines {
        // Writing to a string can't fail.
        let _ = writeln!(text, "  {line}");
    }
    text
}

const fn fate(change: DiffKind) -> &'static str {
    match change {
        DiffKind::Unchanged => "no change",
        DiffKind::Added => "added",
        DiffKind::Changed => "changes",
        DiffKind::Removed => "removed",
    }
}

fn slots(slots: &SlotsDiff) -> String {
    let share = |part: u32| percent(part.into(), slots.ring.into());
    format!(
        "slots that move: {} of {} ({}), ideal {} ({})",
        slots.moving,
        slots.ring,
        share(slots.moving),
        slots.ideal,
        share(slots.ideal)
    )
}

fn cut(cut: &FlowsCut, ring: u32) -> String {
    if cut.is_none() {
        return "flows cut: 0".to_owned();
    }
    let recorded = format!("{} of them recorded", cut.recorded);
    if let Some(why) = &cut.all {
        return format!("flows cut: all, {recorded}: {why}");
    }
    if cut.datagrams {
        return format!(
            "flows cut: those of {} slots ({}): datagrams of which nothing is recorded move with \
             their slots",
            cut.slots,
            percent(cut.slots.into(), ring.into())
        );
    }
    let backends: Vec<String> = cut.backends.iter().map(ToString::to_string).collect();
    format!(
        "flows cut: those of {}: the flows of {} slots ({}), and {} that {} recorded",
        backends.join(", "),
        cut.slots,
        percent(cut.slots.into(), ring.into()),
        cut.recorded,
        if cut.recorded == 1 { "is" } else { "are" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples;

    #[test]
    fn golden() {
        assert_eq!(
            differences(&samples::diff()),
            "\
host: changes
  max_flows: 131072 -> 262144

service dns (192.0.2.10:53/udp, pool dns): removed
  flows cut: all, 0 of them recorded: no service answers at 192.0.2.10:53/udp any more

service web (192.0.2.10:443/tcp, pool web): changes
  backend 10.0.1.9:8080 is added, weight 1
  backend 10.0.1.7:8080 is removed: its connections move to other backends at once, which cuts them
  slots that move: 5600 of 16381 (34.1%), ideal 5461 (33.3%)
  flows cut: those of 10.0.1.7:8080: the flows of 5461 slots (33.3%), and 12 that are recorded

pool spare (behind no service): changes
  backend 10.0.2.1:80: weight 1 -> 0
  slots that move: 0 of 251 (0.0%), ideal 0 (0.0%)

no change: 1 service
"
        );
    }

    #[test]
    fn nothing_to_change_is_a_line() {
        let mut diff = Diff::default();
        assert_eq!(differences(&diff), "no change: 0 services\n");
        assert!(diff.is_empty());
        diff.host.push("mode: auto -> native".to_owned());
        assert!(!diff.is_empty());
    }

    #[test]
    fn datagrams_move_with_their_slots() {
        let moving = FlowsCut {
            datagrams: true,
            slots: 5600,
            ..FlowsCut::default()
        };
        let line = cut(&moving, 16_381);
        assert!(
            line.starts_with("flows cut: those of 5600 slots (34.1%): "),
            "{line}"
        );
    }

    #[test]
    fn a_change_that_cuts_nothing_says_so() {
        let mut diff = samples::diff();
        diff.services[1].flows_cut = FlowsCut::default();
        assert!(differences(&diff).contains("\n  flows cut: 0\n"));
    }
}
