"""Requests can say all that the service takes, by the same names."""

from __future__ import annotations

from dataclasses import fields
from typing import get_type_hints

import pytest

import msd_client
from ms_core import spec
from ms_core.spec.extras import Control, Lora, StartPicture
from ms_jobs.job_request import GenerateRequest


def names(kind: type) -> set[str]:
    return {item.name for item in fields(kind) if item.name != "_"}


@pytest.mark.parametrize(
    ("mine", "service"),
    [
        (msd_client.Subject, spec.Subject),
        (msd_client.Lora, Lora),
        (msd_client.Control, Control),
        (msd_client.Start, StartPicture),
    ],
)
def test_the_parts_of_a_request_have_the_fields_of_the_service(mine: type, service: type) -> None:
    # The name of a subject gives way to the subject before it is read.
    assert names(mine) - {"cast"} == names(service)


def test_the_options_are_the_other_fields() -> None:
    assert set(get_type_hints(msd_client.Options)) == names(GenerateRequest) - {"prompt", "subjects"}
