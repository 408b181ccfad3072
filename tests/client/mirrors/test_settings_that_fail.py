"""A setting that was right at the start is wrong for a moment: its file is being replaced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from swift_provider.errors import ConfigError
from tests.client.mirrors.conftest import Mirrors
from tests.client.trouble import SMALL, begin, content_of, soon, stored, until


@contextmanager
def no_ca_file(mirrors: Mirrors, number: int) -> Iterator[None]:
    """A member needs a new token, and its CA file is missing (as Keystone.sign_in says it)."""

    def sign_in() -> None:
        raise ConfigError("there is no CA file '/run/ca.pem' (cacert)")

    auth = mirrors.store.members[number].client.requester._authenticator
    auth._keystone.sign_in = sign_in
    auth._token = None
    yield
    del auth._keystone.sign_in
    auth._pause = None


async def test_what_it_lacks_is_still_owed(mirrors: Mirrors) -> None:
    """The member gets the file when its CA file is back."""
    with no_ca_file(mirrors, 1):
        await soon(begin(mirrors.put(content_of(SMALL))))
        account = mirrors.store._debts._accounts[mirrors.store._members[1]]
        await until(lambda: all(not one._in_work for one in account.values()))
        assert mirrors.watched[1].debts == 1
    await until(lambda: mirrors.watched[1].debts == 0)
    assert await stored(mirrors.plain[1], "object") == content_of(SMALL)


async def test_it_is_left_out(mirrors: Mirrors) -> None:
    """A member that fails so with each request is not asked for each."""
    await mirrors.put(content_of(SMALL))
    with no_ca_file(mirrors, 0):
        for _ in range(3):
            assert await mirrors.get() == content_of(SMALL)
        assert not mirrors.watched[0].works
    await until(lambda: mirrors.watched[0].works)
