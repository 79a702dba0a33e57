"""One section of the report of ``msd doctor``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ms_core.model_dir.inspection import Finding, Level


@dataclass(frozen=True, slots=True)
class Section:
    """What was found out about one thing.

    Attributes:
        findings: at least one.
        facts: the same for programs, JSON-ready.
    """

    findings: tuple[Finding, ...]
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def has_error(self) -> bool:
        """Whether something must be fixed."""
        return any(finding.level is Level.ERROR for finding in self.findings)
