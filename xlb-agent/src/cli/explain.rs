//! `explain`: what becomes of a packet.

use xlb_control::api::Client;

use super::{Exit, args::Global, args_explain::ExplainArgs, client, print, tables};
use crate::daemon;

/// Asks the agent, or, where none answers, the pinned maps.
pub(super) fn explain(global: &Global, args: &ExplainArgs) -> anyhow::Result<Exit> {
    let packet = args.packet().map_err(anyhow::Error::msg)?;
    let options = global.options(&args.config)?;
    let explanation = client::block_on(async {
        match Client::new(&global.socket).explain(&packet).await {
            Ok(explanation) => Ok(explanation),
            Err(error) if client::is_agent_down(&error) => daemon::explain_alone(&options, &packet)
                .map_err(|why| {
                    anyhow::Error::from(error).context(format!("ask the pinned maps: {why:#}"))
                }),
            Err(error) => Err(error.into()),
        }
    })?;
    print::answer(global.output(), &explanation, tables::explanation)?;
    Ok(Exit::Well)
}
