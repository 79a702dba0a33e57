"""``msd keys``: the key alone on stdout, so that it can be piped; sentences on stderr."""

from __future__ import annotations

import secrets

import pytest

from tests.support.service_processes import run_msd


def test_a_key_from_its_making_to_its_end(redis_url: str) -> None:
    name = f"key-{secrets.token_hex(4)}"

    def keys(*arguments: str) -> str:
        finished = run_msd("keys", *arguments, MSD_REDIS_URL=redis_url)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    text = keys("create", name, "--owner", "ann", "--scope", "read", "--expires", "30d")
    assert text.startswith("msd_")
    assert text.count("\n") == 1
    listed = next(line for line in keys("list").splitlines() if name in line)
    assert all(part in listed for part in ("ann", "read", text[:10], "works until"))
    assert text[:11] not in listed
    assert keys("revoke", name) == f"Key {name} of ann is revoked.\n"
    assert "revoked" in next(line for line in keys("list").splitlines() if name in line)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("create", "x", "--owner", "Ann Smith"), "An owner's name is"),
        (("create", "x", "--owner", "logs"), "that folder of the data directory is taken"),
        (("create", "x", "--scope", "root"), "There is no scope 'root'; there are generate, read, admin."),
        (("create", "x", "--expires", "soon"), "--expires soon: give a number of minutes, hours or days"),
        (("revoke", "no-such-key"), "There is no key named 'no-such-key'"),
    ],
)
def test_what_cannot_be_is_one_sentence(redis_url: str, arguments: tuple[str, ...], sentence: str) -> None:
    finished = run_msd("keys", *arguments, MSD_REDIS_URL=redis_url)
    assert (finished.returncode, finished.stdout, finished.stderr.count("\n")) == (1, "", 1)
    assert sentence in finished.stderr
