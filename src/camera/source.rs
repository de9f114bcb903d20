//! The live source: one encoder for all viewers, a bounded queue for each.
//!
//! Like a real camera it runs by the clock and encodes a key frame at once for a new viewer. While
//! nobody watches it only counts. A viewer whose queue is full loses whole units, and then
//! everything up to the next key frame, so that what it gets can be decoded.
//!
//! Not in here: RTP headers (each viewer has its own), sockets.

use core::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};
use std::sync::{Arc, Mutex, PoisonError};

use smol::{
    Timer,
    channel::{Receiver, Sender, TrySendError, bounded},
};

use super::{h264::Encoder, rtp};
use crate::{
    clock::{Instant, now},
    limits::CAMERA_QUEUE_UNITS,
};

/// What of one track belongs to one moment.
#[derive(Debug)]
pub(super) struct Unit {
    /// 0 is the video, 1 the audio.
    pub(super) track: usize,
    /// Ticks of the track's clock since the source began.
    pub(super) ticks: u64,
    /// RTP payloads, in order.
    pub(super) payloads: Vec<Vec<u8>>,
    /// A decoder may begin here.
    pub(super) key: bool,
}

/// Ticks since the source began at this moment.
pub(super) fn ticks(since_start: Duration, clock: u32) -> u64 {
    let ms = u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX);
    ms.saturating_mul(u64::from(clock)) / 1000
}

#[derive(Debug)]
struct Viewer {
    queue: Sender<Arc<Unit>>,
    /// Video is left out until a key frame.
    waits_for_key: bool,
}

/// The source; shared between the task that feeds it and the sessions.
#[derive(Debug)]
pub(super) struct Source {
    fps: u32,
    kbit: u32,
    audio: bool,
    freeze_after: Option<Duration>,
    began: Instant,
    key_wanted: AtomicBool,
    /// When the first viewer came, in milliseconds plus one; 0: none yet.
    first_viewer: AtomicU64,
    viewers: Mutex<Vec<Viewer>>,
}

impl Source {
    /// A source that begins now.
    pub(super) fn new(fps: u32, kbit: u32, audio: bool, freeze_after: Option<Duration>) -> Self {
        Self {
            fps: fps.clamp(1, 120),
            kbit,
            audio,
            freeze_after,
            began: now(),
            key_wanted: AtomicBool::new(false),
            first_viewer: AtomicU64::new(0),
            viewers: Mutex::default(),
        }
    }

    /// When tick 0 was.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// A new viewer; it leaves by dropping the receiver.
    pub(super) fn watch(&self) -> Receiver<Arc<Unit>> {
        let (queue, receiver) = bounded(CAMERA_QUEUE_UNITS);
        self.lock().push(Viewer { queue, waits_for_key: true });
        self.key_wanted.store(true, Ordering::Relaxed);
        let first = now().as_millis() + 1;
        let _ = self.first_viewer.compare_exchange(0, first, Ordering::Relaxed, Ordering::Relaxed);
        receiver
    }

    /// Time since the first viewer came.
    pub(super) fn watched_for(&self) -> Option<Duration> {
        let first = self.first_viewer.load(Ordering::Relaxed).checked_sub(1)?;
        Some(now().since(Instant::from_millis(first)))
    }

    /// Feeds the viewers by the clock. Never ends.
    pub(super) async fn run(&self) {
        let mut encoder = Encoder::new(self.fps, self.kbit);
        let (mut frames, mut sounds) = (0_u64, 0_u64);
        loop {
            let video_due = self.began + Duration::from_millis(frames * 1000 / u64::from(self.fps));
            let audio_due = self.began + Duration::from_millis(sounds * 20);
            let is_audio = self.audio && audio_due < video_due;
            let due = if is_audio { audio_due } else { video_due };
            let wait = due.since(now());
            if !wait.is_zero() {
                Timer::after(wait).await;
            }
            let silent = self.lock().is_empty() || self.is_frozen();
            if is_audio {
                let first = sounds * u64::from(rtp::AUDIO_SAMPLES);
                sounds += 1;
                if !silent {
                    let payloads = vec![rtp::tone(first)];
                    self.give(&Arc::new(Unit { track: 1, ticks: first, payloads, key: true }));
                }
            } else {
                if !silent {
                    let key = self.key_wanted.swap(false, Ordering::Relaxed);
                    self.give(&Arc::new(self.video(&mut encoder, frames, key)));
                }
                frames += 1;
            }
        }
    }

    fn video(&self, encoder: &mut Encoder, number: u64, key_wanted: bool) -> Unit {
        let frame = encoder.frame(number, key_wanted);
        let mut payloads = Vec::new();
        for nal in &frame.nals {
            rtp::payloads_of_nal(nal, &mut payloads);
        }
        let ticks = number * u64::from(rtp::VIDEO_CLOCK) / u64::from(self.fps);
        Unit { track: 0, ticks, payloads, key: frame.key }
    }

    fn give(&self, unit: &Arc<Unit>) {
        self.lock().retain_mut(|viewer| {
            if unit.track == 0 && viewer.waits_for_key && !unit.key {
                return !viewer.queue.is_closed();
            }
            match viewer.queue.try_send(Arc::clone(unit)) {
                Ok(()) => {
                    viewer.waits_for_key &= unit.track != 0;
                    true
                }
                Err(TrySendError::Full(_)) => {
                    viewer.waits_for_key = true;
                    true
                }
                Err(TrySendError::Closed(_)) => false,
            }
        });
    }

    /// Whether media has stopped for good.
    pub(super) fn is_frozen(&self) -> bool {
        matches!((self.freeze_after, self.watched_for()), (Some(after), Some(for_)) if for_ >= after)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Viewer>> {
        self.viewers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(track: usize, key: bool) -> Arc<Unit> {
        Arc::new(Unit { track, ticks: 0, payloads: Vec::new(), key })
    }

    #[test]
    fn a_viewer_begins_with_a_key_frame() {
        let source = Source::new(25, 0, true, None);
        let viewer = source.watch();
        source.give(&unit(0, false));
        assert!(viewer.is_empty());
        source.give(&unit(0, true));
        source.give(&unit(0, false));
        source.give(&unit(1, true));
        assert_eq!(viewer.len(), 3);
    }

    #[test]
    fn a_full_queue_loses_units_up_to_the_next_key_frame() {
        let source = Source::new(25, 0, false, None);
        let viewer = source.watch();
        for _ in 0..=CAMERA_QUEUE_UNITS {
            source.give(&unit(0, true));
        }
        assert_eq!(viewer.len(), CAMERA_QUEUE_UNITS);
        assert!(viewer.try_recv().is_ok());
        source.give(&unit(0, false));
        assert_eq!(viewer.len(), CAMERA_QUEUE_UNITS - 1);
        source.give(&unit(0, true));
        assert_eq!(viewer.len(), CAMERA_QUEUE_UNITS);
    }

    #[test]
    fn viewers_that_left_are_forgotten() {
        let source = Source::new(25, 0, false, None);
        drop(source.watch());
        source.give(&unit(0, false));
        assert!(source.lock().is_empty());
    }

    #[test]
    fn it_feeds_by_the_clock_with_a_key_frame_first() {
        let source = Source::new(50, 0, true, None);
        let viewer = source.watch();
        let units = smol::block_on(smol::future::or(
            async {
                source.run().await;
                Vec::new()
            },
            async {
                let mut units = Vec::new();
                while units.len() < 10 {
                    units.extend(viewer.recv().await);
                }
                units
            },
        ));
        let (audio, video): (Vec<_>, Vec<_>) = units.iter().partition(|unit| unit.track == 1);
        assert!(video.first().is_some_and(|unit| unit.key));
        assert!(video.windows(2).all(|pair| pair[1].ticks == pair[0].ticks + 1800));
        assert!(audio.windows(2).all(|pair| pair[1].ticks == pair[0].ticks + 160));
        assert!(audio.len() >= 4 && video.len() >= 4);
    }
}
