#!/usr/bin/python3
"""Plays an RTSP URL with GStreamer's rtspsrc, decodes it, and counts.

Usage: gst_player.py URL [--transport udp|tcp] [--rtsp 1|2] [--seconds 5]

Plays so many seconds from the first picture, which may take 15 seconds to come. Then, or when the
stream has ended, prints one line of JSON:
  video, audio     decoded buffers of each kind
  lost             packets that the jitter buffers gave up on
  first_ms         milliseconds from the start to the first decoded picture; null if none
  last_ms          the same for the last picture
  warnings         warnings that elements posted (broken pictures among them)
  ended            "time", "eos", or "error: ..."
  ended_ms         when
Exit status 0 unless it could not even start.
"""

import argparse
import json
import time

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402


class Player:
    def __init__(self, arguments):
        self.began = time.monotonic()
        self.counts = {"video": 0, "audio": 0}
        self.first = self.last = None
        self.warnings = []
        self.ended = None
        self.buffers = []
        self.loop = GLib.MainLoop()
        self.pipeline = Gst.Pipeline()
        source = Gst.ElementFactory.make("rtspsrc")
        source.set_property("location", arguments.url)
        source.set_property("latency", 200)
        Gst.util_set_object_arg(source, "protocols", arguments.transport)
        if arguments.rtsp == 2:
            Gst.util_set_object_arg(source, "default-rtsp-version", "2-0")
        source.connect("pad-added", self.on_pad)
        source.connect("new-manager", self.on_manager)
        self.pipeline.add(source)
        bus = self.pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message", self.on_message)
        self.seconds = arguments.seconds
        GLib.timeout_add(int((arguments.seconds + 15) * 1000), self.end, "time")

    def elapsed(self):
        return int((time.monotonic() - self.began) * 1000)

    def on_manager(self, _source, manager):
        manager.connect("new-jitterbuffer", lambda _m, b, _session, _ssrc: self.buffers.append(b))

    def on_pad(self, _source, pad):
        kind = pad.get_current_caps().get_structure(0).get_string("media")
        if kind == "video":
            chain = "rtph264depay ! h264parse ! avdec_h264 max-threads=1"
        elif kind == "audio":
            chain = "rtppcmadepay ! alawdec"
        else:
            return
        chain += " ! fakesink name=end sync=false signal-handoffs=true"
        bin_ = Gst.parse_bin_from_description(chain, True)
        bin_.get_by_name("end").connect("handoff", self.on_buffer, kind)
        self.pipeline.add(bin_)
        bin_.sync_state_with_parent()
        pad.link(bin_.get_static_pad("sink"))

    def on_buffer(self, _sink, _buffer, _pad, kind):
        self.counts[kind] += 1
        if kind == "video":
            self.last = self.elapsed()
            if self.first is None:
                self.first = self.last
                GLib.timeout_add(int(self.seconds * 1000), self.end, "time")

    def on_message(self, _bus, message):
        if message.type == Gst.MessageType.EOS:
            self.end("eos")
        elif message.type == Gst.MessageType.ERROR:
            error, debug = message.parse_error()
            self.end(f"error: {error.message} ({debug})")
        elif message.type == Gst.MessageType.WARNING:
            self.warnings.append(message.parse_warning()[0].message)

    def end(self, reason):
        if self.ended is None:
            self.ended = (reason, self.elapsed())
            self.lost = sum(b.get_property("stats").get_value("num-lost") for b in self.buffers)
            self.loop.quit()
        return False

    def run(self):
        self.pipeline.set_state(Gst.State.PLAYING)
        self.loop.run()
        self.pipeline.set_state(Gst.State.NULL)
        reason, when = self.ended
        print(
            json.dumps(
                {
                    **self.counts,
                    "lost": self.lost,
                    "first_ms": self.first,
                    "last_ms": self.last,
                    "warnings": self.warnings,
                    "ended": reason,
                    "ended_ms": when,
                }
            ),
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--transport", choices=["udp", "tcp"], default="udp")
    parser.add_argument("--rtsp", type=int, choices=[1, 2], default=1)
    parser.add_argument("--seconds", type=float, default=5)
    Gst.init(None)
    # Attributes of a class are found at their first use; two streams that do so at the same time
    # may see half a class, so it is done here once.
    Gst.Caps.from_string("a/b,media=c").get_structure(0).get_string("media")
    Player(parser.parse_args()).run()


if __name__ == "__main__":
    main()
