"""A page in the browser that shows events, boxes, rate and latency as they come.

A small server (Tornado's, which JupyterLab and Dask bring along) sends the page, and to each browser the newest window
as a server-sent event. A browser that is slow skips windows; nothing is kept for it.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError
from tornado.netutil import bind_sockets
from tornado.web import Application, HTTPError, RequestHandler

from ssmbook import colours
from ssmbook.errors import InputError
from ssmbook.events import Representation
from ssmbook.live.html import page_text

if TYPE_CHECKING:
    from ssmbook.live.stream import Detections  # which imports torch

MAX_FPS = 25.0  # pictures per second, at most
NOTES = 20  # lines that the page shows


class LivePage:
    """Serves the page from a thread of its own, until ``close``. It waits for events until ``begin``.

    Args:
        host: to listen at; "127.0.0.1" is for browsers on this machine alone. There is no password.
        port: 0: any that is free.
        palette: one of ``colours.PALETTES``.

    Attributes:
        url: of the page.

    Raises:
        InputError: the address cannot be listened at.
    """

    def __init__(self, host: str, port: int, palette: str = "light") -> None:
        try:
            sockets = bind_sockets(port, host, family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as error:
            raise InputError(f"--page {host}:{port}: {error.strerror or error}; give another port") from None
        self.palette = palette
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{sockets[0].getsockname()[1]}/"
        self.notes: deque[str] = deque(maxlen=NOTES)
        self._drawn_at, self._watchers = 0.0, 0
        self._newest: tuple[int, bytes] = 0, b"{}"
        self._changed: asyncio.Event
        self._loop, ready = asyncio.new_event_loop(), threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(sockets, ready), daemon=True, name="page")
        self._thread.start()
        ready.wait()

    def begin(self, classes: tuple[str, ...], represent: Representation, zero_us: int = 0) -> None:
        """Say what windows are shown.

        Args:
            classes: names by class id.
            represent: what makes the frames.
            zero_us: the time that the page shows as 0.
        """
        self.classes, self.represent, self.zero_us = classes, represent, zero_us

    def note(self, line: str) -> None:
        """Show a line, such as a warning; the last 20 are kept."""
        self.notes.append(f"{time.strftime('%H:%M:%S')} {line}")
        self._send({"notes": list(self.notes)})

    def show(self, frame: np.ndarray, found: Detections, figures: dict[str, Any]) -> None:
        """Show a window, unless nobody looks or the last one was just now.

        Args:
            frame: [C, H, W] of the representation.
            found: its boxes.
            figures: plain numbers to show by name; those of the window itself come before them.
        """
        now = time.monotonic()
        if not self._watchers or now - self._drawn_at < 1 / MAX_FPS:
            return
        self._drawn_at = now
        off, on = self.represent.polarities(frame)
        picture = (255 * colours.polarity_image(on, off, self.palette)).round().astype(np.uint8)
        content = {
            "t_us": found.t_us - self.zero_us,
            "width": picture.shape[1],
            "height": picture.shape[0],
            "image": png_url(picture),
            "boxes": [self._box(box) for box in found.boxes],
        }
        self._send(figures | content | {"notes": list(self.notes)})

    def close(self) -> None:
        """Stop serving."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _box(self, box: np.void) -> dict[str, Any]:
        kind = int(box["class_id"])
        return {
            "xywh": [round(float(v), 1) if np.isfinite(v) else 0.0 for v in (box[name] for name in "xywh")],
            "label": f"{self.classes[kind]} {box['track_id'] or ''} {box['class_confidence']:.2f}",
            "colour": colours.CLASS_COLOURS[kind % len(colours.CLASS_COLOURS)],
        }

    def _send(self, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self._loop.call_soon_threadsafe(self._publish, data)

    def _publish(self, data: bytes) -> None:
        self._newest = self._newest[0] + 1, data
        self._changed.set()
        self._changed = asyncio.Event()

    def _serve(self, sockets: list[socket.socket], ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._changed = asyncio.Event()
        server = HTTPServer(Application([("/", _Home), ("/windows", _Windows)], page=self))
        server.add_sockets(sockets)
        ready.set()
        try:
            self._loop.run_forever()
        finally:
            server.stop()


def png_url(picture: np.ndarray) -> str:
    """A picture [H, W, 3] uint8 as a data URL."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


class _Handler(RequestHandler):
    @property
    def page(self) -> LivePage:
        return self.application.settings["page"]

    def prepare(self) -> None:
        """Only under the name that was given, so that no other site can read it by way of its own name."""
        wanted = urlsplit(self.page.url)
        if wanted.hostname in ("0.0.0.0", "::"):
            return
        try:
            given = urlsplit(f"//{self.request.host}")
            right = given.hostname in (wanted.hostname, "localhost") and (given.port or 80) == wanted.port
        except ValueError:
            right = False
        if not right:
            raise HTTPError(403)


class _Home(_Handler):
    def get(self) -> None:
        self.set_header("Content-Security-Policy", "default-src 'self' 'unsafe-inline' data:")
        self.write(page_text("page.html"))


class _Windows(_Handler):
    async def get(self) -> None:
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-store")
        page, sent = self.page, -1
        page._watchers += 1
        try:
            while True:
                changed, (number, data) = page._changed, page._newest
                if number != sent:
                    sent = number
                    self.write(b"data: " + data + b"\n\n")
                    await self.flush()  # waits for a slow browser
                else:
                    await changed.wait()
        except StreamClosedError:
            pass
        finally:
            page._watchers -= 1
