"""Where live events come from and go to: standard input and output, named pipes, UDP. Built-in sockets and files do."""

from __future__ import annotations

import os
import re
import socket
import stat
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ssmbook.errors import InputError
from ssmbook.events import Events
from ssmbook.live.wire import DATAGRAM_EVENTS, END_US, Message, decode, encode, encode_text, read_messages

BUFFER = 1 << 23  # bytes that the system is asked to hold for a socket; Linux gives up to net.core.rmem_max
HELD = 1 << 26  # bytes of datagrams that wait for the detector
_UDP = re.compile(r"udp://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):(\d{1,5})")


@contextmanager
def open_source(name: str, tell: Callable[[str], None]) -> Iterator[Iterator[Message]]:
    """The messages that come from somewhere, until the sender ends or closes it.

    Args:
        name: ``"-"``: standard input; ``"udp://HOST:PORT"``: datagrams to this address, which are taken from now on,
            read or not; else a named pipe.
        tell: is told of datagrams that are no messages, and of those that were dropped.

    Raises:
        InputError: the address cannot be listened at, or the name leads to nothing.
    """
    if name.startswith("udp:"):
        with _socket(name, socket.socket.bind) as listener:
            inbox = _Inbox(listener, tell)
            inbox.start()
            try:
                yield _datagrams(inbox, tell)
            finally:
                inbox.closed = True
                inbox.join()
    elif name == "-":
        yield read_messages(lambda count: os.read(sys.stdin.fileno(), count))
    else:
        with open(_pipe(name), "rb", buffering=0) as file:
            yield read_messages(file.read)


class _Inbox(threading.Thread):
    """Takes datagrams from the system as they come, for whoever has something else to do, such as to load a network.

    The system's own buffer holds milliseconds of a busy camera; here 64 MB are held, and then the oldest dropped.
    """

    def __init__(self, listener: socket.socket, tell: Callable[[str], None]) -> None:
        super().__init__(daemon=True, name="datagrams")
        self.listener, self.tell = listener, tell
        self.held: deque[bytes] = deque()
        self.bytes = self.dropped = 0
        self.changed = threading.Condition()
        self.closed = False
        self.error: OSError | None = None
        listener.settimeout(0.2)

    def run(self) -> None:
        while not self.closed:
            try:
                data = self.listener.recv(1 << 16)
            except TimeoutError:
                continue
            except OSError as error:
                self.error = error
            with self.changed:
                if self.error is None:
                    self._hold(data)
                self.changed.notify()
            if self.error is not None:
                return

    def _hold(self, data: bytes) -> None:
        self.held.append(data)
        self.bytes += len(data)
        while self.bytes > HELD:
            self.bytes -= len(self.held.popleft())
            self.dropped += 1
            if self.dropped & (self.dropped - 1) == 0:  # the 1st, 2nd, 4th, … of them
                self.tell(f"{self.dropped} datagrams dropped, for {HELD >> 20} MB of them wait already")

    def next(self) -> bytes:
        """The next datagram, once it is there."""
        with self.changed:
            self.changed.wait_for(lambda: self.held or self.error is not None)
            if not self.held:
                raise self.error or OSError
            data = self.held.popleft()
            self.bytes -= len(data)
            return data


def _datagrams(inbox: _Inbox, tell: Callable[[str], None]) -> Iterator[Message]:
    bad = 0
    while True:
        try:
            message = decode(inbox.next())
        except InputError as error:
            bad += 1
            if bad & (bad - 1) == 0:  # the 1st, 2nd, 4th, … of them
                tell(f"{bad} datagrams are no messages; the last: {error}")
            continue
        yield message
        if message.is_end:
            return


@contextmanager
def open_target(name: str, text: bool = False) -> Iterator[Callable[[Message], None]]:
    """What sends a message: to standard output (``"-"``), to ``"udp://HOST:PORT"``, or into a named pipe.

    A message of more than 2,048 events becomes several datagrams. When the block ends, so does the stream.

    Raises:
        InputError: nothing listens there, or the name leads to nothing.
    """
    sent = 0

    def numbered(message: Message) -> bytes:
        nonlocal sent
        sent += 1
        return encode(message._replace(number=(sent - 1) & 0xFFFFFFFF))

    if name.startswith("udp:"):
        if text:
            raise InputError(f"{name}: text goes through a pipe or standard output; leave --text out")
        with _socket(name, socket.socket.connect) as sender:

            def send(message: Message) -> None:
                for part in _parts(message):
                    _send(sender, numbered(part))

            yield send
            for _ in range(3):  # one of them may be lost
                _send(sender, numbered(Message(Events.empty(), END_US)))
        return
    with open(
        sys.stdout.fileno() if name == "-" else _pipe(name), "wb", buffering=0, closefd=name != "-"
    ) as file:

        def write(message: Message) -> None:
            data = memoryview(encode_text(message) if text else numbered(message))
            while data:  # an unbuffered file may take a part
                data = data[file.write(data) or 0 :]

        yield write
        if not text:
            write(Message(Events.empty(), END_US))


def _parts(message: Message) -> Iterator[Message]:
    """A message as datagrams; only the last says up to which time everything has been sent."""
    events, last = message.events, max(0, (len(message.events) - 1) // DATAGRAM_EVENTS)
    for k in range(last + 1):
        part = events[k * DATAGRAM_EVENTS : (k + 1) * DATAGRAM_EVENTS]
        yield message._replace(events=part, now_us=message.now_us if k == last else None)


def _send(sender: socket.socket, data: bytes) -> None:
    with suppress(ConnectionRefusedError):  # the system tells that the datagram before had no listener
        sender.send(data)


@contextmanager
def _socket(name: str, join: Callable[[socket.socket, tuple], None]) -> Iterator[socket.socket]:
    match = _UDP.fullmatch(name)
    if match is None or not 0 < int(match[2]) < 1 << 16:
        raise InputError(f"{name}: is no address; write udp://127.0.0.1:9000")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            match[1].strip("[]"), int(match[2]), type=socket.SOCK_DGRAM
        )[0]
        opened = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InputError(f"{name}: {error.strerror or error}; give another address") from None
    with opened:
        for side in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            for size in (BUFFER, BUFFER // 8):
                with suppress(OSError):  # Linux gives what it allows, others refuse more
                    opened.setsockopt(socket.SOL_SOCKET, side, size)
                    break
        try:
            join(opened, address)
        except OSError as error:
            raise InputError(f"{name}: {error.strerror or error}; give another address or port") from None
        yield opened


def _pipe(name: str) -> str:
    try:
        mode = os.stat(name).st_mode
    except (OSError, ValueError) as error:
        raise InputError(
            f"{name}: {getattr(error, 'strerror', None) or error}; give -, udp://HOST:PORT, or a pipe: mkfifo NAME"
        ) from None
    if not stat.S_ISFIFO(mode) and not stat.S_ISCHR(mode):
        raise InputError(
            f"{name}: is no pipe; a recording is read without --live, or ssmbook play sends it to one"
        )
    return name
