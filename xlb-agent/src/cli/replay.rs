//! `replay`: what xlb would do with a capture, a line a frame.

use super::{Exit, args::Global, args_replay::ReplayArgs, print, tables::or_dash};
use crate::replay::{self, Line, Options};

/// Replays the capture.
pub(super) fn replay(global: &Global, args: &ReplayArgs) -> anyhow::Result<Exit> {
    let options = Options {
        config: args.config.clone(),
        state_dir: global.options(&args.config)?.state_dir,
        capture: args.capture.clone(),
        output: args.file()?.to_owned(),
        next_hops: args.next_hops()?,
        tunnel_sources: args.tunnel_sources.clone(),
    };
    let mut is_first = true;
    let done = replay::replay(&options, |line| {
        if args.json {
            return print::text_out(&(serde_json::to_string(line)? + "\n"));
        }
        // Not before there is a line: an error stands alone.
        if std::mem::take(&mut is_first) {
            print::text_out(&head())?;
        }
        print::text_out(&text(line))
    })?;
    for warning in &done.warnings {
        eprintln!("warning: {warning}");
    }
    eprintln!(
        "{}; what leaves is in {}",
        done.summary,
        options.output.display()
    );
    Ok(Exit::Well)
}

fn head() -> String {
    columns([
        "NUMBER", "TIME", "VERDICT", "REASON", "SERVICE", "SLOT", "BACKEND", "PACKET",
    ])
}

fn text(line: &Line) -> String {
    columns([
        &line.number.to_string(),
        &format!("{:.6}", line.time),
        &line.verdict.to_string(),
        &or_dash(line.reason.clone()),
        &or_dash(line.service.clone()),
        &or_dash(line.slot.map(|slot| slot.to_string())),
        &or_dash(line.backend.map(|backend| backend.to_string())),
        &line.packet,
    ])
}

/// Columns of fixed widths: a line is printed before the next frame is looked at.
fn columns(cells: [&str; 8]) -> String {
    let [
        number,
        time,
        verdict,
        reason,
        service,
        slot,
        backend,
        packet,
    ] = cells;
    format!(
        "{number:>8}  {time:>17}  {verdict:<7}  {reason:<20}  {service:<12}  {slot:<6}  {backend:<21}  \
         {packet}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::Verdict;

    #[test]
    fn golden() {
        let line = Line {
            number: 17,
            time: 1_700_000_000.25,
            bytes: 74,
            packet: "203.0.113.9:51812 > 192.0.2.10:443 tcp [S]".to_owned(),
            verdict: Verdict::Forward,
            reason: None,
            service: Some("web".to_owned()),
            slot: Some(4711),
            backend: Some("10.0.1.7:8080".parse().unwrap()),
            sent_bytes: Some(94),
        };
        let dropped = Line {
            number: 18,
            verdict: Verdict::Drop,
            reason: Some("ttl-expired".to_owned()),
            slot: None,
            backend: None,
            sent_bytes: None,
            ..line.clone()
        };
        assert_eq!(
            head() + &text(&line) + &text(&dropped),
            [
                "  NUMBER               TIME  VERDICT  REASON                SERVICE       SLOT    BACKEND                PACKET\n",
                "      17  1700000000.250000  forward  -                     web           4711    10.0.1.7:8080          203.0.113.9:51812 > 192.0.2.10:443 tcp [S]\n",
                "      18  1700000000.250000  drop     ttl-expired           web           -       -                      203.0.113.9:51812 > 192.0.2.10:443 tcp [S]\n",
            ]
            .concat()
        );
    }
}
