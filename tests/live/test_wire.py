"""Messages through bytes and back, in pieces of any size; what is damaged is named with its place."""

import numpy as np
import pytest

from ssmbook.errors import InputError
from ssmbook.events import Events
from ssmbook.live.wire import END_US, HEADER, Message, decode, encode, encode_text, read_messages
from tests.live.test_stream import random_events


def reader(data, size):
    """Gives a stream's bytes in pieces of a size."""
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    return lambda count: pieces.pop(0) if pieces else b""


def assert_equal(a, b):
    for name in "txyp":
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


MESSAGES = [
    Message(random_events(500), 400_000, 0, (64, 48)),
    Message(Events.empty(), 450_000, 1, (64, 48)),
    Message(random_events(3, 500_000, 600_000), None, 2, None),
    Message(Events.empty(), END_US, 3, None),
]


@pytest.mark.parametrize("size", [1, 23, 24, 1000, 1 << 20])
def test_binary_messages_return(size):
    data = b"".join(map(encode, MESSAGES))
    found = list(read_messages(reader(data, size)))
    assert [m[1:] for m in found] == [m[1:] for m in MESSAGES]
    assert [m.is_end for m in found] == [False] * 3 + [True]
    for a, b in zip(found, MESSAGES, strict=True):
        assert_equal(a.events, b.events)


@pytest.mark.parametrize("size", [1, 17, 1 << 20])
@pytest.mark.parametrize(("start", "comma"), [(b"", b" "), (b"t,x,y,p\n", b","), (b"# a camera\n\n", b"\t")])
def test_text_returns(size, start, comma):
    events = random_events(200)
    data = start + encode_text(Message(events)).replace(b" ", comma)
    found = list(read_messages(reader(data.rstrip(b"\n"), size)))
    assert_equal(Events.concatenate([m.events for m in found]), events)
    assert list(read_messages(reader(b"", 5))) in ([], [Message(Events.empty())])


def test_a_message_has_the_documented_bytes():
    events = Events(*(np.array([v]) for v in (258, 3, 4, 1)))
    header = [128, 2, 224, 1, 7, 0, 0, 0, 1, 0, 0, 0, 44, 1, 0, 0, 0, 0, 0, 0]
    event = [2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 4, 0, 1]
    assert encode(Message(events, 300, 7, (640, 480))) == b"EVS1" + bytes(header + event)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (encode(MESSAGES[0]) + b"EVS2" + bytes(20), "byte 6524: b'EVS2', where a message begins"),
        (encode(MESSAGES[0])[:-5], "byte 0: the stream ends 5 bytes before"),
        (HEADER.pack(b"EVS1", 0, 0, 0, 1 << 30, 0), "1,073,741,824 events; it holds at most"),
        (encode(MESSAGES[2])[:-1] + b"\x07", "polarity takes the values"),
        (b"1 2 3 1\n1 2 3\n", "line 2: b'1 2 3' is no event"),
        (b"1 2 3 1\n\n5 7000000 3 1\n", "lines 1 to 3: event 1 has x = 7000000"),
        (b"a camera\n", "line 1: b'a camera' is no event"),
        (bytes(5000), "line 1: is longer than 1000"),
    ],
)
def test_damage_is_named(data, message):
    for size in (50, 1 << 20):
        with pytest.raises(InputError, match=message):
            list(read_messages(reader(data, size)))


def test_a_datagram_is_one_message():
    assert_equal(decode(encode(MESSAGES[0])).events, MESSAGES[0].events)
    for data in (encode(MESSAGES[0])[:-1], encode(MESSAGES[0]) + b"x", b"", b"EVS1"):
        with pytest.raises(InputError, match=f"a message of {len(data)} bytes"):
            decode(data)
