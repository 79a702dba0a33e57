"""Configures the log of every process: one JSON object per line, or readable lines on a terminal.

All code logs through the standard library: a sentence for the event, and values in ``extra``. Values bound with
``structlog.contextvars`` (``request_id``, ``job_id``, ``attempt``, ``worker``) are on every line of their thread or task.
Prompts, phrases and pictures are never logged: errors of a request are logged by their code.
"""

from __future__ import annotations

import logging.config
import logging.handlers
import sys
import traceback
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Literal, Self

import structlog
import structlog.contextvars
from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from ms_core.errors import InvalidInputError, MSDiffusionError
from worker.config import settings_error
from worker.log_files import LOG_FILE_BYTES

LogFormat = Literal["auto", "json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]

# These have their own handlers, and quote prompts that are too long; the job carries that warning.
LIBRARIES = ("diffusers", "transformers", "huggingface_hub")

# These log each request or queue entry, as our own lines do better.
QUIET_LOGGERS = ("uvicorn.access", "rq.worker", "httpx", "httpx2")


class LogSettings(BaseSettings):
    """Log settings of a process, from the environment (prefix ``MSD_``).

    Attributes:
        log_format: ``json``, ``console``, or ``auto``: ``console`` on a terminal, else ``json``.
        log_level: lowest level that is logged; ``debug`` includes every step and every poll.
    """

    model_config = SettingsConfigDict(env_prefix="MSD_", frozen=True, extra="ignore")

    log_format: LogFormat = "auto"
    log_level: LogLevel = "info"

    @classmethod
    def load(cls) -> Self:
        """Read the settings from the environment.

        Raises:
            StartupError: a setting is invalid.
        """
        try:
            return cls()
        except ValidationError as error:
            raise settings_error(error) from error


def set_up_logs(log_file: Path | None = None) -> None:
    """Configure the log of this process, by the settings of the environment.

    Raises:
        StartupError: a setting is invalid.
    """
    logging.config.dictConfig(logging_config(LogSettings.load(), log_file))
    logging.captureWarnings(True)


def adopt_libraries() -> None:
    """Redirect the model libraries' logs to ours, errors only; call it after importing them."""
    for name in LIBRARIES:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.ERROR)


def logging_config(settings: LogSettings, log_file: Path | None = None) -> dict[str, Any]:
    """Make the configuration for ``logging.config.dictConfig`` and uvicorn's ``log_config``.

    Args:
        log_file: gets everything, and standard error only warnings; ``None``: standard error gets everything.
    """
    level = settings.log_level.upper()
    handlers: dict[str, Any] = {
        "stderr": {"class": "logging.StreamHandler", "formatter": "stderr", "stream": "ext://sys.stderr"}
    }
    if log_file is not None:
        handlers["stderr"]["level"] = "WARNING"
        handlers["file"] = {
            "class": "logging.handlers.RotatingFileHandler",
            "formatter": "file",
            "filename": str(log_file),
            "maxBytes": LOG_FILE_BYTES,
            "backupCount": 1,
        }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "stderr": {"()": formatter, "as_json": _is_json(settings, sys.stderr.isatty()), "in_colour": True},
            "file": {"()": formatter, "as_json": _is_json(settings, False), "in_colour": False},
        },
        "handlers": handlers,
        "root": {"handlers": list(handlers), "level": level},
        "loggers": {
            "uvicorn": {"handlers": [], "propagate": True},
            **{name: {"handlers": [], "propagate": True, "level": "WARNING"} for name in QUIET_LOGGERS},
        },
    }


def formatter(as_json: bool, in_colour: bool) -> structlog.stdlib.ProcessorFormatter:
    """Make the formatter that turns each log record into one line; colours only on terminals."""
    in_colour = in_colour and sys.stderr.isatty()
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=as_json),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _add_traceback,
            structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=in_colour),
        ],
    )


def _is_json(settings: LogSettings, on_terminal: bool) -> bool:
    return settings.log_format == "json" or (settings.log_format == "auto" and not on_terminal)


def error_fields(error: MSDiffusionError) -> dict[str, str]:
    """Get the loggable fields of an error: only the code if it may quote a request."""
    return (
        {"code": error.code} if isinstance(error, InvalidInputError) else {"code": error.code, "detail": error.detail}
    )


def _add_traceback(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Format a record's exception as plain text, without values of variables or of invalid input."""
    info = event.pop("exc_info", None)
    error = info[1] if isinstance(info, tuple) else None
    if error is not None:
        event["exception"] = _without_input("".join(traceback.format_exception(error)).rstrip(), error)
    return event


def _without_input(text: str, error: BaseException) -> str:
    """Remove quoted input from a traceback: pydantic quotes invalid input, which may be a prompt."""
    seen: set[int] = set()
    chain: list[BaseException | None] = [error]
    while chain:
        link = chain.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        chain += [link.__cause__, link.__context__]
        if isinstance(link, ValidationError):
            fields = ", ".join(".".join(map(str, item["loc"])) for item in link.errors(include_input=False))
            text = text.replace(str(link), f"{link.error_count()} invalid values: {fields}")
        elif isinstance(link, InvalidInputError):
            text = text.replace(str(link), link.code)
    return text
