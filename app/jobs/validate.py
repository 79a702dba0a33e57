"""Looks at a request as ``POST /generate`` does, and stores and queues nothing."""

from __future__ import annotations

from typing import Annotated, Any

import redis
from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from app.dependencies import given
from app.jobs.eta import Forecast, rounded
from app.jobs.submit import require_valid
from app.requests.intake import SentRequest
from app.requests.submitted import REQUEST_BODY, ResolvedRequestDependency
from app.requests.tokenizers import Tokenizers
from app.service.problems import problem_responses
from ms_core.spec import GenerationWarning
from ms_core.spec.tokens import TextTokenizer
from ms_core.spec.warnings import truncation_warnings
from ms_jobs.job_request import GenerateRequest, filled_document
from ms_jobs.pace import Shape
from ms_jobs.registry import Registry

router = APIRouter(tags=["jobs"])


class PhraseResource(BaseModel):
    """Where the phrase of a subject stands in the prompt."""

    phrase: str
    span: tuple[int, int] | None = Field(
        description="From the first character to behind the last one, counted in Unicode code points from 0; null if the "
        "prompt does not contain it."
    )


class TextTokensResource(BaseModel):
    """How much of a text the model reads."""

    count: int = Field(description="Tokens of the text.")
    limit: int = Field(description="The most that are read.")
    cut_off: str | None = Field(description="The end that is not read; null if all is.")


class TokensResource(BaseModel):
    """How much of a request's texts the model reads."""

    prompt: TextTokensResource
    negative_prompt: TextTokensResource
    phrases: list[TextTokensResource] = Field(description="One for each subject.")
    subject_prompts: list[TextTokensResource | None] = Field(
        description="One for each subject; null for those without a prompt of their own."
    )


class ValidationResource(BaseModel):
    """What would become of a request."""

    request: dict[str, Any] = Field(
        description="The request as it would be run: with the values of preset and model where it left them out, as far as "
        "they are known, boxes as `[x_min, y_min, x_max, y_max]`, and `sha256:<hash>`, of its PNG, in place of each picture."
    )
    warnings: list[GenerationWarning] = Field(description="As far as they can be known before a worker runs the job.")
    expected_s: float | None = Field(
        description="Seconds that a worker takes for such a job, by past ones; null before the first. The wait for a worker "
        "comes on top, see `GET /queue`."
    )
    phrases: list[PhraseResource] = Field(description="One for each subject.")
    tokens: TokensResource | None = Field(description="Null before a worker has loaded the model.")


class Validator:
    """Tells what would become of requests for one model."""

    def __init__(self, client: redis.Redis, forecast: Forecast, tokenizers: Tokenizers, model: str) -> None:
        self._registry = Registry(client)
        self._forecast = forecast
        self._tokenizers = tokenizers
        self._model = model

    def validate(self, sent: SentRequest) -> ValidationResource:
        """Fill in a request, and find what is worth a warning.

        Raises:
            InvalidRequestError: values do not fit each other or the model.
            redis.exceptions.RedisError: Redis cannot be reached.
        """
        card = self._registry.card(self._model)
        resolution = require_valid(sent.request, card)
        spec, tokenizer = resolution.spec, self._tokenizers.of(card)
        cut_off = [] if tokenizer is None else truncation_warnings(spec, tokenizer)
        return ValidationResource(
            request=filled_document(spec, sent.pictures),
            warnings=[*resolution.warnings, *cut_off],
            expected_s=rounded(self._forecast.duration_s(str(Shape.of(spec) or ""))),
            phrases=[
                PhraseResource(phrase=subject.phrase, span=span)
                for subject, span in zip(spec.subjects, spec.phrase_spans, strict=True)
            ],
            tokens=None if tokenizer is None else _tokens(spec, tokenizer),
        )


ValidatorDependency = Annotated[Validator, given("validator")]


@router.post(
    "/validate",
    operation_id="validate_request",
    summary="Check a request without making pictures",
    responses=problem_responses(400, 413, 415, 422, 503),
    openapi_extra={"requestBody": REQUEST_BODY},
)
def validate_request(
    sent: ResolvedRequestDependency, validator: ValidatorDependency, response: Response
) -> ValidationResource:
    """Takes the body of `POST /generate` and gives the same errors; nothing is stored, and no worker is needed.

    What only a worker finds is missing among the warnings, such as subjects that others hide.
    """
    response.headers["Cache-Control"] = "no-store"
    return validator.validate(sent)


def _tokens(spec: GenerateRequest, tokenizer: TextTokenizer) -> TokensResource:
    def tokens_of(text: str) -> TextTokensResource:
        cut = tokenizer.cut_text(text)
        return TextTokensResource(count=tokenizer.count(text), limit=tokenizer.limit, cut_off=cut or None)

    return TokensResource(
        prompt=tokens_of(spec.prompt),
        negative_prompt=tokens_of(spec.negative_prompt or ""),
        phrases=[tokens_of(subject.phrase) for subject in spec.subjects],
        subject_prompts=[None if subject.prompt is None else tokens_of(subject.prompt) for subject in spec.subjects],
    )
