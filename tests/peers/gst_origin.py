#!/usr/bin/python3
"""An RTSP origin made of GStreamer's gst-rtsp-server: live pictures, RTSP 1.0 and 2.0, UDP and TCP.

Usage: gst_origin.py [--address 127.0.0.1] [--port 0]

Mounts:
  /open     H.264, 320x240, 25 frames a second, a key frame each half second
  /av       the same with a second track, G.711 audio; /av2 is the same once more
  /big      raw video, about 23 Mbit/s
  /digest   as /open, for user "viewer" with password "letmein" (RTSP digest)
  /record   accepts ANNOUNCE and RECORD of one H.264 track
  /watch    what is being recorded into /record

Prints `ready PORT` once it listens, then one line for each thing that happened:
`connected`, `describe PATH`, `play PATH`, `pause PATH`, `record PATH`, `teardown PATH`, `closed`,
`recorded N` (each 25 frames).
SIGUSR1 makes the pictures stop while RTSP goes on (a camera whose sensor hangs); a second one
lets them go on.
"""

import argparse
import signal
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

VIDEO = (
    "videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=25/1"
    " ! x264enc tune=zerolatency speed-preset=ultrafast bitrate=400 key-int-max=12 threads=1"
    " ! video/x-h264,profile=baseline ! valve name=sensor"
    " ! h264parse config-interval=-1 ! rtph264pay name=pay0 pt=96 config-interval=-1 mtu=1200"
)
AUDIO = (
    "audiotestsrc is-live=true samplesperbuffer=160 ! audio/x-raw,rate=8000,channels=1"
    " ! alawenc ! rtppcmapay name=pay1 pt=8 min-ptime=20000000 max-ptime=20000000"
)
BIG = (
    "videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=240,framerate=25/1"
    " ! rtpvrawpay name=pay0 pt=97 mtu=1400"
)
RECORD = (
    "rtph264depay name=depay0 ! h264parse config-interval=-1"
    " ! video/x-h264,stream-format=byte-stream,alignment=au"
    " ! appsink name=taken emit-signals=true sync=false max-buffers=100 drop=true"
)
WATCH = (
    "appsrc name=given is-live=true do-timestamp=true format=time"
    " caps=video/x-h264,stream-format=byte-stream,alignment=au"
    " ! h264parse config-interval=-1 ! rtph264pay name=pay0 pt=96 config-interval=-1 mtu=1200"
)

USER, PASSWORD = "viewer", "letmein"


def say(*words):
    print(*words, flush=True)


class Origin:
    def __init__(self, address, port):
        self.valves = []
        self.frozen = False
        self.given = []
        self.recorded = 0
        self.server = GstRtspServer.RTSPServer()
        self.server.set_address(address)
        self.server.set_service(str(port))
        self.server.connect("client-connected", self.on_client)
        self.mounts = self.server.get_mount_points()
        two = VIDEO + "   " + AUDIO
        everyone = [("/open", VIDEO), ("/av", two), ("/av2", two), ("/big", BIG)]
        for path, launch in everyone:
            self.mount(path, launch)
        self.mount("/watch", WATCH, shared=True)
        self.mount("/digest", VIDEO, private=True)
        self.mount("/record", RECORD, record=True)
        self.server.set_auth(self.auth())

    def auth(self):
        auth = GstRtspServer.RTSPAuth()
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        known = GstRtspServer.RTSPToken()
        known.set_string("media.factory.role", "known")
        auth.add_digest(USER, PASSWORD, known)
        anonymous = GstRtspServer.RTSPToken()
        anonymous.set_string("media.factory.role", "anonymous")
        auth.set_default_token(anonymous)
        return auth

    def mount(self, path, launch, private=False, record=False, shared=False):
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch("( " + launch + " )")
        # Not shared: each player gets pictures from the first one, which decode without complaint.
        factory.set_shared(shared)
        factory.set_latency(50)
        factory.set_protocols(GstRtsp.RTSPLowerTrans.UDP | GstRtsp.RTSPLowerTrans.TCP)
        if record:
            factory.set_transport_mode(GstRtspServer.RTSPTransportMode.RECORD)
        # A default token makes gst-rtsp-server ask for roles, so each mount names its own. Who may
        # not even access a mount is told 404; who may not construct it is challenged with 401.
        for role in ["anonymous", "known"]:
            allowed = Gst.Structure.new_empty(role)
            allowed.set_value("media.factory.access", True)
            allowed.set_value("media.factory.construct", role == "known" or not private)
            factory.add_role_from_structure(allowed)
        factory.connect("media-configure", self.on_media)
        self.mounts.add_factory(path, factory)

    def on_media(self, _factory, media):
        pipeline = media.get_element()
        valve = pipeline.get_by_name("sensor")
        if valve is not None:
            valve.set_property("drop", self.frozen)
            self.valves.append(valve)
            media.connect("unprepared", lambda _media: self.valves.remove(valve))
        taken = pipeline.get_by_name("taken")
        if taken is not None:
            taken.connect("new-sample", self.on_recorded)
        given = pipeline.get_by_name("given")
        if given is not None:
            self.given.append(given)
            media.connect("unprepared", lambda _media: self.given.remove(given))

    def on_recorded(self, sink):
        buffer = sink.emit("pull-sample").get_buffer()
        self.recorded += 1
        if self.recorded % 25 == 0:
            say("recorded", self.recorded)
        for source in list(self.given):
            copy = buffer.copy_deep()
            copy.pts = copy.dts = Gst.CLOCK_TIME_NONE
            source.emit("push-buffer", copy)
        return Gst.FlowReturn.OK

    def on_client(self, _server, client):
        say("connected")
        for signal_name, word in [
            ("describe-request", "describe"),
            ("play-request", "play"),
            ("pause-request", "pause"),
            ("record-request", "record"),
            ("teardown-request", "teardown"),
        ]:
            client.connect(signal_name, self.on_request, word)
        client.connect("closed", lambda _client: say("closed"))

    @staticmethod
    def on_request(_client, context, word):
        say(word, context.uri.abspath if context.uri is not None else "*")

    def toggle_frozen(self):
        self.frozen = not self.frozen
        for valve in self.valves:
            valve.set_property("drop", self.frozen)
        say("frozen" if self.frozen else "moving")
        return True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    Gst.init(None)
    origin = Origin(arguments.address, arguments.port)
    if origin.server.attach(None) == 0:
        sys.exit(f"cannot listen on {arguments.address}:{arguments.port}")
    loop = GLib.MainLoop()
    GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGUSR1, origin.toggle_frozen)
    GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGTERM, loop.quit)
    say("ready", origin.server.get_bound_port())
    loop.run()


if __name__ == "__main__":
    main()
