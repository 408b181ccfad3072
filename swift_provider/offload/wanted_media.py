"""Which of Synapse's media a run is for: all, one media, or those of one user."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from swift_provider.errors import ConfigError
from swift_provider.offload.database import Database
from swift_provider.offload.media_names import LOCAL, REMOTE, Media, shown
from swift_provider.offload.sorted_media import SortedMedia

_MEDIA = re.compile(r"(?:mxc://)?(?:([^/]+)/)?([^/]+)")
_USER = re.compile(r"@[^:]+:.+")


@dataclass(frozen=True)
class Wanted:
    """What is asked for; everything if both are ``None``.

    :ivar media: ``mxc://SERVER/ID``, ``SERVER/ID`` or ``ID``.
    :ivar user: ``@user:server``, a user of this homeserver.
    :ivar server_name: this homeserver's name; ``None`` if unknown.
    :raises ConfigError: if one of them has no such form.
    """

    media: str | None = None
    user: str | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if self.media is not None and not _MEDIA.fullmatch(self.media):
            raise ConfigError(f"--media {self.media} is not like mxc://example.org/abcdef")
        if self.user is not None and not _USER.fullmatch(self.user):
            raise ConfigError(f"--user {self.user} is not like @user:example.org")
        for option, value in (("--media", self.media), ("--user", self.user)):
            if value is not None and not value.isprintable():
                raise ConfigError(f"{option} {shown(value)} has characters that no name has")

    @property
    def everything(self) -> bool:
        """Whether all media are wanted."""
        return self.media is None and self.user is None

    def read(self, plan: SortedMedia, database: Database) -> int:
        """Plan these media. Blocks.

        :returns: how many there are.
        :raises LooksWrongError: if all are wanted, and the database has none.
        :raises ConfigError: if the database knows none of those that are asked for.
        """
        if self.everything:
            return plan.read_all_known(database)
        count = plan.read(self._rows(database))
        if count == 0:
            raise ConfigError(f"Synapse's database knows no media {self}")
        return count

    def _rows(self, database: Database) -> Iterator[Media]:
        where, values = "url_cache IS NULL", []
        origin = media_id = None
        if self.user is not None:
            where, values = f"{where} AND user_id = %s", [self.user]
        if self.media is not None:
            match = _MEDIA.fullmatch(self.media)
            assert match is not None, "checked when it was made"
            origin, media_id = match.groups()
            where, values = f"{where} AND media_id = %s", [*values, media_id]
        if origin in (None, self.server_name):
            sql = f"SELECT media_id FROM local_media_repository WHERE {where}"
            for (found,) in database.rows(sql, values):
                yield Media("", found, found, LOCAL)
        if media_id is None or self.user is not None:
            return
        sql = (
            "SELECT media_origin, media_id, filesystem_id FROM remote_media_cache "
            "WHERE media_id = %s"
        )
        for server, found, filesystem_id in database.rows(sql, [media_id]):
            if server and filesystem_id and origin in (None, server):
                yield Media(server, found, filesystem_id, REMOTE)

    def __str__(self) -> str:
        named = [f"of {self.user}"] if self.user is not None else []
        return " ".join([*([self.media] if self.media is not None else []), *named])
