//! The program on its interfaces.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use xlb_control::config::Mode;

use super::{
    error::{DataplaneError, Doing},
    pins::{PinnedLink, Pins, remove_file},
    spec::Interface,
    sys, xdp_query,
};

pub use super::xdp_query::AttachMode;

/// Fails if an interface does not exist, or has somebody else's program. `ours` are the links that
/// are pinned.
pub(super) fn check(interfaces: &[Interface], ours: &[PinnedLink]) -> Result<(), DataplaneError> {
    for interface in interfaces {
        let attached = xdp_query::attached(interface.ifindex)
            .doing(|| format!("ask for the XDP program on {}", interface.name))?
            .ok_or_else(|| no_interface(interface))?;
        let link = ours.iter().find(|link| link.ifindex == interface.ifindex);
        let foreign = attached
            .iter()
            .find(|program| link.is_none_or(|link| link.program_id != program.program_id));
        if let Some(program) = foreign {
            return Err(DataplaneError::ForeignProgram {
                interface: interface.name.clone(),
                program_id: program.program_id,
                mode: program.mode,
            });
        }
    }
    Ok(())
}

/// How the program is attached after [`attach_all`].
pub(super) struct Attached {
    /// The mode of each interface.
    pub(super) modes: Vec<(String, AttachMode)>,
    /// Numbers of those that had no link before.
    pub(super) new: Vec<u32>,
}

/// Makes exactly these interfaces run the program: attaches it where it is not, or not in the mode
/// that is asked, and takes it off interfaces that are not among them. Links that stay already run
/// the program.
pub(super) fn reconcile(
    pins: &Pins,
    program: BorrowedFd<'_>,
    interfaces: &[Interface],
    mode: Mode,
) -> Result<Vec<(String, AttachMode)>, DataplaneError> {
    let attached = attach_all(pins, program, interfaces, mode)?;
    detach_others(pins, interfaces)?;
    Ok(attached.modes)
}

/// Attaches the program to those of the interfaces where it is not, or not in the mode that is asked.
/// If one does not take it, none has it that did not have it before.
pub(super) fn attach_all(
    pins: &Pins,
    program: BorrowedFd<'_>,
    interfaces: &[Interface],
    mode: Mode,
) -> Result<Attached, DataplaneError> {
    let mut attached = Attached {
        modes: Vec::new(),
        new: Vec::new(),
    };
    for interface in interfaces {
        match attach_one(pins, program, interface, mode) {
            Ok((mode, is_new)) => {
                attached.modes.push((interface.name.clone(), mode));
                if is_new {
                    attached.new.push(interface.ifindex);
                }
            }
            Err(error) => {
                detach(pins, &attached.new)?;
                return Err(error);
            }
        }
    }
    Ok(attached)
}

/// Attaches the program to an interface, unless it is there and in the mode that is asked. Gives the
/// mode, and whether there was no link before.
fn attach_one(
    pins: &Pins,
    program: BorrowedFd<'_>,
    interface: &Interface,
    mode: Mode,
) -> Result<(AttachMode, bool), DataplaneError> {
    let mut links = pins.pinned_links()?.into_iter();
    let Some(link) = links.find(|link| link.ifindex == interface.ifindex) else {
        return Ok((attach(pins, program, interface, mode)?, true));
    };
    let before = mode_of(interface.ifindex)?;
    if let Some(attached) = before
        && fits(mode, attached)
    {
        return Ok((attached, false));
    }
    link.remove()?;
    match (attach(pins, program, interface, mode), before) {
        (Ok(mode), _) => Ok((mode, false)),
        (Err(error), None) => Err(error),
        (Err(error), Some(before)) => {
            create(pins, program, interface, before)?;
            Err(error)
        }
    }
}

/// Takes the program off interfaces of these numbers.
pub(super) fn detach(pins: &Pins, ifindexes: &[u32]) -> Result<(), DataplaneError> {
    let mut links = pins.pinned_links()?.into_iter();
    links.try_for_each(|link| {
        if ifindexes.contains(&link.ifindex) {
            link.remove()
        } else {
            Ok(())
        }
    })
}

/// Takes the program off interfaces that are not among these.
pub(super) fn detach_others(pins: &Pins, interfaces: &[Interface]) -> Result<(), DataplaneError> {
    let mut links = pins.pinned_links()?.into_iter();
    links.try_for_each(|link| {
        if interfaces.iter().any(|kept| kept.ifindex == link.ifindex) {
            Ok(())
        } else {
            link.remove()
        }
    })
}

/// Whether there is such an interface.
pub(super) fn exists(interface: &Interface) -> Result<bool, DataplaneError> {
    let attached = xdp_query::attached(interface.ifindex)
        .doing(|| format!("ask for the XDP program on {}", interface.name))?;
    Ok(attached.is_some())
}

/// How the program is attached to an interface, if one is.
pub(super) fn mode_of(ifindex: u32) -> Result<Option<AttachMode>, DataplaneError> {
    let attached = xdp_query::attached(ifindex)
        .doing(|| format!("ask for the XDP program on interface {ifindex}"))?;
    Ok(attached.and_then(|programs| Some(programs.first()?.mode)))
}

const fn fits(asked: Mode, attached: AttachMode) -> bool {
    match (asked, attached) {
        (Mode::Auto, _)
        | (Mode::Native, AttachMode::Native | AttachMode::Hardware)
        | (Mode::Generic, AttachMode::Generic) => true,
        (Mode::Native, AttachMode::Generic)
        | (Mode::Generic, AttachMode::Native | AttachMode::Hardware) => false,
    }
}

/// Attaches the program to an interface and pins the link.
fn attach(
    pins: &Pins,
    program: BorrowedFd<'_>,
    interface: &Interface,
    mode: Mode,
) -> Result<AttachMode, DataplaneError> {
    let native = match mode {
        Mode::Generic => None,
        Mode::Auto | Mode::Native => match create(pins, program, interface, AttachMode::Native) {
            Ok(()) => return Ok(AttachMode::Native),
            Err(error) => Some(error),
        },
    };
    match (mode, native) {
        (Mode::Native, Some(error)) => Err(error),
        // Anything but a refusal by the driver would be the same in generic mode.
        (_, Some(error)) if !is_drivers(&error) => Err(error),
        (_, native) => {
            if let Some(error) = native {
                tracing::warn!(
                    interface = interface.name,
                    error = %anyhow::Error::from(error).root_cause(),
                    "the driver has no native XDP for this interface: attaching in generic mode, \
                     which is slow"
                );
            }
            create(pins, program, interface, AttachMode::Generic)?;
            Ok(AttachMode::Generic)
        }
    }
}

/// Whether it is the driver that could not.
fn is_drivers(error: &DataplaneError) -> bool {
    let DataplaneError::Attach { source, .. } = error else {
        return false;
    };
    !matches!(
        source.raw_os_error(),
        Some(libc::EPERM | libc::EACCES | libc::EBADF | libc::ENETDOWN)
    )
}

fn create(
    pins: &Pins,
    program: BorrowedFd<'_>,
    interface: &Interface,
    mode: AttachMode,
) -> Result<(), DataplaneError> {
    let flags = match mode {
        AttachMode::Generic => sys::XDP_GENERIC,
        AttachMode::Native | AttachMode::Hardware => sys::XDP_NATIVE,
    };
    let link = sys::link_create(program, interface.ifindex, flags)
        .map_err(|error| refusal(interface, mode, error))?;
    // What is left there belonged to an interface that is gone, whose number was given again.
    let path = pins.link(interface.ifindex);
    remove_file(&path)?;
    sys::pin(link.as_fd(), &path).doing(|| format!("pin the link {}", path.display()))
}

fn refusal(interface: &Interface, mode: AttachMode, source: io::Error) -> DataplaneError {
    match source.raw_os_error() {
        Some(libc::ENODEV) => no_interface(interface),
        Some(libc::EBUSY | libc::EEXIST) => {
            let attached = xdp_query::attached(interface.ifindex).ok().flatten();
            match attached.and_then(|programs| programs.first().copied()) {
                Some(program) => DataplaneError::ForeignProgram {
                    interface: interface.name.clone(),
                    program_id: program.program_id,
                    mode: program.mode,
                },
                None => failed(interface, mode, "", source),
            }
        }
        Some(libc::EOPNOTSUPP) => failed(
            interface,
            mode,
            ": its driver has no XDP of this mode; mode = \"auto\" takes what there is",
            source,
        ),
        Some(libc::EINVAL) => failed(
            interface,
            mode,
            ": the driver refuses; often the MTU is too large for XDP, or LRO is on",
            source,
        ),
        Some(_) | None => failed(interface, mode, "", source),
    }
}

fn failed(
    interface: &Interface,
    mode: AttachMode,
    hint: &'static str,
    source: io::Error,
) -> DataplaneError {
    DataplaneError::Attach {
        interface: interface.name.clone(),
        mode,
        hint,
        source,
    }
}

fn no_interface(interface: &Interface) -> DataplaneError {
    DataplaneError::NoInterface {
        name: interface.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_kept_if_its_mode_is_what_was_asked() {
        for (asked, attached, keeps) in [
            (Mode::Auto, AttachMode::Generic, true),
            (Mode::Auto, AttachMode::Native, true),
            (Mode::Native, AttachMode::Native, true),
            (Mode::Native, AttachMode::Generic, false),
            (Mode::Generic, AttachMode::Generic, true),
            (Mode::Generic, AttachMode::Native, false),
        ] {
            assert_eq!(fits(asked, attached), keeps, "{asked:?} {attached:?}");
        }
    }
}
