//! A small H.264 encoder (ITU-T H.264, constrained baseline) for the picture of [`super::picture`].
//!
//! A picture is made of flat cells of 4 by 4 pixels. That is what an Intra 16x16 macroblock with
//! DC prediction and no AC coefficients can say: 16 luma values through one Hadamard transform,
//! four of each chroma through another. QP 28 for luma and 22 for chroma are the points where the
//! scaling of the decoder is the identity (28: 16*16 << 4 >> 2 = 64, and 64 of the residual is one
//! step of grey), so the reconstruction is integer arithmetic on cells. Every macroblock that has
//! not changed since the frame before is skipped. Deblocking is off.
//!
//! Not in here: motion, rate control, anything an encoder of real pictures needs.

use super::{
    bits::BitWriter,
    cavlc::{self, Kind},
    picture::{HEIGHT, Picture, WIDTH},
};

/// Macroblocks across and down.
const COLUMNS: usize = WIDTH / 4;
const ROWS: usize = HEIGHT / 4;
/// Luma QP, where one step of a transformed level is one step of grey.
const QP: i32 = 28;
/// Brings chroma to QP 22, where the same holds.
const CHROMA_QP_OFFSET: i32 = -6;
/// Bits of `frame_num`.
const FRAME_NUM_BITS: u32 = 8;

/// NAL unit headers: `nal_ref_idc` 3 and the type; filler data has no reference.
const NAL_SLICE: u8 = 0x61;
const NAL_IDR: u8 = 0x65;
const NAL_SPS: u8 = 0x67;
const NAL_PPS: u8 = 0x68;
const NAL_FILLER: u8 = 0x0c;

/// profile_idc 66, constraint sets 0 and 1, level 3.0: the `profile-level-id` of the SDP.
pub(super) const PROFILE_LEVEL: [u8; 3] = [66, 0xc0, 30];

/// One encoded frame.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// NAL units without start codes; parameter sets first when it is a key frame.
    pub(super) nals: Vec<Vec<u8>>,
    /// A decoder may begin here.
    pub(super) key: bool,
}

/// The encoder: what the decoder shows now, and the counters of the bitstream.
#[derive(Debug)]
pub(super) struct Encoder {
    fps: u32,
    /// Least size of a frame in bytes, reached with filler data; 0: none.
    floor: usize,
    since_key: u32,
    idr_id: u32,
    /// The picture as it was asked for, to find what changed.
    wanted: Picture,
    /// The picture as a decoder has it, to predict from.
    decoded: Picture,
}

impl Encoder {
    /// An encoder of `fps` frames a second; frames are filled up to at least `kbit` a second.
    pub(super) fn new(fps: u32, kbit: u32) -> Self {
        let fps = fps.clamp(1, 120);
        Self {
            fps,
            floor: kbit as usize * 1000 / 8 / fps as usize,
            since_key: 0,
            idr_id: 0,
            wanted: Picture::grey(),
            decoded: Picture::grey(),
        }
    }

    /// The sequence parameter set (7.3.2.1), with the frame rate in its VUI.
    pub(super) fn sps(&self) -> Vec<u8> {
        let mut out = BitWriter::default();
        for byte in PROFILE_LEVEL {
            out.bits(u32::from(byte), 8);
        }
        out.ue(0); // seq_parameter_set_id
        out.ue(FRAME_NUM_BITS - 4);
        out.ue(2); // pic_order_cnt_type: output in order of decoding
        out.ue(1); // max_num_ref_frames
        out.flag(false); // gaps_in_frame_num_value_allowed_flag
        out.ue(COLUMNS as u32 - 1);
        out.ue(ROWS as u32 - 1);
        out.flag(true); // frame_mbs_only_flag
        out.flag(true); // direct_8x8_inference_flag
        out.flag(true); // frame_cropping_flag: 368 lines to 360
        for lines in [0, 0, 0, 4] {
            out.ue(lines);
        }
        out.flag(true); // vui_parameters_present_flag
        out.bits(0, 4); // aspect ratio, overscan, video signal, chroma location: absent
        out.flag(true); // timing_info_present_flag
        out.bits(1, 32); // num_units_in_tick
        out.bits(2 * self.fps, 32); // time_scale: in fields
        out.flag(true); // fixed_frame_rate_flag
        out.bits(0, 3); // NAL HRD, VCL HRD, pic_struct: absent
        out.flag(true); // bitstream_restriction_flag: nothing is reordered, so nothing waits
        out.flag(true);
        for value in [0, 0, 4, 4, 0, 1] {
            out.ue(value);
        }
        out.into_nal(NAL_SPS)
    }

    /// The picture parameter set (7.3.2.2).
    pub(super) fn pps() -> Vec<u8> {
        let mut out = BitWriter::default();
        out.ue(0); // pic_parameter_set_id
        out.ue(0); // seq_parameter_set_id
        out.bits(0, 2); // CAVLC; no bottom field order
        out.ue(0); // one slice group
        out.ue(0); // one reference in list 0
        out.ue(0); // and in list 1
        out.bits(0, 3); // no weighted prediction
        out.se(QP - 26);
        out.se(0);
        out.se(CHROMA_QP_OFFSET);
        out.flag(true); // deblocking_filter_control_present_flag
        out.bits(0, 2); // intra prediction from anything; no redundant pictures
        out.into_nal(NAL_PPS)
    }

    /// Frame `number`, which is also what the picture counts. Once a second, and when wanted, it is
    /// a key frame, with its parameter sets.
    pub(super) fn frame(&mut self, number: u64, key_wanted: bool) -> Frame {
        if key_wanted {
            self.since_key = 0;
        }
        let key = self.since_key == 0;
        let picture = Picture::draw(number, self.fps);
        let mut nals = Vec::with_capacity(4);
        if key {
            nals.push(self.sps());
            nals.push(Self::pps());
        }
        nals.push(self.slice(&picture, key));
        self.wanted = picture;
        let size: usize = nals.iter().map(Vec::len).sum();
        if let Some(missing) = self.floor.checked_sub(size).filter(|&missing| missing > 2) {
            let mut filler = vec![0xff; missing];
            filler[0] = NAL_FILLER;
            filler[missing - 1] = 0x80;
            // Before the slice, so that the frame ends with its picture.
            nals.insert(nals.len() - 1, filler);
        }
        self.since_key = (self.since_key + 1) % self.fps;
        if key {
            self.idr_id = (self.idr_id + 1) % 2;
        }
        Frame { nals, key }
    }

    fn slice(&mut self, picture: &Picture, key: bool) -> Vec<u8> {
        let mut out = BitWriter::default();
        out.ue(0); // first_mb_in_slice
        out.ue(if key { 7 } else { 5 }); // all slices of the picture are I, or P
        out.ue(0); // pic_parameter_set_id
        out.bits(self.since_key % (1 << FRAME_NUM_BITS), FRAME_NUM_BITS);
        if key {
            out.ue(self.idr_id);
            out.bits(0, 2); // no_output_of_prior_pics_flag, long_term_reference_flag
        } else {
            out.bits(0, 3); // default references, in default order, sliding window
        }
        out.se(0); // slice_qp_delta
        out.ue(1); // disable_deblocking_filter_idc
        let mut skipped = 0;
        for row in 0..ROWS {
            for column in 0..COLUMNS {
                if !key && same(&self.wanted, picture, column, row) {
                    skipped += 1;
                    continue;
                }
                if !key {
                    out.ue(skipped);
                    skipped = 0;
                }
                self.macroblock(&mut out, picture, (column, row), key);
            }
        }
        if skipped > 0 {
            out.ue(skipped);
        }
        out.into_nal(if key { NAL_IDR } else { NAL_SLICE })
    }

    /// One Intra 16x16 macroblock with DC prediction (7.3.5).
    fn macroblock(
        &mut self,
        out: &mut BitWriter,
        picture: &Picture,
        at: (usize, usize),
        key: bool,
    ) {
        let luma = self.luma(picture, at);
        let cb = chroma(&mut self.decoded.cb, &picture.cb, at);
        let cr = chroma(&mut self.decoded.cr, &picture.cr, at);
        let coloured = cb.iter().chain(&cr).any(|&level| level != 0);
        // 1 + DC prediction (2) + 4 when there is chroma DC; in a P slice intra types begin at 5.
        out.ue(3 + if coloured { 4 } else { 0 } + if key { 0 } else { 5 });
        out.ue(0); // intra_chroma_pred_mode: DC
        out.se(0); // mb_qp_delta
        cavlc::block(out, Kind::Luma, &luma);
        if coloured {
            cavlc::block(out, Kind::ChromaDc, &cb);
            cavlc::block(out, Kind::ChromaDc, &cr);
        }
    }

    /// Transformed luma of one macroblock in zigzag order; leaves what a decoder makes of it.
    fn luma(&mut self, picture: &Picture, (column, row): (usize, usize)) -> [i32; 16] {
        let (x, y) = (column * 4, row * 4);
        let at = |x: usize, y: usize| y * WIDTH + x;
        let cells = &mut self.decoded.y;
        // 8.3.3.3: the mean of the row above and the column to the left; a cell stands for 4 pixels.
        let above: Option<i32> =
            y.checked_sub(1).map(|y| (0..4).map(|i| 4 * i32::from(cells[at(x + i, y)])).sum());
        let left: Option<i32> =
            x.checked_sub(1).map(|x| (0..4).map(|i| 4 * i32::from(cells[at(x, y + i)])).sum());
        let predicted = match (above, left) {
            (Some(above), Some(left)) => (above + left + 16) >> 5,
            (Some(one), None) | (None, Some(one)) => (one + 8) >> 4,
            (None, None) => 128,
        };
        let mut residual = [0; 16];
        for (i, value) in residual.iter_mut().enumerate() {
            *value = i32::from(picture.y[at(x + i % 4, y + i / 4)]) - predicted;
        }
        let levels = hadamard4(&residual).map(|value| rounded(value, 16));
        for (i, value) in hadamard4(&levels).iter().enumerate() {
            cells[at(x + i % 4, y + i / 4)] = clip(predicted + value);
        }
        ZIGZAG.map(|index| levels[index])
    }
}

/// Transformed chroma of one macroblock; leaves what a decoder makes of it (8.3.4, 8.5.11).
fn chroma(cells: &mut [u8], wanted: &[u8], (column, row): (usize, usize)) -> [i32; 4] {
    const STRIDE: usize = WIDTH / 2;
    let (x, y) = (column * 2, row * 2);
    let mut predicted = [128; 4];
    let mut residual = [0; 4];
    for i in 0..4 {
        let (dx, dy) = (i % 2, i / 2);
        let above = y.checked_sub(1).map(|y| i32::from(cells[y * STRIDE + x + dx]));
        let left = x.checked_sub(1).map(|x| i32::from(cells[(y + dy) * STRIDE + x]));
        predicted[i] = match (above, left) {
            // Off the diagonal only the nearer edge counts.
            (Some(above), Some(left)) if dx == dy => (above + left + 1) >> 1,
            (Some(above), _) if dx == 1 && dy == 0 => above,
            (_, Some(left)) if dx == 0 && dy == 1 => left,
            (Some(one), None) | (None, Some(one)) => one,
            _ => 128,
        };
        residual[i] = i32::from(wanted[(y + dy) * STRIDE + x + dx]) - predicted[i];
    }
    let levels = hadamard2(residual).map(|value| rounded(value, 4));
    for (i, value) in hadamard2(levels).iter().enumerate() {
        cells[(y + i / 2) * STRIDE + x + i % 2] = clip(predicted[i] + value);
    }
    levels
}

/// Whether a macroblock is the same in both pictures.
fn same(before: &Picture, now: &Picture, column: usize, row: usize) -> bool {
    let luma = (row * 4..row * 4 + 4).all(|y| {
        let span = y * WIDTH + column * 4..y * WIDTH + column * 4 + 4;
        before.y[span.clone()] == now.y[span]
    });
    luma && (row * 2..row * 2 + 2).all(|y| {
        let span = y * WIDTH / 2 + column * 2..y * WIDTH / 2 + column * 2 + 2;
        before.cb[span.clone()] == now.cb[span.clone()] && before.cr[span.clone()] == now.cr[span]
    })
}

/// The 4x4 Hadamard transform of 8.5.10; twice gives 16 times the input.
fn hadamard4(values: &[i32; 16]) -> [i32; 16] {
    let mut out = *values;
    for pass in 0..2 {
        for line in 0..4 {
            let at = |i: usize| if pass == 0 { line * 4 + i } else { i * 4 + line };
            let [a, b, c, d] = [out[at(0)], out[at(1)], out[at(2)], out[at(3)]];
            out[at(0)] = a + b + c + d;
            out[at(1)] = a + b - c - d;
            out[at(2)] = a - b - c + d;
            out[at(3)] = a - b + c - d;
        }
    }
    out
}

/// The 2x2 transform of 8.5.11.1; twice gives 4 times the input.
fn hadamard2([a, b, c, d]: [i32; 4]) -> [i32; 4] {
    [a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d]
}

fn rounded(value: i32, divisor: i32) -> i32 {
    (value + divisor / 2 * value.signum()) / divisor
}

fn clip(value: i32) -> u8 {
    u8::try_from(value.clamp(0, 255)).unwrap_or_default()
}

/// Scan order of a 4x4 block (8.5.6).
const ZIGZAG: [usize; 16] = [0, 1, 4, 8, 5, 2, 3, 6, 9, 12, 13, 10, 7, 11, 14, 15];

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(frame: &Frame) -> Vec<u8> {
        frame.nals.iter().map(|nal| nal[0] & 0x1f).collect()
    }

    #[test]
    fn a_second_is_one_key_frame_and_then_small_ones() {
        let mut encoder = Encoder::new(25, 0);
        for number in 0..75 {
            let frame = encoder.frame(number, false);
            let size: usize = frame.nals.iter().map(Vec::len).sum();
            assert_eq!(frame.key, number % 25 == 0);
            if frame.key {
                assert_eq!(kinds(&frame), [7, 8, 5]);
                assert!((4_000..16_000).contains(&size), "key frame of {size} bytes");
            } else {
                assert_eq!(kinds(&frame), [1]);
                assert!((100..8_000).contains(&size), "frame {number} of {size} bytes");
            }
        }
    }

    #[test]
    fn ten_seconds_stay_a_modest_stream() {
        let mut encoder = Encoder::new(25, 0);
        let bytes: usize = (0..250)
            .map(|number| encoder.frame(number, false).nals.iter().map(Vec::len).sum::<usize>())
            .sum();
        let kbit = bytes * 8 / 10 / 1000;
        assert!((200..2000).contains(&kbit), "{kbit} kbit/s");
    }

    #[test]
    fn a_floor_is_reached_with_filler() {
        let mut encoder = Encoder::new(25, 4000);
        for number in 0..50 {
            let frame = encoder.frame(number, false);
            assert_eq!(frame.nals.iter().map(Vec::len).sum::<usize>(), 20_000);
            assert!(kinds(&frame).contains(&12));
            assert_ne!(kinds(&frame).last(), Some(&12), "the frame ends with its picture");
        }
    }

    #[test]
    fn the_decoder_has_nearly_the_picture_that_was_drawn() {
        let mut encoder = Encoder::new(25, 0);
        for number in 0..30 {
            encoder.frame(number, number == 7);
            let worst = core::iter::zip(&encoder.wanted.y, &encoder.decoded.y)
                .map(|(a, b)| a.abs_diff(*b))
                .max();
            assert!(worst < Some(12), "{worst:?} steps of grey");
        }
    }

    #[test]
    fn parameter_sets_are_stable() {
        let encoder = Encoder::new(25, 0);
        assert_eq!(encoder.sps()[..4], [0x67, 66, 0xc0, 30]);
        assert_eq!(encoder.sps().len(), 23);
        assert_eq!(Encoder::pps(), [0x68, 0xce, 0x09, 0x1b, 0x20]);
    }
}
