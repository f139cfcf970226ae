//! Ports that stay ours for the life of a stack.
//!
//! A port that the system hands out (bind to 0) comes from the ephemeral range: while a service
//! is being restarted, any outgoing connection may take it. So free ports come from below that
//! range, and are reserved among our own processes by an abstract socket of the port's name,
//! which vanishes with its process and leaves nothing in the file system.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, bail};

/// Below the range of outgoing connections, which begins at 32768.
const FIRST: u16 = 12_000;
const LAST: u16 = 31_999;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port of the loopback address, reserved among the stacks of this machine.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _reservation: UnixListener,
}

impl Port {
    /// One that nobody listens on.
    pub fn free() -> Result<Self> {
        let count = LAST - FIRST;
        let start = u16::try_from(std::process::id() % u32::from(count))?;
        for _ in 0..count {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = FIRST + (start.wrapping_mul(37).wrapping_add(step)) % count;
            if let Ok(port) = Self::fixed(number) {
                return Ok(port);
            }
        }
        bail!("no port between {FIRST} and {LAST} is free")
    }

    /// This one; an error when somebody listens on it.
    pub fn fixed(number: u16) -> Result<Self> {
        let name = format!("candlefish-port-{number}");
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
        let reservation = UnixListener::bind_addr(&address)
            .with_context(|| format!("port {number} belongs to another stack of this machine"))?;
        drop(
            TcpListener::bind((Ipv4Addr::LOCALHOST, number))
                .with_context(|| format!("port {number} is in use by another program"))?,
        );
        Ok(Self {
            number,
            _reservation: reservation,
        })
    }

    pub const fn number(&self) -> u16 {
        self.number
    }

    /// On the loopback address.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_port_is_not_given_twice() {
        let port = Port::free().unwrap();
        assert!(Port::fixed(port.number()).is_err());
        let number = port.number();
        drop(port);
        Port::fixed(number).unwrap();
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_refused_with_its_number() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let number = listener.local_addr().unwrap().port();
        let error = format!("{:#}", Port::fixed(number).unwrap_err());
        assert!(
            error.contains(&format!("port {number} is in use")),
            "{error}"
        );
    }
}
