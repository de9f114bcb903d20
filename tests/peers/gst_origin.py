#!/usr/bin/python3
"""An RTSP origin made of GStreamer's gst-rtsp-server: live pictures, RTSP 1.0 and 2.0, UDP and TCP.

Usage: gst_origin.py [--address 127.0.0.1] [--port 0]

Mounts:
  /open     H.264, 320x240, 25 frames a second, a key frame each half second
  /av       the same with a second track, G.711 audio; /av2 is the same once more
  /big      raw video, about 23 Mbit/s; /crowd the same, from one pipeline for all players
  /digest   as /open, for user "viewer" with password "letmein" (RTSP digest)
  /record   accepts ANNOUNCE and RECORD of one H.264 track
  /watch    what is being recorded into /record

Prints `ready PORT` once it listens, then one line for each thing that happened:
`connected`, `describe PATH`, `play PATH`, `pause PATH`, `record PATH`, `teardown PATH`, `closed`,
`recorded N` (access units so far).
SIGUSR1 makes the pictures stop while RTSP goes on (a camera whose sensor hangs); a second one
lets them go on.
"""

import argparse
import signal
import socket
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
# What is recorded goes on to /watch through a loopback port, so that no Python stands in its way.
RECORD = (
    "rtph264depay name=depay0 ! h264parse config-interval=-1"
    " ! video/x-h264,stream-format=byte-stream,alignment=au ! tee name=t"
    " t. ! queue ! fakesink name=counted sync=false async=false"
    " t. ! queue ! rtph264pay pt=96 config-interval=-1 mtu=1200"
    " ! udpsink host=127.0.0.1 port={port} sync=false async=false"
)
WATCH = (
    "udpsrc address=127.0.0.1 port={port} buffer-size=1048576"
    " caps=application/x-rtp,media=video,clock-rate=90000,encoding-name=H264"
    " ! rtph264depay ! h264parse config-interval=-1"
    " ! rtph264pay name=pay0 pt=96 config-interval=-1 mtu=1200"
)

USER, PASSWORD = "viewer", "letmein"


def say(*words):
    print(*words, flush=True)


def free_udp_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Origin:
    def __init__(self, address, port):
        self.valves = []
        self.frozen = False
        self.recorded = 0
        self.server = GstRtspServer.RTSPServer()
        self.server.set_address(address)
        self.server.set_service(str(port))
        self.server.connect("client-connected", self.on_client)
        # A client that sends its media over TCP must not hold up the others.
        self.server.get_thread_pool().set_max_threads(-1)
        self.mounts = self.server.get_mount_points()
        port = free_udp_port()
        two = VIDEO + "   " + AUDIO
        everyone = [("/open", VIDEO), ("/av", two), ("/av2", two), ("/big", BIG)]
        for path, launch in everyone:
            self.mount(path, launch)
        self.mount("/crowd", BIG, shared=True)
        self.mount("/watch", WATCH.format(port=port), shared=True)
        self.mount("/digest", VIDEO, private=True)
        self.mount("/record", RECORD.format(port=port), record=True)
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
        counted = pipeline.get_by_name("counted")
        if counted is not None:
            timer = GLib.timeout_add(100, self.tell_recorded, counted)
            media.connect("unprepared", lambda _media: GLib.source_remove(timer))

    def tell_recorded(self, counted):
        recorded = counted.get_property("stats").get_value("rendered")
        if recorded != self.recorded:
            self.recorded = recorded
            say("recorded", recorded)
        return True

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
    # Attributes of a class are found at their first use; two clients that do so at the same time
    # may see half a class, so it is done here once.
    for used in (
        (Gst.Bin, "get_by_name"),
        (Gst.Element, "set_property"),
        (GstRtsp.RTSPUrl, "abspath"),
        (GstRtspServer.RTSPMedia, "get_element"),
        (GstRtspServer.RTSPMedia, "connect"),
        (GstRtspServer.RTSPClient, "connect"),
        (GstRtspServer.RTSPContext, "uri"),
    ):
        getattr(*used)
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
