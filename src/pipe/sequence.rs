//! RTP sequence numbers: what is missing, and what only came late. Pure.

/// Loss by RTP sequence numbers (RFC 3550 A.1), exact for packets that come up to 127 late.
///
/// A gap counts as lost, a packet that arrives late after all counts back, a duplicate counts
/// nothing. A new SSRC or a jump that the next packet confirms is a restart, not a loss.
#[derive(Clone, Copy, Debug, Default)]
pub struct SeqTracker {
    started: bool,
    ssrc: u32,
    highest: u16,
    /// Bit n: `highest - n` has arrived (or is from before the start).
    seen: u128,
    /// Where a jump would go on, if the next packet confirms it.
    jump: Option<u16>,
    lost: u64,
}

impl SeqTracker {
    /// Largest gap that counts as loss (RFC 3550 A.1); more is a restart.
    const DROPOUT_MAX: u16 = 3000;

    /// Packets missing so far.
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Looks at one RTP packet; what is no RTP version 2 is ignored.
    pub fn on_packet(&mut self, packet: &[u8]) {
        let Some(&[first, _, high, low, _, _, _, _, s0, s1, s2, s3]) = packet.first_chunk() else {
            return;
        };
        if first >> 6 == 2 {
            self.on_sequence(u32::from_be_bytes([s0, s1, s2, s3]), u16::from_be_bytes([high, low]));
        }
    }

    fn on_sequence(&mut self, ssrc: u32, sequence: u16) {
        if !self.started || ssrc != self.ssrc {
            self.restart(ssrc, sequence);
            return;
        }
        let ahead = sequence.wrapping_sub(self.highest);
        let behind = self.highest.wrapping_sub(sequence);
        if behind < 128 {
            self.late(behind);
        } else if ahead <= Self::DROPOUT_MAX {
            self.lost += u64::from(ahead) - 1;
            self.seen = self.seen.checked_shl(u32::from(ahead)).unwrap_or(0) | 1;
            self.highest = sequence;
        } else if self.jump == Some(sequence) {
            self.restart(ssrc, sequence);
        } else {
            self.jump = Some(sequence.wrapping_add(1));
            return;
        }
        self.jump = None;
    }

    /// A packet that is not ahead: a duplicate, or one that was counted as lost.
    fn late(&mut self, behind: u16) {
        let bit = 1u128 << behind;
        if self.seen & bit == 0 {
            self.seen |= bit;
            self.lost = self.lost.saturating_sub(1);
        }
    }

    fn restart(&mut self, ssrc: u32, sequence: u16) {
        // What came before the start is not missing.
        *self = Self {
            started: true,
            ssrc,
            highest: sequence,
            seen: u128::MAX,
            jump: None,
            lost: self.lost,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rtp(sequence: u16) -> [u8; 16] {
        let [high, low] = sequence.to_be_bytes();
        [0x80, 96, high, low, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]
    }

    fn lost_after(sequences: &[u16]) -> u64 {
        let mut tracker = SeqTracker::default();
        for sequence in sequences {
            tracker.on_packet(&rtp(*sequence));
        }
        tracker.lost()
    }

    #[test]
    fn sequence_numbers_tell_loss_from_lateness_duplicates_and_restarts() {
        for (name, sequences, lost) in [
            ("nothing missing", &[1, 2, 3][..], 0),
            ("a gap", &[1, 2, 5], 2),
            ("a gap over the wrap", &[65534, 1], 2),
            ("one comes late", &[1, 2, 5, 3], 1),
            ("one comes late, twice", &[1, 2, 5, 3, 3], 1),
            ("a duplicate", &[1, 2, 2, 3], 0),
            ("older than the first", &[10, 9, 8, 11], 0),
            ("the largest gap that is loss", &[0, 3000], 2999),
            ("one past it is a restart once confirmed", &[0, 3001, 3002, 3003], 0),
            ("a jump that is not confirmed", &[0, 30000, 1, 2], 0),
            ("128 late is too late to count", &[0, 129, 1], 128),
            ("127 late counts back", &[0, 128, 1], 126),
        ] {
            assert_eq!(lost_after(sequences), lost, "{name}");
        }
    }

    #[test]
    fn a_new_ssrc_is_a_restart_and_no_rtp_is_ignored() {
        let mut tracker = SeqTracker::default();
        tracker.on_packet(&rtp(1));
        let mut other = rtp(500);
        other[8] = 9;
        tracker.on_packet(&other);
        tracker.on_packet(&[0; 16]);
        tracker.on_packet(&[0x80; 11]);
        assert_eq!(tracker.lost(), 0);
    }
}
