"""Addresses of pictures: https alone, and hosts that the operator allows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

import idna

from ms_core.errors import PictureError

HTTPS_PORT = 443
MAX_CHARACTERS = 4096
MALFORMED = (
    'Write the address as "https://host.example/picture.png": the host by its name, without user name or password; or send the '
    "picture itself as a data URI."
)
_SCHEME = re.compile(r"https?://", re.IGNORECASE)
_PARTS = re.compile(r"https://(?P<authority>[^/?#]*)(?P<target>[^#]*)(?:#.*)?", re.IGNORECASE)
# Programs disagree about where an address with one of these ends.
_UNSAFE = re.compile(r"[\x00-\x20\x7f-\xa0\\\ud800-\udfff]")
# What else a host must not hold, such as "@", "%" and brackets, IDNA refuses.
_AUTHORITY = re.compile(r"(?P<host>[^:]+)(?::(?P<port>[0-9]{1,5}))?")
# No number in any notation ends so.
_TOP_LEVEL = re.compile(r"[a-z]{2,}|xn--[a-z0-9-]+")
_NOT_ESCAPED = "/?:@!$&'()*+,;=~%[]"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a picture lies.

    Attributes:
        host: in ASCII and lower case.
        target: path and query, with percent escapes.
    """

    host: str
    port: int
    target: str

    @property
    def place(self) -> str:
        """The host, with its port unless that is the one of https."""
        return self.host if self.port == HTTPS_PORT else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"https://{self.place}{self.target}"


def is_address(text: str) -> bool:
    """Whether a text is meant as an address on the web."""
    return _SCHEME.match(text) is not None


def parse_address(text: str) -> Address:
    """Read an address; of all that programs read in different ways, nothing is taken.

    Raises:
        PictureError: it is not https, or its host is no plain name.
    """
    parts = _PARTS.fullmatch(text)
    authority = _AUTHORITY.fullmatch(parts["authority"]) if parts else None
    if parts is None or authority is None or len(text) > MAX_CHARACTERS or _UNSAFE.search(text):
        raise PictureError(MALFORMED)
    target = quote(parts["target"], safe=_NOT_ESCAPED)
    port = int(authority["port"] or HTTPS_PORT)
    return Address(_host(authority["host"]), port, target if target.startswith("/") else f"/{target}")


def _host(name: str) -> str:
    try:
        # Letters that only look like others, or stand for them, are no letters of a name: they are not mapped.
        host = idna.encode(name.lower() if name.isascii() else name, strict=True).decode()
    except idna.IDNAError as error:
        raise PictureError(MALFORMED) from error
    _, dot, top_level = host.rpartition(".")
    if not dot or _TOP_LEVEL.fullmatch(top_level) is None:
        raise PictureError(MALFORMED)
    return host


class AllowedHosts:
    """The hosts from which pictures may be fetched."""

    def __init__(self, entries: Iterable[str]) -> None:
        """Take ``host``, ``.suffix`` for all hosts below it, or ``*`` for all; for another port than 443 with ``:port``."""
        self._entries = frozenset(entries)

    def __bool__(self) -> bool:
        return bool(self._entries)

    def check(self, text: str) -> Address:
        """Read an address of one of the hosts.

        Raises:
            PictureError: it is none.
        """
        address = parse_address(text)
        labels = address.host.split(".")
        above = ["." + ".".join(labels[start:]) for start in range(1, len(labels))]
        port = address.place.removeprefix(address.host)
        if self._entries.isdisjoint(f"{name}{port}" for name in (address.host, *above, "*")):
            raise PictureError(
                f"Pictures are not fetched from {address.place} here: the operator may allow it with MSD_FETCH_HOSTS. Send the "
                "picture itself as a data URI."
            )
        return address
