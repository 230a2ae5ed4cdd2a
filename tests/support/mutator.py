"""A seeded mutator over real messages and packets: the same seed gives the same bytes, for ever.

``mutations`` makes SIP messages, ``packet_mutations`` RTP and RTCP, ``stream_mutations`` whole TCP streams as lists of
chunks. Most cases change one thing, so that they get past the first check; some pile several changes up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from random import Random

from tests.support.sip_corpus import MESSAGES, RTCP_PACKETS, RTP_PACKETS
from tests.support.sip_torture import CASES

MAX_DATAGRAM = 65_535
"""What a test may send at most in one piece (65,507 over IPv4 UDP: see ``datagram``)."""

Mutation = Callable[[Random, bytes], bytes]

_NUMBER = re.compile(rb"[0-9]+")
_ODD_NUMBERS = (
    b"0",
    b"-1",
    b"00000000000000000001",
    b"65535",
    b"65536",
    b"99999",
    b"2147483647",
    b"2147483648",
    b"4294967295",
    b"4294967296",
    b"18446744073709551616",
    b"9" * 40,
    b"9" * 5000,
    b"1e9",
    b"0x10",
    b"+5",
    b"1.5",
    b"",
    b"\xb2",
    b"\xd9\xa3",
    b"NaN",
)
_ODD_VALUES = (
    b"",
    b" ",
    b",",
    b",,,,",
    b";",
    b";;;=;=",
    b"*",
    b"<",
    b">",
    b"<>",
    b"<<<<>>>>",
    b'"',
    b'"\\',
    b'"\\"',
    b"\\",
    b"@",
    b"sip:",
    b"sip:@",
    b"sip:x@",
    b"sip:[::1",
    b"sip:[]:5060",
    b"sip:[fe80::1%25lo]",
    b"<sip:a@b>,<sip:c@d>",
    b"tel:",
    b"<sip:a@b:99999>",
    b"<sip:a@b:0>",
    b"<sip:%00@%ff>;tag=%",
    b"\xff\xfe\xfd",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"SIP/2.0/UDP",
    b"SIP/2.0/UDP :5060",
    b"SIP/2.0/UDP x:99999;branch=z9hG4bK1",
    b"SIP/2.0/UDP 255.255.255.255:0",
    b"SIP/2.0/UDP [::1]:5060;branch=z9hG4bK;received=;rport=99999",
    b"SIP/2.0/UDP 0.0.0.0;rport;maddr=224.0.0.1;ttl=1",
    b"Digest",
    b'Digest username="',
    b"Digest ,,,=,",
    b"1 INVITE INVITE",
    b"INVITE 1",
    b"application/sdp;;;",
    b"a=" * 400,
)
_ODD_PARAMS = (
    b";rport=99999",
    b";rport=-1",
    b";rport=0",
    b";rport",
    b";received=",
    b";received=999.1.1.1",
    b";received=host.name",
    b";received=[::1",
    b";branch=",
    b";branch=z9hG4bK",
    b";tag=",
    b";tag=a;tag=b",
    b";lr=",
    b";maddr=224.0.0.1",
    b";ttl=99999",
    b";expires=-5",
    b";expires=99999999999999999999",
    b";q=9.99",
    b";=",
    b';x="',
    b";x=\x00",
    b";transport=udp;transport=tcp",
)
_ODD_STARTS = (
    b"",
    b" ",
    b"INVITE",
    b"INVITE  SIP/2.0",
    b"SIP/2.0",
    b"SIP/2.0 99 x",
    b"SIP/2.0 700 x",
    b"SIP/2.0 2000 x",
    b"SIP/2.0 200",
    b"SIP/3.0 200 OK",
    b"sip/2.0 200 ok",
    b"INVITE sip:a@b SIP/7.0",
    b"GET / HTTP/1.1",
    b"\x16\x03\x01\x02\x00\x01",
    b"INVITE sip:a@b SIP/2.0 SIP/2.0",
    b"invite sip:a@b SIP/2.0",
    b"@@@ sip:a@b SIP/2.0",
    b"ACK sip:[::::]:70000 SIP/2.0",
    b"X" * 9000 + b" sip:a@b SIP/2.0",
    b"CANCEL sip:\xff@b SIP/2.0",
    b"BYE urn:x SIP/2.0",
    b"OPTIONS * SIP/2.0",
)
_BREAKS = (b"\r", b"\n", b"\r\n\r\n", b"\n\r", b"\r\r\n", b"\0", b"\r\n ", b"\r\n\t", b"\x0b", b"\x85", b"\xe2\x80\xa8")

_MESSAGES: tuple[bytes, ...] = (
    *MESSAGES.values(),
    *MESSAGES.values(),
    *MESSAGES.values(),
    *(case.data for case in CASES),
)
_PACKETS: tuple[bytes, ...] = (*RTP_PACKETS.values(), *RTCP_PACKETS.values())


def mutations(seed: int, count: int) -> Iterator[bytes]:
    """``count`` mutated SIP messages of at most 65,535 bytes each."""
    return _mutated(seed, count, _MESSAGES, _SIP, _BIG)


def packet_mutations(seed: int, count: int) -> Iterator[bytes]:
    """``count`` mutated RTP and RTCP packets of at most 65,535 bytes each."""
    return _mutated(seed, count, _PACKETS, _RTP, (oversize,))


def mutate(random: Random, data: bytes) -> bytes:
    """``data``, a SIP message, changed in one way or in several; at most 65,535 bytes."""
    for _ in range(1 if random.random() < 0.8 else 3):
        data = random.choice(_SIP)(random, data)
    return data[:MAX_DATAGRAM]


def stream_mutations(seed: int, count: int) -> Iterator[list[bytes]]:
    """``count`` TCP streams: messages, some of them mutated, with keep-alives, cut and joined anywhere."""
    random = Random(seed)
    broken = mutations(seed ^ 0x5EED, count)
    for mutated in broken:
        parts = [random.choice(_MESSAGES) for _ in range(random.randrange(4))]
        parts.insert(random.randrange(len(parts) + 1), mutated)
        yield cut(random, random.choice((b"", b"\r\n", b"\r\n\r\n", b"\0")).join(parts))


def cut(random: Random, data: bytes) -> list[bytes]:
    """``data`` in at most 12 chunks, cut where chance wills; none is empty."""
    places = sorted({random.randrange(1, len(data)) for _ in range(random.randrange(12))}) if len(data) > 1 else []
    edges = [0, *places, len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


def datagram(data: bytes) -> bytes:
    """As much of ``data`` as fits into an IPv4 UDP datagram."""
    return data[:65_507]


def _mutated(
    seed: int, count: int, corpus: Sequence[bytes], small: Sequence[Mutation], big: Sequence[Mutation]
) -> Iterator[bytes]:
    random = Random(seed)
    # plain arithmetic on one random number is several times faster than randrange, and as repeatable
    chance = random.random
    many, kinds, sizes = len(corpus), len(small), len(big)
    for _ in range(count):
        data = corpus[int(chance() * many)]
        rounds = 1 if chance() < 0.8 else 2 + int(chance() * 4)
        for _ in range(rounds):
            data = small[int(chance() * kinds)](random, data)
        if chance() < 0.004:
            data = big[int(chance() * sizes)](random, data)
        yield data if len(data) <= MAX_DATAGRAM else data[:MAX_DATAGRAM]


# -- mutations of any bytes ------------------------------------------------------------------------------------------


def _at(random: Random, data: bytes) -> int:
    return int(random.random() * (len(data) + 1))


def truncate(random: Random, data: bytes) -> bytes:
    return data[: _at(random, data)]


def behead(random: Random, data: bytes) -> bytes:
    return data[_at(random, data) :]


def flip_bits(random: Random, data: bytes) -> bytes:
    if not data:
        return b"\xff"
    changed = bytearray(data)
    for _ in range(1 + int(random.random() * 4)):
        changed[int(random.random() * len(changed))] ^= 1 << int(random.random() * 8)
    return bytes(changed)


def swap_bytes(random: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(2 if changed else 0):
        one, other = int(random.random() * len(changed)), int(random.random() * len(changed))
        changed[one], changed[other] = changed[other], changed[one]
    return bytes(changed)


def insert_bytes(random: Random, data: bytes) -> bytes:
    at = _at(random, data)
    return data[:at] + random.randbytes(1 + int(random.random() * 12)) + data[at:]


def delete_bytes(random: Random, data: bytes) -> bytes:
    at = _at(random, data)
    return data[:at] + data[at + 1 + int(random.random() * 20) :]


def repeat_bytes(random: Random, data: bytes) -> bytes:
    at = _at(random, data)
    return data[: at + 30] + data[at:]


def insert_nul(random: Random, data: bytes) -> bytes:
    at = _at(random, data)
    return data[:at] + b"\0" * (1 + int(random.random() * 3)) + data[at:]


def oversize(random: Random, data: bytes) -> bytes:
    """Up to the largest size that there is, and beyond (it is cut then)."""
    at = _at(random, data)
    filler = random.choice((b"A", b"\0", b"\r\n", b"a=b;", b",", b"<", b'"', b"(", b"%00", b"\xff"))
    size = random.choice((4096, 16_384, 65_000, 65_535, 70_000))
    return data[:at] + filler * ((size - len(data)) // len(filler)) + data[at:]


# -- mutations of SIP ------------------------------------------------------------------------------------------------


def _lines(data: bytes) -> tuple[list[bytes], bytes]:
    """Start and header lines, and the body with the empty line before it."""
    head, separator, body = data.partition(b"\r\n\r\n")
    return head.split(b"\r\n"), separator + body


def _joined(lines: list[bytes], body: bytes) -> bytes:
    return b"\r\n".join(lines) + body


def _pick(random: Random, lines: list[bytes]) -> int:
    return int(random.random() * len(lines))


def _choice(random: Random, values: Sequence[bytes]) -> bytes:
    return values[int(random.random() * len(values))]


def odd_start(random: Random, data: bytes) -> bytes:
    _, newline, rest = data.partition(b"\r\n")
    return _choice(random, _ODD_STARTS) + newline + rest


def duplicate_header(random: Random, data: bytes) -> bytes:
    lines, body = _lines(data)
    lines.insert(_pick(random, lines), lines[_pick(random, lines)])
    return _joined(lines, body)


def remove_header(random: Random, data: bytes) -> bytes:
    lines, body = _lines(data)
    del lines[_pick(random, lines)]
    return _joined(lines, body)


def swap_headers(random: Random, data: bytes) -> bytes:
    lines, body = _lines(data)
    one, other = _pick(random, lines), _pick(random, lines)
    lines[one], lines[other] = lines[other], lines[one]
    return _joined(lines, body)


def odd_value(random: Random, data: bytes) -> bytes:
    lines, body = _lines(data)
    at = _pick(random, lines)
    lines[at] = lines[at].partition(b":")[0] + b": " + _choice(random, _ODD_VALUES)
    return _joined(lines, body)


def odd_param(random: Random, data: bytes) -> bytes:
    lines, body = _lines(data)
    lines[_pick(random, lines)] += _choice(random, _ODD_PARAMS)
    return _joined(lines, body)


def fold(random: Random, data: bytes) -> bytes:
    """A line break with white space after it, within a header, or at a strange place."""
    lines, body = _lines(data)
    at = _pick(random, lines)
    line = lines[at]
    place = _at(random, line)
    lines[at] = line[:place] + _choice(random, (b"\r\n ", b"\r\n\t \t", b"\r\n  \r\n  ", b"\n ")) + line[place:]
    return _joined(lines, body)


def invalid_utf8(random: Random, data: bytes) -> bytes:
    at = _at(random, data)
    return (
        data[:at] + _choice(random, (b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xe9")) + data[at:]
    )


def odd_number(random: Random, data: bytes) -> bytes:
    """One of the numbers of the message (a port, a length, a CSeq, an address) made absurd."""
    match = _NUMBER.search(data, int(random.random() * len(data))) if data else None
    if match is None:
        return data + b"\r\nContent-Length: 1"
    return data[: match.start()] + _choice(random, _ODD_NUMBERS) + data[match.end() :]


def odd_port(random: Random, data: bytes) -> bytes:
    """A port on a host that has none or has one, in Via, Contact, Route or Request-URI."""
    port = _choice(random, (b":99999", b":65536", b":0", b":-1", b":", b":5060:5060", b":sip", b":" + b"1" * 300))
    for word in (b"example.com", b"192.0.2.10", b"203.0.113.9", b"]"):
        if (at := data.find(word, int(random.random() * len(data)))) >= 0:
            end = at + len(word)
            return data[:end] + port + data[end:]
    return data + port


def lie_about_length(random: Random, data: bytes) -> bytes:
    at = data.find(b"Content-Length:")
    if at < 0:
        return data.replace(b"\r\n", b"\r\nContent-Length: 70000\r\n", 1)
    end = data.find(b"\r\n", at)
    return data[: at + 15] + b" " + _choice(random, _ODD_NUMBERS) + data[end:] if end > 0 else data[:at]


def break_lines(random: Random, data: bytes) -> bytes:
    at = _at(random, data)
    if random.random() < 0.2:
        return data.replace(b"\r\n", _choice(random, _BREAKS))
    return data[:at] + _choice(random, _BREAKS) + data[at:]


def nest(random: Random, data: bytes) -> bytes:
    """Brackets, quotes and comments in one another, up to 1,000 deep."""
    lines, body = _lines(data)
    at = _pick(random, lines)
    depth = 1 + int(random.random() ** 4 * 1000)
    name, _, value = lines[at].partition(b":")
    before, after = ((b"<", b">"), (b'"', b'"'), (b"(", b")"), (b"[", b"]"), (b'"\\"', b'\\""'), (b"sip:", b""))[
        int(random.random() * 6)
    ]
    lines[at] = name + b":" + before * depth + value + after * depth
    return _joined(lines, body)


def splice(random: Random, data: bytes) -> bytes:
    """The beginning of one message and the end of another."""
    other = _choice(random, _MESSAGES)
    return data[: _at(random, data)] + other[_at(random, other) :]


def foreign_body(random: Random, data: bytes) -> bytes:
    """The head of one message with the body of another, its length left as it was."""
    return data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + _choice(random, _MESSAGES).partition(b"\r\n\r\n")[2]


def many_headers(random: Random, data: bytes) -> bytes:
    lines, body = _lines(data)
    line = _choice(random, (lines[-1], b"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1", b"X:", b" folded", b"a: b, c, d"))
    lines[1:1] = [line] * (30_000 // (len(line) + 2))
    return _joined(lines, body)


_SHALLOW: tuple[Mutation, ...] = (truncate, behead, insert_nul)
_ANY: tuple[Mutation, ...] = (flip_bits, swap_bytes, insert_bytes, delete_bytes, repeat_bytes)
_IN_SIP: tuple[Mutation, ...] = (
    duplicate_header,
    remove_header,
    swap_headers,
    odd_value,
    odd_value,
    odd_param,
    odd_param,
    fold,
    invalid_utf8,
    odd_number,
    odd_number,
    odd_port,
    break_lines,
    nest,
    foreign_body,
)
# what most often ends at the first check is drawn a third as often
_SIP: tuple[Mutation, ...] = (*_SHALLOW, odd_start, lie_about_length, splice, *3 * _ANY, *3 * _IN_SIP)
_BIG: tuple[Mutation, ...] = (oversize, many_headers)


# -- mutations of RTP ------------------------------------------------------------------------------------------------


def odd_first_byte(random: Random, data: bytes) -> bytes:
    """Version, padding, extension and CSRC count that the packet does not keep."""
    return bytes((int(random.random() * 256),)) + data[1:]


def odd_type(random: Random, data: bytes) -> bytes:
    return data[:1] + bytes((int(random.random() * 256),)) + data[2:]


def odd_word(random: Random, data: bytes) -> bytes:
    """Sequence number, timestamp, SSRC, extension or RTCP length at an edge."""
    at = 2 + 2 * int(random.random() * 8)
    edge = _choice(random, (b"\0\0", b"\xff\xff", b"\x7f\xff", b"\x80\0", b"\0\1"))
    return data[:at] + edge + data[at + 2 :]


def odd_padding(random: Random, data: bytes) -> bytes:
    """A padding length of 0, or over the packet's end (RFC 3550 §5.1)."""
    return bytes((0xA0,)) + data[1:-1] + _choice(random, (b"\0", b"\xff", b"\x01", b"\xa1"))


def compound(random: Random, data: bytes) -> bytes:
    return data + _choice(random, _PACKETS)


_RTP: tuple[Mutation, ...] = (*_SHALLOW, *_ANY, odd_first_byte, odd_type, odd_word, odd_word, odd_padding, compound)
