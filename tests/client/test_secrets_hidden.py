"""Taking secrets out of what a server has said."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from swift_provider.client.secrets_hidden import Secrets, clean, header_secrets

PASSWORDS = [
    "pass-word",
    "pa\\ss-word",
    "pa'ss\"word",
    "pa  ss-word",
    "päss-wörd",
    "pass\u200bword",
    "pass&wo<rd>",
    "100%-sure/+=",
    "trailing-space ",
    " \ttabs\tand\nlines\n",
    "emoji-\U0001f511-key",
    "(pass|word)*[a-z]$",
]

FORMS: dict[str, Callable[[str], str]] = {
    "as it is": lambda secret: secret,
    "repr": repr,
    "ascii": ascii,
    "repr of bytes": lambda secret: repr(secret.encode()),
    "JSON": json.dumps,
    "JSON in UTF-8": lambda secret: json.dumps(secret, ensure_ascii=False),
    "JSON in JSON": lambda secret: json.dumps(json.dumps(secret)),
    "JSON with escaped slashes": lambda secret: json.dumps(secret).replace("/", "\\/"),
    "percent": quote,
    "all percent": lambda secret: quote(secret, safe=""),
    "percent in small letters": lambda secret: "".join(
        f"%{octet:02x}" for octet in secret.encode()
    ),
    "percent twice": lambda secret: quote(quote(secret)),
    "form": quote_plus,
    "HTML": html.escape,
    "HTML twice": lambda secret: html.escape(html.escape(secret)),
    "HTML without quotes": lambda secret: html.escape(secret, quote=False),
    "numbers": lambda secret: "".join(f"&#{ord(c)};" for c in secret),
    "hexadecimal numbers": lambda secret: "".join(f"&#x{ord(c):X};" for c in secret),
    "repr in HTML": lambda secret: html.escape(repr(secret)),
    "Latin-1": lambda secret: secret.encode().decode("latin-1"),
    "joined": lambda secret: " ".join(secret.split()),
    "dropped": lambda secret: "".join(c for c in secret if c.isprintable()),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("secret", PASSWORDS)
def test_every_form_of_a_secret_is_hidden(secret: str, form: str) -> None:
    """Nothing of it is left, and the text around it is."""
    echo = FORMS[form](secret)
    shown = Secrets([secret]).hidden(f"the given <{echo}> is too odd")
    left = shown.removeprefix("the given <").removesuffix("> is too odd")
    # What an encoding puts around a secret, and white space, may stay.
    assert re.fullmatch(
        r"""(?:[b"'\\\s+]|&(?:amp;)?\#?\w+;|\\[ntx]|%(25)?[0-9a-f]{2})*\*\*\*"""
        r"""(?:["'\\\s+=n]|&(?:amp;)?\#?\w+;|%(25)?[0-9A-Fa-f]{2})*""",
        left,
    ), left


def test_other_text_stays() -> None:
    """Text without a secret is not changed."""
    text = "Invalid input for field 'password': 100 % of <b>passwords</b> \\ are bad"
    assert Secrets(["a-secret", "pass-word\\", "100+ways"]).hidden(text) == text
    assert Secrets([]).hidden(text) == text


def test_a_secret_that_contains_another() -> None:
    """The longer one is hidden as a whole."""
    assert Secrets(["secret", "secret-and-more"]).hidden("secret-and-more, secret") == "***, ***"


def test_short_values_are_no_secrets() -> None:
    """A value of three characters is in any text."""
    assert Secrets(["", "the"]).hidden("the end") == "the end"


def test_a_secret_that_is_cut_at_the_end() -> None:
    """The answer was read up to a limit."""
    secrets = Secrets(["0123456789abcdef"])
    assert secrets.hidden("token 0123456789a") == "token ***"
    assert secrets.hidden("token 0123") == "token 0123"


def test_header_secrets() -> None:
    """A token without its padding, and credentials without their scheme."""
    secrets = header_secrets([b"gAAAAABmToken==", b"Basic dTpzM2NyZXQ="])
    shown = secrets.hidden("gAAAAABmToken gAAAAABmToken%3D%3D gAAAAABmToken== dTpzM2NyZXQ")
    assert shown == "*** ***%3D%3D ***== ***"


def test_no_secret_is_in_the_repr() -> None:
    """Secrets may be an attribute of something that is logged."""
    assert "s3cret" not in repr(Secrets(["s3cret"]))


def test_clean() -> None:
    """White space is joined, control characters are dropped."""
    assert clean(" a\n\tb\x1b[2J\x9b c\u202e ") == "a b[2J c"
