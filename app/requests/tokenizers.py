"""Tokenizers that workers have published, each loaded once."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from ms_core.config import ModelCard, TokenizerFile
from ms_core.errors import StorageError
from ms_core.spec.tokens import TextTokenizer
from ms_jobs.tokenizer_files import TokenizerFiles

log = logging.getLogger(__name__)


class Tokenizers:
    """Keeps the tokenizer of the card that was looked at last."""

    def __init__(self, root: Path) -> None:
        """``root`` is that of the artifact store."""
        self._files = TokenizerFiles(root)
        self._lock = threading.Lock()
        self._last: tuple[TokenizerFile, TextTokenizer] | None = None
        self._told: TokenizerFile | None = None

    def of(self, card: ModelCard | None) -> TextTokenizer | None:
        """The tokenizer of a model; ``None`` before its first worker is ready, and if it cannot be loaded, which is logged."""
        named = None if card is None else card.tokenizer
        if named is None:
            return None
        with self._lock:
            if self._last is None or self._last[0] != named:
                loaded = self._load(named)
                if loaded is None:
                    return None
                self._last = named, loaded
            return self._last[1]

    def _load(self, named: TokenizerFile) -> TextTokenizer | None:
        try:
            return TextTokenizer(self._files.load(named.sha256), named.max_length)
        except StorageError as error:
            reason = error.detail
        except Exception as error:  # the library raises no class of its own for what it cannot read
            reason = f"It cannot be read: {error}"
        if named != self._told:
            log.warning("tokens are not counted: %s", reason)
            self._told = named
        return None
