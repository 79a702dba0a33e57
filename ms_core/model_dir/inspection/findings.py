"""What a check found: how bad it is, one sentence, and what to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Level(StrEnum):
    """How bad a finding is: an error keeps something from working, a warning does not."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        level: how bad it is.
        code: stable, machine-readable name of what is wrong; that of all good findings is ``ok``.
        sentence: what is so.
        remedy: what to do; empty for good findings.
        path: file or folder below the model directory that it is about; "." is the whole.
    """

    level: Level
    code: str
    sentence: str
    remedy: str = ""
    path: str = "."

    @classmethod
    def ok(cls, sentence: str, path: str = ".") -> Finding:
        """Nothing is wrong."""
        return cls(Level.OK, "ok", sentence, path=path)

    @classmethod
    def warning(cls, code: str, sentence: str, remedy: str, path: str = ".") -> Finding:
        """Something to know."""
        return cls(Level.WARNING, code, sentence, remedy, path)

    @classmethod
    def error(cls, code: str, sentence: str, remedy: str, path: str = ".") -> Finding:
        """Something that must be mended."""
        return cls(Level.ERROR, code, sentence, remedy, path)

    def covers(self, path: str) -> bool:
        """Whether this error says enough about a file, so that its other findings are left out."""
        return self.level is Level.ERROR and (self.path in (".", path) or path.startswith(f"{self.path}/"))


@dataclass(slots=True)
class Notes:
    """Findings of one model directory while they are made.

    Attributes:
        again: the remedy of a file that is missing or broken.
    """

    again: str
    findings: list[Finding] = field(default_factory=list[Finding])

    def error(self, code: str, sentence: str, remedy: str, path: str = ".") -> None:
        """Note an error."""
        self.findings.append(Finding.error(code, sentence, remedy, path))

    def warning(self, code: str, sentence: str, remedy: str, path: str = ".") -> None:
        """Note a warning."""
        self.findings.append(Finding.warning(code, sentence, remedy, path))

    def ok(self, sentence: str, path: str = ".") -> None:
        """Note that something is well."""
        self.findings.append(Finding.ok(sentence, path))

    def has_error(self, path: str = ".") -> bool:
        """Whether an error is about a file or folder, or about anything below it."""
        return any(
            finding.level is Level.ERROR
            and (path == "." or finding.path == path or finding.path.startswith(f"{path}/"))
            for finding in self.findings
        )
