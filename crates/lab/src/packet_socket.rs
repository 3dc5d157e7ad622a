//! Whole Ethernet frames, in and out of an interface (packet(7)).

use std::io;
use std::mem;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socket_with};

use crate::Error;
use crate::error::Tried as _;

/// Longest frame: 64 KB of IP and an Ethernet header with a tag.
const LONGEST_FRAME: usize = 65_535 + 18;

/// Room in the kernel for frames that nobody has read yet.
const RECEIVE_BUFFER_BYTES: libc::c_int = 16 << 20;

/// A socket bound to one interface that sees what arrives there, not what leaves.
#[derive(Debug)]
pub(crate) struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Opens one on `interface` of the calling thread's namespace.
    pub(crate) fn open(interface: &str) -> Result<Self, Error> {
        let what = || format!("open a packet socket on {interface}");
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Protocol 0: nothing arrives before bind() says from where.
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None).tried(what)?;
        let index = rustix::net::netdevice::name_to_index(&socket, interface).tried(what)?;
        set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES).tried(what)?;
        set_option(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1).tried(what)?;
        set_option(&socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, 1).tried(what)?;
        bind_to_interface(&socket, index).tried(what)?;
        Ok(Self(socket))
    }

    pub(crate) fn send(&self, frame: &[u8]) -> Result<(), Error> {
        send(&self.0, frame, SendFlags::empty())
            .map(drop)
            .tried(|| format!("send a frame of {} bytes", frame.len()))
    }

    /// The next frame, if there is one already.
    fn try_receive(&self) -> io::Result<Option<Vec<u8>>> {
        match receive_with_tag(&self.0) {
            Ok(frame) => Ok(Some(frame)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The frames that arrive at an interface, from the moment it was made.
#[derive(Debug)]
pub struct Capture {
    socket: PacketSocket,
}

impl Capture {
    pub(crate) fn new(socket: PacketSocket) -> Self {
        Self { socket }
    }

    /// Sends one whole Ethernet frame as it is, out of the same interface.
    ///
    /// # Errors
    /// The kernel refuses it (too short, too long, no room).
    pub fn send(&self, frame: &[u8]) -> Result<(), Error> {
        self.socket.send(frame)
    }

    /// The next frame; none if none arrives within `within`.
    ///
    /// # Errors
    /// The interface is gone.
    pub fn next(&self, within: Duration) -> Result<Option<Vec<u8>>, Error> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(frame) = self.socket.try_receive().tried(|| "capture".into())? {
                return Ok(Some(frame));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let timeout = rustix::event::Timespec::try_from(left).ok();
            poll(&mut [PollFd::from_borrowed_fd(self.socket.0.as_fd(), PollFlags::IN)], timeout.as_ref())
                .tried(|| "wait for a frame".into())?;
        }
    }

    /// Every frame that has arrived and was not taken yet.
    ///
    /// # Errors
    /// The interface is gone.
    pub fn drain(&self) -> Result<Vec<Vec<u8>>, Error> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next(Duration::ZERO)? {
            frames.push(frame);
        }
        Ok(frames)
    }
}

/// Binds to every protocol on one interface.
#[allow(unsafe_code)] // bind(2) of an address family that rustix does not know
fn bind_to_interface(socket: &OwnedFd, index: u32) -> io::Result<()> {
    // SAFETY: sockaddr_ll is a plain C structure for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).expect("17 fits");
    address.sll_protocol = u16::try_from(libc::ETH_P_ALL).expect("3 fits").to_be();
    address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    let length = libc::socklen_t::try_from(size_of_val(&address)).expect("20 fits");
    // SAFETY: the address lives through the call and its length is its own.
    match unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets an option that takes a C int.
#[allow(unsafe_code)] // setsockopt(2) of options that rustix does not know
fn set_option(socket: &OwnedFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of_val(&value)).expect("4 fits");
    // SAFETY: the value lives through the call and its length is its own.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Receives one frame and puts its VLAN tag back: the kernel takes the outer tag out of the frame and tells it
/// beside (packet(7), `PACKET_AUXDATA`).
#[allow(unsafe_code)] // recvmsg(2) with a control message that rustix does not know
fn receive_with_tag(socket: &OwnedFd) -> io::Result<Vec<u8>> {
    /// Room for one control message, aligned as its header must be.
    #[repr(C, align(8))]
    struct Control([u8; 64]);

    let mut frame = vec![0u8; LONGEST_FRAME];
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
    // SAFETY: msghdr is a plain C structure for which zero is a value.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len();
    // SAFETY: every pointer in the message is to a local that lives through the call, with its own length.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    // A negative number, which does not fit, is an error of the call.
    frame.truncate(usize::try_from(received).map_err(|_| io::Error::last_os_error())?);
    // SAFETY: the kernel has filled the control buffer and set its length.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    if header.is_null() {
        return Ok(frame);
    }
    // SAFETY: not null, so it is a whole header inside the control buffer.
    let (level, kind) = unsafe { ((*header).cmsg_level, (*header).cmsg_type) };
    if (level, kind) == (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
        // SAFETY: a message of this kind carries a tpacket_auxdata; it may lie unaligned.
        let aux: libc::tpacket_auxdata =
            unsafe { libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned() };
        if aux.tp_status & libc::TP_STATUS_VLAN_VALID != 0 && frame.len() >= 12 {
            let tagged = aux.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
            let tpid = if tagged { aux.tp_vlan_tpid } else { 0x8100 };
            let tag = [tpid.to_be_bytes(), aux.tp_vlan_tci.to_be_bytes()].concat();
            frame.splice(12..12, tag);
        }
    }
    Ok(frame)
}
