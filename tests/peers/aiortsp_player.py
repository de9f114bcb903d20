"""Plays the video of an RTSP URL with aiortsp (PyPI) and counts packets and frames.

Usage: target/peers/venv/bin/python aiortsp_player.py URL [--transport udp|tcp] [--seconds 5]

Plays so many seconds from the first packet, which may take 15 seconds to come. Then, or when the
stream has ended, prints one line of JSON:
  packets          RTP packets
  frames           access units, by the marker bit
  lost             gaps in the sequence numbers
  first_ms         milliseconds from the start to the first packet; null if none
  ended            "time", or "closed"
  ended_ms         when
"""

import argparse
import asyncio
import json
import logging
import time

from aiortsp.rtsp.reader import RTSPReader


async def play(arguments):
    scheme = {"udp": "rtsp", "tcp": "rtspt"}[arguments.transport]
    url = scheme + arguments.url.removeprefix("rtsp")
    began = time.monotonic()
    seen = {"packets": 0, "frames": 0, "lost": 0, "first_ms": None}
    previous = None

    def elapsed():
        return int((time.monotonic() - began) * 1000)

    async def read():
        nonlocal previous
        async with RTSPReader(url, timeout=5, log_level=logging.WARNING) as reader:
            async for packet in reader.iter_packets():
                if seen["first_ms"] is None:
                    seen["first_ms"] = elapsed()
                    now = asyncio.get_running_loop().time()
                    limit.reschedule(now + arguments.seconds)
                seen["packets"] += 1
                seen["frames"] += packet.m
                if previous is not None:
                    seen["lost"] += (packet.seq - previous - 1) & 0xFFFF
                previous = packet.seq

    try:
        async with asyncio.timeout(arguments.seconds + 15) as limit:
            await read()
        seen["ended"] = "closed"
    except TimeoutError:
        seen["ended"] = "time"
    seen["ended_ms"] = elapsed()
    print(json.dumps(seen), flush=True)
    await asyncio.sleep(0.3)  # the reader says TEARDOWN in the background


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--transport", choices=["udp", "tcp"], default="udp")
    parser.add_argument("--seconds", type=float, default=5)
    asyncio.run(play(parser.parse_args()))


if __name__ == "__main__":
    main()
