"""Takes secrets out of what a server has said, before a message shows it.

Servers and gateways repeat the request that they refuse, and encode it on the way: as
JSON, a Python ``repr``, a URL or HTML, or one of these in another. So a secret is looked
for in the text as it is and as it is after each round of decoding. White space and what
cannot be printed do not count, because some drop or join them.

Hide secrets first and clean the text afterwards: once its white space is joined, a text no
longer contains a password with two spaces.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator

#: What stands in a secret's place.
STARS = "***"

#: How many encodings, one in another, are decoded.
_ROUNDS = 4

#: An answer is read up to a limit, which may cut a secret. A shorter start of one at the
#: end of the text is not hidden.
_SHORTEST_START = 8

_ENCODED = re.compile(
    rb"%([0-9A-Fa-f]{2})"
    rb"|(\\u[dD][89abAB][0-9A-Fa-f]{2}\\u[dD][c-fC-F][0-9A-Fa-f]{2})"
    rb"|\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|x([0-9A-Fa-f]{2})|([nrtbf\\\"'/]))"
    rb"|(&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,6});)"
)

#: The ASCII characters that count. "+" is a space in a form, and "\" comes and goes with
#: each encoding.
_COUNT = frozenset(map(chr, range(0x21, 0x7F))) - set("+\\")

#: UTF-8 and its positions: ``(octets, start, end)`` of each octet in the text.
_Octets = tuple[bytes, list[int], list[int]]


class Secrets:
    """Some secrets; ``repr`` shows none.

    :param values: those of up to three characters are left out: to replace them would make
        any message unreadable.
    """

    def __init__(self, values: Iterable[str]) -> None:
        # Longest first: one may be the start of another.
        self._values = sorted({one for one in values if len(one) > 3}, key=len, reverse=True)
        bare = (_bare(*_octets(value, latin_1=False))[0] for value in self._values)
        self._bare = [one for one in bare if len(one) > 3]

    def hidden(self, text: str) -> str:
        """The text with stars in place of each secret, whatever its form."""
        for value in self._values:
            text = text.replace(value, STARS)
        for start, end in reversed(_joined(self._found(text))):
            text = text[:start] + STARS + text[end:]
        return text

    def _found(self, text: str) -> Iterator[tuple[int, int]]:
        """Where secrets begin and end in the text."""
        if not self._bare:
            return
        # "\xe4" and "ä" may be a character, or an octet of one.
        for latin_1 in (False, True):
            octets = _octets(text, latin_1)
            for _ in range(_ROUNDS):
                yield from self._found_bare(*_bare(*octets))
                decoded = _decoded(*octets, latin_1)
                if decoded[0] == octets[0]:
                    break
                octets = decoded
            if text.isascii() and "\\x" not in text:
                break

    def _found_bare(
        self, bare: str, starts: list[int], ends: list[int]
    ) -> Iterator[tuple[int, int]]:
        for secret in self._bare:
            at = bare.find(secret)
            while at >= 0:
                yield starts[at], ends[at + len(secret) - 1]
                at = bare.find(secret, at + len(secret))
            for length in range(min(len(secret), len(bare)), _SHORTEST_START - 1, -1):
                if bare.endswith(secret[:length]):
                    yield starts[len(bare) - length], ends[-1]
                    break


def header_secrets(values: Iterable[bytes]) -> Secrets:
    """The secrets in the values of a request's headers: tokens, and what follows ``Basic``.

    The padding at the end may be missing where they are repeated.
    """
    return Secrets(value.decode("latin-1").split(" ")[-1].rstrip("=") for value in values)


def clean(text: str) -> str:
    """Text as one line, without what cannot be printed. May hold no secret any more."""
    return "".join(character for character in " ".join(text.split()) if character.isprintable())


def _octets(text: str, latin_1: bool) -> _Octets:
    """A text in UTF-8.

    :param latin_1: a character up to U+00FF counts as one octet.
    """
    if text.isascii():
        positions = list(range(len(text) + 1))
        return text.encode("ascii"), positions[:-1], positions[1:]
    octets, starts = bytearray(), []
    for index, character in enumerate(text):
        one = _encoded(ord(character), latin_1)
        octets += one
        starts += [index] * len(one)
    return bytes(octets), starts, [start + 1 for start in starts]


def _encoded(code: int, latin_1: bool) -> bytes:
    if latin_1 and code < 0x100:
        return bytes([code])
    return chr(code).encode("utf-8", "surrogatepass") if code < 0x110000 else b""


def _decoded(octets: bytes, starts: list[int], ends: list[int], latin_1: bool) -> _Octets:
    """One round of decoding. Each new octet has the positions of all that stood for it."""
    result, new_starts, new_ends = bytearray(), [], []
    done = 0
    for found in _ENCODED.finditer(octets):
        first, last = found.span()
        one = _meaning(found, latin_1)
        result += octets[done:first] + one
        new_starts += starts[done:first] + [starts[first]] * len(one)
        new_ends += ends[done:first] + [ends[last - 1]] * len(one)
        done = last
    return bytes(result + octets[done:]), new_starts + starts[done:], new_ends + ends[done:]


def _meaning(found: re.Match[bytes], latin_1: bool) -> bytes:
    percent, pair, short, long, octet, escape, entity = found.groups()
    if percent:
        return bytes([int(percent, 16)])
    if pair:
        units = bytes.fromhex(pair.replace(b"\\u", b"").decode("ascii"))
        return units.decode("utf-16-be").encode("utf-8")
    if short or long:
        return _encoded(int(short or long, 16), latin_1=False)
    if octet:
        return _encoded(int(octet, 16), latin_1)
    if escape:
        return b" " if escape.isalpha() else bytes(escape)
    return html.unescape(entity.decode("ascii")).encode("utf-8", "surrogatepass")


def _bare(octets: bytes, starts: list[int], ends: list[int]) -> tuple[str, list[int], list[int]]:
    """The characters that count, and where each begins and ends."""
    if octets.isascii():
        text = octets.decode("ascii")
        kept = [index for index, character in enumerate(text) if character in _COUNT]
        bare = "".join([text[index] for index in kept])
        return bare, [starts[index] for index in kept], [ends[index] for index in kept]
    characters, kept_starts, kept_ends = [], [], []
    at = 0
    while at < len(octets):
        length = _length(octets[at])
        try:
            character = octets[at : at + length].decode("utf-8")
        except UnicodeDecodeError:
            character, length = chr(octets[at]), 1
        if character in _COUNT or (character.isprintable() and not character.isascii()):
            characters.append(character)
            kept_starts.append(starts[at])
            kept_ends.append(ends[min(at + length, len(ends)) - 1])
        at += length
    return "".join(characters), kept_starts, kept_ends


def _length(octet: int) -> int:
    """How many octets a character of UTF-8 has, by the first."""
    return 1 if octet < 0xC0 else 2 if octet < 0xE0 else 3 if octet < 0xF0 else 4


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in order, those that overlap as one."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start < joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined
