"""Finds out who sent a request: by its key, by a browser's session, or by a signed address."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal, NamedTuple

from fastapi import Request
from redis import Redis

from app.auth.callers import ANYBODY, ASK_AGAIN_S, Caller
from app.auth.guesses import Guesses, Sent, address_of
from app.auth.signatures import SIGNATURE, Signatures
from app.service.addresses import inner_path, is_own_page
from app.service.coalescer import Coalescer
from app.service.errors import HTTPProblem
from app.service.problems import UNAUTHENTICATED
from ms_jobs.api_keys import ApiKey, ApiKeyStore, Scope, digest_of
from ms_jobs.sessions import SessionStore

COOKIE = "msd_session"
# A key that is revoked works for so long at most.
CACHE_S = 0.5
_MOST_CACHED = 10_000
_CHALLENGE = {"WWW-Authenticate": "Bearer"}


class Proof(NamedTuple):
    """What a request came with; ``digest`` is the SHA-256 of a key's text or a session's token."""

    kind: Literal["key", "session"]
    digest: str


class _Question(NamedTuple):
    """What is looked up; wrong keys are counted for the address, if there is one."""

    proof: Proof
    address: str | None


class Authenticator:
    """Finds the callers of requests.

    Raises (every method):
        redis.exceptions.RedisError: Redis cannot be reached.
    """

    def __init__(self, client: Redis, signatures: Signatures, is_on: bool) -> None:
        """Ask nothing of Redis yet.

        Args:
            is_on: whether keys are asked for at all.
        """
        self.is_on = is_on
        self._keys = ApiKeyStore(client)
        self._sessions = SessionStore(client)
        self._guesses = Guesses(client)
        self._signatures = signatures
        self._coalescer = Coalescer[_Question, ApiKey | None](self._look_up, "api keys")
        self._cached: dict[Proof, tuple[float, ApiKey]] = {}

    async def caller(self, request: Request) -> Caller:
        """Find the caller of a request.

        Raises:
            HTTPProblem: it shows no key that works; the words are the same for a wrong, a revoked and an expired one.
        """
        if not self.is_on:
            return ANYBODY
        if (text := _key_in(request)) is not None:
            return await self._by_key(request, text)
        if SIGNATURE in request.query_params and request.method in ("GET", "HEAD"):
            return await self._by_signature(request)
        if (token := token_in(request)) is not None:
            return await self._by_session(token)
        detail = (
            "This service asks for a key: send it in the header Authorization, as Bearer and the key, or in X-API-Key."
        )
        raise HTTPProblem(UNAUTHENTICATED, detail, _CHALLENGE)

    def forget(self, token: str) -> None:
        """Remember nothing of a session that has just ended."""
        self._cached.pop(Proof("session", digest_of(token)), None)

    def close(self) -> None:
        """Stop the look-ups."""
        self._coalescer.close()

    async def _by_key(self, request: Request, text: str) -> Caller:
        address = address_of("" if request.client is None else request.client.host)
        self._guesses.require_tries(address)
        proof = Proof("key", digest_of(text))
        key = await self._working(proof, address)
        if key is None:
            detail = "This key does not work here; ask the operator of the service for one."
            raise HTTPProblem(UNAUTHENTICATED, detail, _CHALLENGE)
        return self._caller_of(proof, key)

    async def _by_session(self, token: str) -> Caller:
        proof = Proof("session", digest_of(token))
        key = await self._working(proof)
        if key is None:
            raise HTTPProblem(
                UNAUTHENTICATED, "This session has ended; send the key to POST /session again.", _CHALLENGE
            )
        return self._caller_of(proof, key)

    async def _by_signature(self, request: Request) -> Caller:
        signed = await self._signatures.check(inner_path(request.scope), request.query_params)
        if signed is None:
            detail = (
                "This address is not signed by this service, or its time is over; ask GET /jobs/{id}?signed=true again."
            )
            raise HTTPProblem(UNAUTHENTICATED, detail, _CHALLENGE)

        async def is_valid() -> bool:
            return time.time() < signed.expires_at

        return Caller(
            signed.owner,
            frozenset({Scope.READ}),
            expires_at=signed.expires_at,
            is_valid=is_valid,
            ask_again_s=ASK_AGAIN_S,
        )

    def _caller_of(self, proof: Proof, key: ApiKey) -> Caller:
        async def is_valid() -> bool:
            return await self._working(proof) is not None

        return Caller(
            key.owner,
            key.scopes,
            key=key,
            has_sent_key=proof.kind == "key",
            expires_at=key.expires_at,
            is_valid=is_valid,
            ask_again_s=ASK_AGAIN_S,
        )

    async def _working(self, proof: Proof, address: str | None = None) -> ApiKey | None:
        """The key of a proof, if it works now; where it comes from an address, that has one try less if not."""
        found_at, key = self._cached.get(proof, (0.0, None))
        if key is None or time.monotonic() - found_at > CACHE_S:
            asked_at, key = time.monotonic(), await self._coalescer.ask(_Question(proof, address))
            self._remember(proof, asked_at, key)
        return key if key is not None and key.works_at(time.time()) else None

    def _remember(self, proof: Proof, at: float, key: ApiKey | None) -> None:
        if key is None:
            self._cached.pop(proof, None)
            return
        if len(self._cached) >= _MOST_CACHED:
            self._cached.clear()
        self._cached[proof] = at, key

    def _look_up(self, questions: list[_Question]) -> list[ApiKey | None | Exception]:
        found, now = self._find([proof for proof, _ in questions]), time.time()
        answers = [key if key is not None and key.works_at(now) else None for key in found]
        sent = [Sent(address, key is not None) for (_, address), key in zip(questions, answers, strict=True)]
        errors = self._guesses.judge(sent)
        return [error or answer for error, answer in zip(errors, answers, strict=True)]

    def _find(self, proofs: Sequence[Proof]) -> list[ApiKey | None]:
        tokens = [proof.digest for proof in proofs if proof.kind == "session"]
        key_of_token = dict(zip(tokens, self._sessions.find(tokens), strict=True))
        digests = [key_of_token.get(proof.digest) if proof.kind == "session" else proof.digest for proof in proofs]
        known = [digest for digest in digests if digest is not None]
        found = dict(zip(known, self._keys.find(known), strict=True))
        return [None if digest is None else found[digest] for digest in digests]


def token_in(request: Request) -> str | None:
    """The token of a browser's session; none if a page of another origin sends it, for cookies come along by themselves."""
    return request.cookies.get(COOKIE) or None if is_own_page(request) else None


def _key_in(request: Request) -> str | None:
    """The text of the key that a request sends, if any."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return text.strip()
    return request.headers.get("x-api-key")
