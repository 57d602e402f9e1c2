//! What the program tells the agent.

use std::io;

use aya::maps::{Map, MapData, RingBuf};
use tokio::io::{Interest, unix::AsyncFd};
use xlb_common::maps::Event;

use super::{error::DataplaneError, pins::Pins};

/// The ring buffer of events, of which there is one reader. It has one size, so that no change of
/// program and maps puts another in its place.
#[derive(Debug)]
pub struct Events {
    ring: AsyncFd<Ring>,
}

struct Ring(RingBuf<MapData>);

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ring")
    }
}

impl std::os::fd::AsRawFd for Ring {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

impl Events {
    /// Opens the ring buffer of that name; within a Tokio runtime.
    pub(super) fn open(pins: &Pins, name: &str) -> Result<Self, DataplaneError> {
        let failed = |error| DataplaneError::Events(Box::new(error));
        let data = MapData::from_pin(pins.map(name)).map_err(failed)?;
        let ring = RingBuf::try_from(Map::RingBuf(data)).map_err(failed)?;
        // SAFETY: the ring owns its descriptor and closes it with itself, not before.
        let ring = unsafe { AsyncFd::register_with_interest(Ring(ring), Interest::READABLE) }
            .map_err(|error| failed(io::Error::from(error).into()))?;
        Ok(Self { ring })
    }

    /// Waits for events, and takes those that are there, at most `limit`, which is not 0. Loses none
    /// when it is cancelled.
    ///
    /// # Errors
    ///
    /// What the kernel says while waiting.
    pub async fn next(&mut self, limit: usize) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        while events.is_empty() {
            let mut guard = self.ring.readable_mut().await?;
            let ring = &mut guard.get_inner_mut().0;
            while events.len() < limit
                && let Some(item) = ring.next()
            {
                events.extend(parse(&item));
            }
            if events.len() < limit {
                guard.clear_ready();
            }
        }
        Ok(events)
    }
}

fn parse(bytes: &[u8]) -> Option<Event> {
    if bytes.len() < size_of::<Event>() {
        return None;
    }
    // SAFETY: there are enough bytes, and any bit pattern is an event; they may be unaligned.
    Some(unsafe { bytes.as_ptr().cast::<Event>().read_unaligned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_from_its_bytes() {
        let mut bytes = [0_u8; 33];
        bytes[1] = 1;
        bytes[5] = 9;
        let event = parse(&bytes[1..]).expect("whole");
        assert_eq!((event.kind, event.ifindex), (1, 9));
        assert_eq!(parse(&bytes[2..]), None);
    }
}
