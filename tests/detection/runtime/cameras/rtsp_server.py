"""A camera for tests: RTSP with H.264. Run by Debian's Python, which has GStreamer; prints its port.

Each image says in blocks, 20 across and 3 down in its upper 3/10, which one it is (24 bits) and when it was
made (36 bits, milliseconds of the monotonic clock); so a reader sees duplicates, order and true age.
Lines on standard input: "size WIDTH HEIGHT" changes the image from the next one on.
"""

import argparse
import sys
import threading
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

ACROSS, DOWN = 20, 3


def image(width, height, number):
    """Grey levels above, then the two colour planes of I420, as bytes."""
    value = (number & 0xFFFFFF) << 36 | (time.monotonic_ns() // 1_000_000) & 0xFFFFFFFFF
    bits = [(value >> (ACROSS * DOWN - 1 - i)) & 1 for i in range(ACROSS * DOWN)]
    across, down = width // ACROSS, height // 10
    rows = b"".join(
        b"".join((b"\xd0" if bit else b"\x30") * across for bit in bits[row * ACROSS : (row + 1) * ACROSS]) * down
        for row in range(DOWN)
    )
    below = bytes([80 + number * 3 % 100]) * (width * height - len(rows))
    return rows + below + b"\x80" * (width * height // 2)


class Camera(GstRtspServer.RTSPMediaFactory):
    def __init__(self, size, fps, gop):
        super().__init__()
        self.size, self.fps, self.gop = size, fps, gop
        self.number = 0
        self.set_shared(True)

    def caps(self, size):
        return f"video/x-raw,format=I420,width={size[0]},height={size[1]},framerate={self.fps}/1"

    def do_create_element(self, url):
        return Gst.parse_launch(
            "( appsrc name=camera is-live=true do-timestamp=true format=time max-bytes=1000000"
            f" caps={self.caps(self.size)} ! x264enc tune=zerolatency speed-preset=ultrafast bitrate=1000"
            f" key-int-max={self.gop} threads=1 ! video/x-h264,profile=baseline"
            " ! rtph264pay name=pay0 pt=96 config-interval=-1 )"
        )

    def do_configure(self, media):
        GstRtspServer.RTSPMediaFactory.do_configure(self, media)
        stop = threading.Event()
        media.connect("unprepared", lambda _: stop.set())
        source = media.get_element().get_by_name("camera")
        threading.Thread(target=self.feed, args=(source, stop), daemon=True).start()

    def feed(self, source, stop):
        size, next_s = self.size, time.monotonic()
        while not stop.is_set():
            if size != self.size:
                size = self.size
                source.set_property("caps", Gst.Caps.from_string(self.caps(size)))
            buffer = Gst.Buffer.new_wrapped(image(*size, self.number))
            if source.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
                return
            self.number += 1
            next_s += 1 / self.fps
            if next_s < time.monotonic():
                next_s = time.monotonic() + 1 / self.fps  # a camera does not catch up
            stop.wait(max(0.0, next_s - time.monotonic()))


def only_for(camera, server, user, password):
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    auth.add_digest(user, password, token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_role("viewer")
    permissions.add_permission_for_role("viewer", "media.factory.access", True)
    permissions.add_permission_for_role("viewer", "media.factory.construct", True)
    camera.set_permissions(permissions)


parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, default=0)
parser.add_argument("--fps", type=int, default=25)
parser.add_argument("--gop", type=int, default=12)
parser.add_argument("--user", help="USER:PASSWORD, by digest")
given = parser.parse_args()

Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(str(given.port))
camera = Camera((320, 240), given.fps, given.gop)
if given.user:
    gi.require_version("GstRtsp", "1.0")
    from gi.repository import GstRtsp

    only_for(camera, server, *given.user.split(":"))
server.get_mount_points().add_factory("/cam", camera)
if server.attach(None) == 0:
    sys.exit("cannot listen")
print(server.get_bound_port(), flush=True)


def obey():
    for line in sys.stdin:
        word, *values = line.split()
        if word == "size":
            camera.size = (int(values[0]), int(values[1]))


threading.Thread(target=obey, daemon=True).start()
GLib.MainLoop().run()
