//! The moving picture of the synthetic camera, in cells of 4 by 4 pixels.
//!
//! Colour bars, a band of grey that scrolls, a ball that bounces, the seconds and the frame number
//! in digits: enough to see by eye whether frames are missing, stand still or come in disorder.
//!
//! Not in here: anything about H.264; randomness (the same frame number gives the same picture).

/// Cells across: 640 pixels.
pub(super) const WIDTH: usize = 160;
/// Cells down: 368 pixels, of which 360 are shown.
pub(super) const HEIGHT: usize = 92;

/// One picture: luma for each cell, chroma for each 2 by 2 cells (4:2:0).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Picture {
    /// Luma, row by row.
    pub(super) y: Vec<u8>,
    /// Blue difference, row by row, half as wide and high.
    pub(super) cb: Vec<u8>,
    /// Red difference.
    pub(super) cr: Vec<u8>,
}

/// Colours as Y, Cb, Cr (BT.601, 75 % bars).
type Colour = (u8, u8, u8);
const BARS: [Colour; 8] = [
    (180, 128, 128),
    (162, 44, 142),
    (131, 156, 44),
    (112, 72, 58),
    (84, 184, 198),
    (65, 100, 212),
    (35, 212, 114),
    (16, 128, 128),
];
const WHITE: Colour = (235, 128, 128);
const BLACK: Colour = (16, 128, 128);
const ORANGE: Colour = (170, 60, 180);

/// Where the bars end and the scrolling band begins, in cells.
const BAND_TOP: usize = 64;
/// Half the size of the ball, in cells.
const RADIUS: i64 = 6;

impl Picture {
    /// A picture of one mid grey.
    pub(super) fn grey() -> Self {
        let quarter = WIDTH * HEIGHT / 4;
        Self { y: vec![128; WIDTH * HEIGHT], cb: vec![128; quarter], cr: vec![128; quarter] }
    }

    /// Frame `number` of a camera with `fps` frames a second.
    pub(super) fn draw(number: u64, fps: u32) -> Self {
        let mut picture = Self::grey();
        for y in 0..HEIGHT {
            for x in 0..WIDTH {
                let colour = if y < BAND_TOP { BARS[x * 8 / WIDTH] } else { band(x, y, number) };
                picture.set(x, y, colour);
            }
        }
        picture.ball(number);
        picture.digits(number, fps);
        picture
    }

    fn set(&mut self, x: usize, y: usize, (luma, cb, cr): Colour) {
        self.y[y * WIDTH + x] = luma;
        let chroma = (y / 2) * (WIDTH / 2) + x / 2;
        self.cb[chroma] = cb;
        self.cr[chroma] = cr;
    }

    /// A disc on a path that bounces off the four sides of the upper part.
    fn ball(&mut self, number: u64) {
        let centre = |speed: u64, size: usize| {
            let span = size as u64 - 2 * RADIUS.unsigned_abs() - 1;
            let along = number * speed % (2 * span);
            (RADIUS.unsigned_abs() + along.min(2 * span - along)).cast_signed()
        };
        let (middle_x, middle_y) = (centre(2, WIDTH), centre(1, BAND_TOP));
        for y in middle_y - RADIUS..=middle_y + RADIUS {
            for x in middle_x - RADIUS..=middle_x + RADIUS {
                if (x - middle_x).pow(2) + (y - middle_y).pow(2) <= RADIUS * RADIUS
                    && let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y))
                {
                    self.set(x, y, ORANGE);
                }
            }
        }
    }

    /// `h:mm:ss` and the frame number, white on black.
    fn digits(&mut self, number: u64, fps: u32) {
        let seconds = number / u64::from(fps.max(1));
        let text = format!(
            "{:02}:{:02}:{:02} {:06}",
            seconds / 3600 % 100,
            seconds / 60 % 60,
            seconds % 60,
            number % 1_000_000
        );
        for y in 70..84 {
            for x in 28..132 {
                self.set(x, y, BLACK);
            }
        }
        for (index, letter) in text.bytes().enumerate() {
            let Some(rows) = glyph(letter) else { continue };
            for (row, bits) in rows.iter().enumerate() {
                for column in 0..5 {
                    if bits >> (4 - column) & 1 == 1 {
                        self.set(33 + index * 6 + column, 73 + row, WHITE);
                    }
                }
            }
        }
    }
}

/// Grey ramps that move left by one cell every other frame.
fn band(x: usize, y: usize, number: u64) -> Colour {
    let moved = (x as u64 + number / 2) % 32;
    let luma = 24 + moved * 6 + if y.is_multiple_of(8) { 8 } else { 0 };
    (u8::try_from(luma).unwrap_or(u8::MAX), 128, 128)
}

/// Digits and the colon, five bits a row from the left.
fn glyph(letter: u8) -> Option<[u8; 7]> {
    Some(match letter {
        b'0' => [0b01110, 0b10001, 0b10011, 0b10101, 0b11001, 0b10001, 0b01110],
        b'1' => [0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110],
        b'2' => [0b01110, 0b10001, 0b00001, 0b00110, 0b01000, 0b10000, 0b11111],
        b'3' => [0b11110, 0b00001, 0b00001, 0b01110, 0b00001, 0b00001, 0b11110],
        b'4' => [0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010],
        b'5' => [0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110],
        b'6' => [0b01110, 0b10000, 0b11110, 0b10001, 0b10001, 0b10001, 0b01110],
        b'7' => [0b11111, 0b00001, 0b00010, 0b00100, 0b00100, 0b01000, 0b01000],
        b'8' => [0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110],
        b'9' => [0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00001, 0b01110],
        b':' => [0b00000, 0b00100, 0b00100, 0b00000, 0b00100, 0b00100, 0b00000],
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_move_and_repeat_exactly() {
        assert_eq!(Picture::draw(7, 25), Picture::draw(7, 25));
        assert_ne!(Picture::draw(7, 25), Picture::draw(8, 25));
    }

    #[test]
    fn any_frame_number_and_rate_can_be_drawn() {
        for number in [0, 1, 999_999, 1_000_000, u64::from(u32::MAX) * 60] {
            for fps in [0, 1, 60] {
                assert_eq!(Picture::draw(number, fps).y.len(), WIDTH * HEIGHT);
            }
        }
    }
}
