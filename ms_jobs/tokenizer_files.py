"""Tokenizers on the shared volume, so that the API can count tokens without the model.

A worker publishes its own as ``<root>/tokenizers/<sha256>/tokenizer.json``, and names it in the model's card.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from ms_core.errors import StorageError
from ms_jobs.files import holds, make_folder, read_file, write_file
from ms_jobs.records import SHA256_PATTERN

FOLDER, NAME = "tokenizers", "tokenizer.json"


class TokenizerFiles:
    """The tokenizers of all models.

    Raises (every method):
        StorageError: the volume cannot be read or written.
    """

    def __init__(self, root: Path) -> None:
        """``root`` is that of the artifact store."""
        self._folder = root / FOLDER

    def save(self, document: str) -> str:
        """Store a tokenizer unless it is there; returns its SHA-256."""
        content = document.encode()
        sha256 = hashlib.sha256(content).hexdigest()
        path = self._path(sha256)
        if not holds(path, content):
            make_folder(path.parent)
            write_file(path, content)
        return sha256

    def load(self, sha256: str) -> str:
        """Load a tokenizer; also raises ``StorageError`` if it is missing or damaged."""
        try:
            content = read_file(self._path(sha256))
        except FileNotFoundError as error:
            raise StorageError("The tokenizer of this model is not stored here.") from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise StorageError(f"The stored tokenizer {sha256} is damaged; remove it, and start a worker again.")
        return content.decode()

    def _path(self, sha256: str) -> Path:
        if not re.fullmatch(SHA256_PATTERN, sha256):
            raise StorageError("A tokenizer's name is 64 hexadecimal digits.")
        return self._folder / sha256 / NAME
