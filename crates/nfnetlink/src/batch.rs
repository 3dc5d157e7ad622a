//! Batches: requests of which the kernel does all or none.

use std::io;

use rustix::net::sockopt;

use crate::socket::{ACKNOWLEDGE, DO_NOT_WAIT, ERROR, receive, refusal};
use crate::{Error, Malformed, Refusal, Request, Socket, Subsystem};

/// What the kernel wants free in a send buffer besides the bytes (net/netlink/af_netlink.c: `netlink_sendmsg`, 32), and more.
const SPARE: usize = 4096;
/// What every send buffer holds (`net.core.wmem_default` is some 200 KB), so that it need not be asked for.
const GIVEN: usize = 1 << 16;

impl Socket {
    /// Has the kernel do all of these requests, or none; nobody sees some of them done. If `generation` is said, they are done only as
    /// long as that is the subsystem's.
    ///
    /// Returns what was refused, in the order of the requests; if that is nothing, all was done. The kernel looks at all requests, also
    /// behind one that it refuses, so that the first refusal may be the cause of others.
    ///
    /// A batch is one datagram: the send buffer is made as large as it takes, which is for `CAP_NET_ADMIN` alone, as all of this is.
    ///
    /// # Errors
    /// The batch was refused as a whole ([`Error::BatchRefused`]), or there is no answer.
    pub fn transact(
        &mut self,
        subsystem: Subsystem,
        generation: Option<u32>,
        requests: &[Request],
    ) -> Result<Vec<Refusal>, Error> {
        let Some((last, others)) = requests.split_last() else { return Ok(Vec::new()) };
        let mut bytes = Vec::new();
        let begin = self.number();
        Request::batch_begin(subsystem, generation).append_to(&mut bytes, begin, 0);
        for request in others {
            request.append_to(&mut bytes, self.number(), 0);
        }
        // The last one's answer is the last of all (`nfnl_err_deliver`). That the end of a batch be acknowledged can be asked for since
        // Linux 6.10 alone.
        last.append_to(&mut bytes, self.number(), ACKNOWLEDGE);
        Request::batch_end(subsystem).append_to(&mut bytes, self.number(), 0);
        self.make_room(bytes.len())?;
        // Those that begin and end it, too.
        self.send(&bytes, requests.len() + 2)?;
        self.refusals(begin, requests.len())
    }

    fn number(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Has the send buffer hold a datagram of `length` bytes.
    fn make_room(&mut self, length: usize) -> Result<(), Error> {
        let needed = length + SPARE;
        if needed > GIVEN.max(self.send_buffer) {
            sockopt::set_socket_send_buffer_size_force(&self.socket, needed).map_err(io::Error::from)?;
            self.send_buffer = needed;
        }
        Ok(())
    }

    /// Reads what was said of a batch that has been sent, of which `begin` is the number of the message that begins it. The kernel has
    /// answered before it returns from sending (net/netlink/af_netlink.c: `netlink_unicast_kernel`), so that nothing is waited for.
    fn refusals(&mut self, begin: u32, count: usize) -> Result<Vec<Refusal>, Error> {
        let mut refusals: Vec<Refusal> = Vec::new();
        let mut whole = None;
        let mut is_over = false;
        while !is_over {
            let messages = match receive(&self.socket, &mut self.received, DO_NOT_WAIT) {
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                // More refusals than there was room for; what is there can be read.
                Err(Error::Io(error)) if error.raw_os_error() == Some(NO_BUFFERS) => continue,
                other => other?,
            };
            for message in messages {
                let message = message?;
                let index = usize::try_from(message.sequence.wrapping_sub(begin)).unwrap_or(usize::MAX);
                if message.kind != ERROR || index > count {
                    continue;
                }
                match index.checked_sub(1) {
                    None => whole = whole.or(refusal(&message, 0)?),
                    Some(index) => refusals.extend(refusal(&message, index)?),
                }
                is_over |= index == count;
            }
        }
        match whole {
            Some(whole) => Err(Error::BatchRefused(whole)),
            None if is_over || !refusals.is_empty() => Ok(refusals),
            None => Err(Malformed("a batch was not answered").into()),
        }
    }
}

/// `ENOBUFS`.
const NO_BUFFERS: i32 = 105;
