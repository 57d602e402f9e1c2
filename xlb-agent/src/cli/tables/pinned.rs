//! `status` while no agent answers: what stands in the pinned maps.

use super::{Style, layout, or_dash, status};
use crate::{
    cli::values::name,
    daemon::{PinnedService, PinnedStatus},
};

/// What holds for the data path, in paragraphs.
pub(in crate::cli) fn overview(status: &PinnedStatus, style: Style) -> String {
    let head = format!(
        "agent    not running: this is what stands in the maps under {}\nprogram  {}\n",
        status.pin_dir,
        status::loaded(&status.program)
    );
    let mut paragraphs = vec![head, status::interfaces(&status.interfaces, style)];
    if !status.services.is_empty() {
        paragraphs.push(services(&status.services, style));
    }
    paragraphs.push(status::maps(&status.maps, style));
    if !status.reasons.is_empty() {
        paragraphs.push(status::reasons(&status.reasons, style));
    }
    paragraphs.join("\n")
}

fn services(services: &[PinnedService], style: Style) -> String {
    layout(
        style,
        ["SERVICE", "VIP", "POOL", "HEALTH", "BACKENDS", "MOVING"],
        services.iter().map(|service| {
            [
                or_dash(service.name.clone()),
                format!("{}/{}", service.vip, protocol(service.protocol)),
                service.pool.clone(),
                name(&service.health),
                format!("{}/{}", service.accepting, service.backends),
                service.moving_slots.to_string(),
            ]
        }),
    )
}

fn protocol(number: u8) -> String {
    match number {
        xlb_common::maps::protocol::TCP => "tcp".to_owned(),
        xlb_common::maps::protocol::UDP => "udp".to_owned(),
        other => other.to_string(),
    }
}
