//! Captures of frames: read as pcap or pcapng, written as pcapng (draft-ietf-opsawg-pcapng).

use std::{
    borrow::Cow,
    fs::File,
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use pcap_file::{
    DataLink, PcapError, TsResolution,
    pcap::PcapReader,
    pcapng::{
        Block, PcapNgBlock, PcapNgReader, PcapNgWriter,
        blocks::{
            enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption},
            interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption},
        },
    },
};

/// First four bytes of a pcapng file: the type of its section header.
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// `if_tsresol` of microseconds, which is what holds without the option.
const MICROSECONDS: u8 = 6;
/// `if_tsresol` of nanoseconds, in which we write.
const NANOSECONDS: u8 = 9;

/// A frame of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// When it was captured, since 1970.
    pub time: Duration,
    /// Its length on the wire, in bytes.
    pub wire_bytes: u32,
    /// What was kept of it, from its Ethernet header on.
    pub bytes: Vec<u8>,
}

/// A capture of Ethernet frames that is read.
pub struct Capture {
    name: String,
    frames: u64,
    format: Format,
}

type Source = Box<dyn Read>;

enum Format {
    Pcap(PcapReader<Source>),
    PcapNg(PcapNgReader<Source>),
}

impl Capture {
    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    ///
    /// When it can't be read, or is no capture of Ethernet frames.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let (name, source): (String, Source) = if path == Path::new("-") {
            ("standard input".to_owned(), Box::new(io::stdin()))
        } else {
            let file = File::open(path).with_context(|| format!("read {}", path.display()))?;
            (path.display().to_string(), Box::new(file))
        };
        Self::read(name, source)
    }

    /// Reads a capture from anywhere; `name` stands in errors.
    ///
    /// # Errors
    ///
    /// As for [`Self::open`].
    pub fn read(name: String, mut source: Source) -> anyhow::Result<Self> {
        let mut magic = [0; 4];
        source.read_exact(&mut magic).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                return no_capture(&name);
            }
            anyhow::Error::from(error).context(format!("read {name}"))
        })?;
        let whole: Source = Box::new(io::Cursor::new(magic).chain(source));
        let format = if magic == PCAPNG {
            Format::PcapNg(PcapNgReader::new(whole).map_err(|_| no_capture(&name))?)
        } else {
            let reader = PcapReader::new(whole).map_err(|_| no_capture(&name))?;
            of_ethernet(&name, reader.header().datalink)?;
            Format::Pcap(reader)
        };
        Ok(Self {
            name,
            frames: 0,
            format,
        })
    }

    /// The next frame; `None` at the end.
    ///
    /// # Errors
    ///
    /// When the capture is damaged or ends within a frame, or has frames of another link than
    /// Ethernet.
    pub fn next_frame(&mut self) -> anyhow::Result<Option<Captured>> {
        let next = match &mut self.format {
            Format::Pcap(reader) => next_of_pcap(reader),
            Format::PcapNg(reader) => next_of_pcapng(reader),
        };
        let at = self.frames + 1;
        let frame = next.map_err(|damage| match damage {
            Damage::Link(link) => not_ethernet(&self.name, link),
            Damage::Ends => anyhow::anyhow!(
                "{}: the capture ends in the middle of frame {at}; the frames before it were replayed",
                self.name
            ),
            Damage::Other(error) => {
                anyhow::Error::from(error).context(format!("{}: frame {at}", self.name))
            }
        })?;
        self.frames = at;
        Ok(frame)
    }
}

/// What can be wrong with a frame.
enum Damage {
    Link(DataLink),
    Ends,
    Other(PcapError),
}

impl From<PcapError> for Damage {
    fn from(error: PcapError) -> Self {
        let is_end = match &error {
            PcapError::IncompleteBuffer => true,
            PcapError::IoError(error) => error.kind() == io::ErrorKind::UnexpectedEof,
            PcapError::InvalidField(_)
            | PcapError::Utf8Error(_)
            | PcapError::FromUtf8Error(_)
            | PcapError::InvalidInterfaceId(_) => false,
        };
        if is_end {
            Self::Ends
        } else {
            Self::Other(error)
        }
    }
}

fn next_of_pcap(reader: &mut PcapReader<Source>) -> Result<Option<Captured>, Damage> {
    let unit_ns = match reader.header().ts_resolution {
        TsResolution::MicroSecond => 1000,
        TsResolution::NanoSecond => 1,
    };
    // Raw: a frame that is longer than the file's header says is no reason to stop.
    let Some(packet) = reader.next_raw_packet().transpose()? else {
        return Ok(None);
    };
    Ok(Some(Captured {
        time: Duration::from_secs(packet.ts_sec.into())
            + Duration::from_nanos(u64::from(packet.ts_frac) * unit_ns),
        wire_bytes: packet.orig_len,
        bytes: packet.data.into_owned(),
    }))
}

fn next_of_pcapng(reader: &mut PcapNgReader<Source>) -> Result<Option<Captured>, Damage> {
    loop {
        let Some(block) = reader.next_block().transpose()? else {
            return Ok(None);
        };
        let (interface, units, wire_bytes, mut bytes) = match block.into_owned() {
            // The library takes what it reads for nanoseconds, whatever the interface says.
            Block::EnhancedPacket(packet) => (
                packet.interface_id,
                packet.timestamp.as_nanos(),
                packet.original_len,
                packet.data.into_owned(),
            ),
            Block::SimplePacket(packet) => (0, 0, packet.original_len, packet.data.into_owned()),
            Block::Packet(packet) => (
                packet.interface_id.into(),
                packet.timestamp.into(),
                packet.original_len,
                packet.data.into_owned(),
            ),
            Block::SectionHeader(_)
            | Block::InterfaceDescription(_)
            | Block::NameResolution(_)
            | Block::InterfaceStatistics(_)
            | Block::SystemdJournalExport(_)
            | Block::Unknown(_) => continue,
        };
        // A simple packet is padded.
        bytes.truncate(wire_bytes as usize);
        let known = reader.interfaces().get(interface as usize);
        let known = known.ok_or(PcapError::InvalidInterfaceId(interface))?;
        if known.linktype != DataLink::ETHERNET {
            return Err(Damage::Link(known.linktype));
        }
        return Ok(Some(Captured {
            time: time_of(units, resolution(known)),
            wire_bytes,
            bytes,
        }));
    }
}

fn resolution(interface: &InterfaceDescriptionBlock<'_>) -> u8 {
    let mut options = interface.options.iter();
    let said = options.find_map(|option| {
        if let InterfaceDescriptionOption::IfTsResol(resolution) = option {
            Some(*resolution)
        } else {
            None
        }
    });
    said.unwrap_or(MICROSECONDS)
}

/// A time in units of `if_tsresol`: a negative power of ten, or of two if the highest bit is set.
fn time_of(units: u128, resolution: u8) -> Duration {
    let exponent = u32::from(resolution & 0x7f);
    let per_second = if resolution & 0x80 == 0 {
        10_u128.checked_pow(exponent)
    } else {
        2_u128.checked_pow(exponent)
    };
    let per_second = per_second.unwrap_or(u128::MAX);
    let seconds = u64::try_from(units / per_second).unwrap_or(u64::MAX);
    let rest = (units % per_second).saturating_mul(1_000_000_000) / per_second;
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(rest).unwrap_or(0))
}

fn of_ethernet(name: &str, link: DataLink) -> anyhow::Result<()> {
    if link == DataLink::ETHERNET {
        return Ok(());
    }
    Err(not_ethernet(name, link))
}

fn not_ethernet(name: &str, link: DataLink) -> anyhow::Error {
    anyhow::anyhow!(
        "{name}: its frames are of link type {link:?} ({}), and xlb sees Ethernet frames; capture on one \
         interface, as in `tcpdump -i eth0 -w in.pcap`, not on `any`",
        u32::from(link)
    )
}

fn no_capture(name: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "{name} is no capture in the format pcap or pcapng; write one with `tcpdump -i eth0 -w in.pcap`, and \
         unpack it if it is compressed"
    )
}

/// Where a frame goes that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Out of the interface: forwarded, or an answer.
    Sent,
    /// On to the host.
    Passed,
}

/// A pcapng file of what became of frames, which has two interfaces: `sent` and `passed`.
pub struct Output {
    path: PathBuf,
    writer: PcapNgWriter<BufWriter<File>>,
}

impl Output {
    /// Makes the file, or empties it.
    ///
    /// # Errors
    ///
    /// When it can't be written.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("write {}", path.display()))?;
        let writer = PcapNgWriter::new(BufWriter::new(file));
        let mut writer = writer.with_context(|| format!("write {}", path.display()))?;
        for (name, description) in [
            (
                "sent",
                "what xlb sends: forwarded packets and its own answers",
            ),
            ("passed", "what xlb leaves to the host"),
        ] {
            let interface = InterfaceDescriptionBlock {
                linktype: DataLink::ETHERNET,
                snaplen: 0,
                options: vec![
                    InterfaceDescriptionOption::IfName(Cow::Borrowed(name)),
                    InterfaceDescriptionOption::IfDescription(Cow::Borrowed(description)),
                    InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
                ],
            };
            let written = writer.write_block(&interface.into_block());
            written.with_context(|| format!("write {}", path.display()))?;
        }
        Ok(Self {
            path: path.to_owned(),
            writer,
        })
    }

    /// Writes a frame with a comment.
    ///
    /// # Errors
    ///
    /// When it can't be written.
    pub fn write(
        &mut self,
        direction: Direction,
        time: Duration,
        bytes: &[u8],
        comment: &str,
    ) -> anyhow::Result<()> {
        let Ok(original_len) = u32::try_from(bytes.len()) else {
            bail!("a frame has {} bytes", bytes.len());
        };
        let packet = EnhancedPacketBlock {
            interface_id: match direction {
                Direction::Sent => 0,
                Direction::Passed => 1,
            },
            timestamp: time,
            original_len,
            data: Cow::Borrowed(bytes),
            options: vec![EnhancedPacketOption::Comment(Cow::Borrowed(comment))],
        };
        let written = self.writer.write_block(&packet.into_block());
        written.with_context(|| format!("write {}", self.path.display()))?;
        Ok(())
    }

    /// Writes what is left.
    ///
    /// # Errors
    ///
    /// When it can't be written.
    pub fn finish(mut self) -> anyhow::Result<()> {
        let flushed = self.writer.get_mut().flush();
        flushed.with_context(|| format!("write {}", self.path.display()))
    }
}
