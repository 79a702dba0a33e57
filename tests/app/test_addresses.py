"""Addresses of pictures: what is taken, and what programs could read in two ways is not."""

from __future__ import annotations

import pytest

from app.config import Settings
from app.requests.addresses import MAX_CHARACTERS, AllowedHosts, parse_address
from ms_core.errors import PictureError


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("https://pictures.example/cat.png", "https://pictures.example/cat.png"),
        ("HTTPS://Pictures.Example", "https://pictures.example/"),
        ("https://pictures.example:443/a", "https://pictures.example/a"),
        ("https://pictures.example:8443/a?b=c/d#e", "https://pictures.example:8443/a?b=c/d"),
        ("https://pictures.example?a=1", "https://pictures.example/?a=1"),
        ("https://bücher.example/ü%20.png", "https://xn--bcher-kva.example/%C3%BC%20.png"),
        ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/"),
    ],
)
def test_an_address_is_read(text: str, read: str) -> None:
    assert str(parse_address(text)) == read


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0177.0.0.1", "0x7f.0.0.1", "0x7f000001", "8.8.8.8", "1.2.3.4.0x5"]
    + ["[::1]", "[::ffff:127.0.0.1]", "[2606:4700::1111]", "[fe80::1%25eth0]", "::1"]
    + ["127.0.0.1%2f.pictures.example", "%31%32%37.0.0.1", "pictures%2eexample", "%6cocalhost"]
    + ["localhost", "redis", "", ".", "pictures..example", ".pictures.example", "pictures.example.", "-a.example"]
    + ["user@pictures.example", "user:word@pictures.example", "pictures.example@127.0.0.1", "@pictures.example"]
    + ["pictures.example:", "pictures.example:x", "pictures.example:-1", "pictures.example:80:80"]
    + [
        "a_b.example",
        "pictures.example\\.evil.example",
        "pictures.example\t",
        "pictures .example",
        "pict\nures.example",
    ]
    + [
        "１２７.0.0.1",
        "127。0。0。1",
        "pictures。example",
        "ⓟictures.example",
        "ｐictures.example",
        "pict\xadures.example",
    ]
    + ["pictures\u200d.example", "\ud800.example", "pictures\x00.example", "xn--a.example", "pictures.exa1"]
    + ["①②⑦.⓪.⓪.①", "ℓocalhost.example", "a" * 64 + ".example"],
)
def test_a_host_that_is_no_plain_name_is_refused(host: str) -> None:
    with pytest.raises(PictureError, match="the host by its name"):
        parse_address(f"https://{host}/cat.png")


@pytest.mark.parametrize(
    "text",
    ["http://pictures.example/", "https:/pictures.example/", "https:pictures.example", "//pictures.example/"]
    + ["https://", "https:///cat.png", "ftp://pictures.example/", "file:///etc/passwd", " https://pictures.example/"]
    + ["https://pictures.example/a b", "https://pictures.example/a\r\nHost: inside.example", "https://a.example/\x00"]
    + ["https://pictures.example/" + "a" * MAX_CHARACTERS],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(PictureError):
        parse_address(text)


@pytest.mark.parametrize(
    ("entries", "host"),
    [
        ("pictures.example", "pictures.example"),
        ("a.example, Pictures.Example:443", "pictures.example"),
        (".pictures.example", "deep.pictures.example"),
        (".pictures.example", "a.deep.pictures.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("pictures.example:8443", "pictures.example:8443"),
        (".pictures.example:4430", "deep.pictures.example:4430"),
        ("*", "pictures.example"),
        ("*:8443", "pictures.example:8443"),
    ],
)
def test_a_host_on_the_list_is_allowed(entries: str, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSD_FETCH_HOSTS", entries)
    assert AllowedHosts(Settings().fetch_hosts).check(f"https://{host}/").place == host


@pytest.mark.parametrize(
    ("entries", "host"),
    [
        ("pictures.example", "deep.pictures.example"),
        ("pictures.example", "pictures.example.evil.example"),
        ("pictures.example", "evilpictures.example"),
        (".pictures.example", "pictures.example"),
        (".pictures.example", "evilpictures.example"),
        ("pictures.example", "pіctures.example"),  # noqa: RUF001 - one letter is Cyrillic
        ("pictures.example", "pictures.example:8443"),
        ("pictures.example:8443", "pictures.example"),
        ("*", "pictures.example:22"),
    ],
)
def test_no_other_host_is_allowed(entries: str, host: str) -> None:
    with pytest.raises(PictureError, match="MSD_FETCH_HOSTS"):
        AllowedHosts(Settings(fetch_hosts=entries).fetch_hosts).check(f"https://{host}/")


@pytest.mark.parametrize(
    "entry", ["https://a.example", "a.example/", "localhost", "*.a.example", ".*", "[::1]", "a..example", "a_b.example"]
)
def test_an_entry_that_can_never_match_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="is no host to fetch from"):
        Settings(fetch_hosts=(entry,))


def test_nothing_is_fetched_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MSD_FETCH_HOSTS", raising=False)
    assert Settings().fetch_hosts == ()
