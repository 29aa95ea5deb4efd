"""A server on this machine that cuts connections, ignores ranges, changes its files or is slow; and archives for it."""

import http.server
import io
import re
import tarfile
import time
import zlib

from ssmbook.dataset.download import Source


class Server(http.server.ThreadingHTTPServer):
    """Serves ``files`` (path → bytes); says what was asked of it.

    cut: how many bytes an answer has before its connection breaks; None: it does not.
    cuts: how many answers are cut; then they are whole.
    pause_s: between the tenths of a body.
    """

    ranges, date, etag = True, None, True
    cut, cuts = None, 10**9
    pause_s = 0.0
    odd = None  # (status, headers) of every answer to a GET instead

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked = {}, []

    def source(self, name, content, crc32=None):
        self.files[f"/{name}"] = content
        return Source(f"http://127.0.0.1:{self.server_port}/{name}", crc32)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def answer(self, with_body):
        server, wanted = self.server, self.headers.get("Range")
        if server.odd is not None:
            status, headers = server.odd
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            if with_body and status != 204:
                self.wfile.write(b"odd")
            return
        content = server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        validator = server.date or f'"{zlib.crc32(content):08x}"'
        start = 0
        if wanted and server.ranges and self.headers.get("If-Range") in (None, validator):
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            if start >= len(content):
                self.send_error(416)
                return
        if with_body:
            server.asked.append(start)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if server.etag:
            self.send_header("Last-Modified" if server.date else "ETag", validator)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if with_body:
            body = content[start:]
            if server.cut is not None and server.cuts > 0:
                server.cuts -= 1
                body = body[: server.cut]
            for k in range(0, len(body), max(1, len(content) // 10)):
                self.wfile.write(body[k : k + max(1, len(content) // 10)])
                time.sleep(server.pause_s)

    def log_message(self, *_):
        pass


def tar_of(members):
    """A tar from name → bytes, or a TarInfo's changes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                for key, value in content.items():
                    setattr(info, key, value)
                tar.addfile(info)
    return buffer.getvalue()
