"""Repositories of a model hub: what they hold, what is in the cache already, and fetching that goes on where it ended.

The cache is ``huggingface_hub``'s own, so what other programs fetched is found and what is fetched here is found by them.
Only big files are transferred by ``ms_core.model_dir.provision.transfer``: that library restarts a file from zero after every interruption.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from huggingface_hub import (
    HfApi,
    constants,
    hf_hub_download,  # pyright: ignore[reportUnknownVariableType] - the library leaves a dict's parameters open
    hf_hub_url,
)
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)

from ms_core.errors import DownloadError
from ms_core.model_dir.provision.transfer import PASSING_STATUSES, Blob, OnBytes, fetch_blob, partial_path

MAIN = "main"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Files that a part needs together.

    Attributes:
        choices: sets of names or patterns, the best first; the first set of which all are there is taken.
        optional: whether the part does without.
    """

    choices: tuple[tuple[str, ...], ...]
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """What a model takes from one repository."""

    name: str
    repository: str
    wanted: tuple[Wanted, ...]


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a plan.

    Attributes:
        part: name of the part that needs it.
        repository, revision: as asked for; ``commit`` is what the revision means now.
        path: in the repository.
        size: in bytes.
        sha256: of a big file; ``None`` for small ones, which git holds itself.
        present: bytes that need not be fetched: all of a file in the cache, or those of a broken-off transfer.
    """

    part: str
    repository: str
    revision: str
    commit: str
    path: str
    size: int
    sha256: str | None
    present: int

    @property
    def missing(self) -> int:
        """Bytes still to fetch."""
        return self.size - self.present


class Hub:
    """A hub and its cache on this machine; both as ``HF_ENDPOINT``, ``HF_HOME`` and ``HF_TOKEN`` say."""

    def __init__(self, offline: bool = False) -> None:
        """``offline`` uses the cache alone, as does ``HF_HUB_OFFLINE``."""
        self.offline = offline or constants.is_offline_mode()
        self.endpoint: str = constants.ENDPOINT
        self.cache = Path(constants.HF_HUB_CACHE)

    def plan(self, part: Part, revision: str | None = None) -> tuple[HubFile, ...]:
        """The files of a part at a revision (a branch, a tag or a commit).

        Raises:
            DownloadError: the hub cannot be reached or refuses, or a file is missing there (offline: in the cache).
        """
        revision = revision or MAIN
        listed = self._cached_files(part, revision) if self.offline else self._listed_files(part, revision)
        by_path = {file.path: file for file in listed}
        place = (
            "in the cache; run the same command with the network once" if self.offline else f"at revision {revision}"
        )
        chosen: list[str] = []
        for wanted in part.wanted:
            found = _choose(wanted, by_path)
            if found is None:
                raise DownloadError(f"{part.repository} has no {' and '.join(wanted.choices[0])} {place}.")
            chosen += found
        return tuple(by_path[path] for path in dict.fromkeys(chosen))

    def fetch(self, file: HubFile, on_bytes: OnBytes) -> Path:
        """Bring a file into the cache, if it is not there, and return its path in the cache's snapshot.

        Args:
            file: of a plan.
            on_bytes: told how many bytes came; a negative number when a transfer starts over.

        Raises:
            DownloadError: the hub, the network or the disk fails; what came before it is kept for the next time.
        """
        with self._errors(file.repository, file.revision):
            if file.sha256 is not None and not self.offline and file.missing:
                url = hf_hub_url(file.repository, file.path, revision=file.commit, endpoint=self.endpoint)
                blob = Blob(f"{file.path} of {file.repository}", url, file.size, file.sha256)
                fetch_blob(blob, self._blob(file.repository, file.sha256), on_bytes)
            with _no_progress_bars():
                path = Path(
                    hf_hub_download(
                        file.repository,
                        file.path,
                        # What was planned, even if the name means a newer commit by now.
                        revision=file.commit,
                        cache_dir=self.cache,
                        endpoint=self.endpoint,
                        local_files_only=self.offline,
                    )
                )
            if path.stat().st_size != file.size:
                raise DownloadError(f"{path} in the cache is incomplete; delete it and run the same command again.")
            self._remember(file)
        if file.sha256 is None:
            on_bytes(file.missing)
        return path

    def _listed_files(self, part: Part, revision: str) -> Iterator[HubFile]:
        """All files that the hub lists."""
        with self._errors(part.repository, revision):
            info = HfApi(endpoint=self.endpoint).model_info(
                part.repository, revision=revision, files_metadata=True, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
            )
        commit = str(info.sha)
        for sibling in info.siblings or []:
            size, sha256 = sibling.size or 0, sibling.lfs.sha256 if sibling.lfs else None
            blob = sha256 or str(sibling.blob_id)
            present = self._present(part.repository, blob, size)
            yield HubFile(part.name, part.repository, revision, commit, sibling.rfilename, size, sha256, present)

    def _cached_files(self, part: Part, revision: str) -> Iterator[HubFile]:
        """All whole files that the cache has of a revision."""
        folder = self._folder(part.repository)
        name = folder / "refs" / revision
        commit = name.read_text(encoding="utf-8").strip() if name.is_file() else revision
        snapshot = folder / "snapshots" / commit
        for path in sorted(snapshot.rglob("*")):
            if path.is_file():
                size = path.stat().st_size
                relative = path.relative_to(snapshot).as_posix()
                yield HubFile(part.name, part.repository, revision, commit, relative, size, None, size)

    def _remember(self, file: HubFile) -> None:
        """Note what commit a name means, as the cache's layout has it, so that the name can be used without the hub."""
        name = self._folder(file.repository) / "refs" / file.revision
        if file.revision == file.commit or self.offline or (name.is_file() and name.read_text() == file.commit):
            return
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_text(file.commit, encoding="utf-8")

    def _present(self, repository: str, blob: str, size: int) -> int:
        """Bytes of a blob in the cache; a blob of another size is broken and counts for nothing."""
        whole = self._blob(repository, blob)
        if whole.is_file():
            return size if whole.stat().st_size == size else 0
        partial = partial_path(whole)
        found = partial.stat().st_size if partial.is_file() else 0
        return found if found <= size else 0

    def _folder(self, repository: str) -> Path:
        return self.cache / repo_folder_name(repo_id=repository, repo_type="model")

    def _blob(self, repository: str, blob: str) -> Path:
        return self._folder(repository) / "blobs" / blob

    @contextmanager
    def _errors(self, repository: str, revision: str) -> Generator[None]:
        """Make one sentence of whatever goes wrong with a repository."""
        try:
            yield
        except HfHubHTTPError as error:
            raise DownloadError(_refusal(error, repository, revision)) from error
        except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
            raise DownloadError(
                f"A file of {repository} is not in the cache, and the hub cannot be asked. Run the same command with "
                "the "
                "network once."
            ) from error
        except (ValueError, KeyError) as error:
            raise DownloadError(
                f"{self.endpoint} does not answer like a model hub ({error}); check HF_ENDPOINT."
            ) from error
        except httpx2.TransportError as error:
            raise DownloadError(
                f"{self.endpoint} cannot be reached ({error}). Check the connection, the proxy and HF_ENDPOINT, and "
                "run "
                "the same command again: what has been fetched is kept."
            ) from error
        except OSError as error:
            raise DownloadError(
                f"The cache {self.cache} cannot be written ({error.strerror or error}). Free some space or fix its "
                "rights, or set HF_HOME to another disk, and run the same command again: what has been fetched is kept."
            ) from error


def _choose(wanted: Wanted, listed: Collection[str]) -> list[str] | None:
    """The files of the first choice that is there; ``None`` if none is, and the part cannot do without."""
    for patterns in wanted.choices:
        found = [fnmatch.filter(listed, pattern) for pattern in patterns]
        if all(found):
            return [path for paths in found for path in paths]
    return [] if wanted.optional else None


def _refusal(error: HfHubHTTPError, repository: str, revision: str) -> str:
    """What to do about an answer of the hub."""
    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        return f"{repository} asks for consent: accept its terms on its page, then give your token in HF_TOKEN."
    if isinstance(error, RevisionNotFoundError):
        return f"{repository} has no revision {revision!r}; leave --revision out, or name a branch, a tag or a commit."
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"The hub shows no repository {repository} (status {status}). If it is private, give a token that may read "
            "it in HF_TOKEN; if HF_ENDPOINT names a mirror, the mirror may lack it."
        )
    if status in (401, 403):
        return f"The hub refuses {repository} (status {status}): the token in HF_TOKEN is wrong or may not read it."
    if status in PASSING_STATUSES:
        return (
            f"The hub answers with status {status} for {repository}. Run the same command again in a while: what has "
            "been "
            "fetched is kept."
        )
    return f"The hub answers with status {status} for {repository}; check HF_ENDPOINT and the proxy."


@contextmanager
def _no_progress_bars() -> Generator[None]:
    """Keep the library's bars off the terminal, which has ours, and leave its setting as it was."""
    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
