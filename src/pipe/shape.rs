//! Whether a datagram parses as what its port is for.
//!
//! Only asked toward an interleaved origin: over UDP a datagram that is no RTP harms nobody, while
//! go2rtc hangs up on a frame that it cannot parse, and players punch holes with random bytes. Not
//! in here: what the packet means, and whether it is encrypted (SRTP has the same head).

/// Whether the lengths that an RTP packet tells of itself fit it (RFC 3550 5.1, 5.3.1).
#[must_use]
pub fn is_rtp(packet: &[u8]) -> bool {
    let Some(&[first, ..]) = packet.first_chunk::<12>() else { return false };
    let mut head = 12 + 4 * usize::from(first & 0x0f);
    if first & 0x10 != 0 {
        let Some(&[_, _, high, low]) = packet.get(head..).and_then(<[u8]>::first_chunk::<4>) else {
            return false;
        };
        head += 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
    }
    let padding = if first & 0x20 == 0 { 0 } else { packet.last().copied().unwrap_or(0).into() };
    let padded = first & 0x20 == 0 || padding > 0;
    first >> 6 == 2 && padded && head + padding <= packet.len()
}

/// Whether a datagram begins with an RTCP packet that fits it (RFC 3550 6.1). What follows the first
/// one is encrypted in SRTCP.
#[must_use]
pub fn is_rtcp(compound: &[u8]) -> bool {
    let Some(&[first, kind, high, low]) = compound.first_chunk::<4>() else { return false };
    let length = 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
    first >> 6 == 2 && (192..=223).contains(&kind) && length <= compound.len()
}

#[cfg(test)]
mod tests {
    use super::{is_rtcp, is_rtp};

    #[test]
    fn rtp_is_told_from_holes_by_its_lengths() {
        let head = [0x80, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        let with = |first: u8, tail: &[u8]| {
            let mut packet = head.to_vec();
            packet[0] = first;
            packet.extend_from_slice(tail);
            is_rtp(&packet)
        };
        assert!(with(0x80, &[]), "a head alone");
        assert!(with(0x80, &[1, 2, 3]));
        assert!(with(0x81, &[0; 4]) && !with(0x81, &[0; 3]), "one contributing source");
        assert!(with(0x90, &[0, 0, 0, 1, 0, 0, 0, 0]) && !with(0x90, &[0, 0, 0, 1, 0, 0, 0]));
        assert!(!with(0x90, &[0; 3]), "an extension without its length");
        assert!(with(0xa0, &[0, 0, 3]) && !with(0xa0, &[0, 0, 4]) && !with(0xa0, &[0]), "padding");
        assert!(!with(0x40, &[]) && !with(0xc0, &[]), "another version");
        assert!(
            !is_rtp(&head[..11]) && !is_rtp(&[]) && !is_rtp(&[0; 200]) && !is_rtp(&[0xff; 200])
        );
    }

    #[test]
    fn rtcp_is_told_from_holes_by_its_type_and_length() {
        let report = [0x80, 201, 0, 1, 0, 0, 0, 1];
        assert!(is_rtcp(&report));
        assert!(is_rtcp(&[report, report].concat()), "a compound");
        assert!(is_rtcp(&[&report[..], &[0; 14]].concat()), "SRTCP: index and tag follow");
        assert!(!is_rtcp(&report[..7]) && !is_rtcp(&[]) && !is_rtcp(&[0xff; 200]));
        assert!(!is_rtcp(&[0; 8]) && !is_rtcp(&[0x80, 96, 0, 1, 0, 0, 0, 1]));
    }
}
