# SPDX-License-Identifier: AGPL-3.0-or-later
"""The routes that Talk and AppAPI call.

Talk gives three seconds in all, so nothing here waits for a network. Talk reads
the text of a failure from the key `error` and nowhere else.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from anyio.abc import TaskGroup
from attrs import frozen
from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from .config import Settings
from .languages import language_map, supported
from .nextcloud import NextcloudLink
from .schemas import Leave, SetLanguage, SetTargetLanguage, Transcribe
from .supervisor import CaptionsRefused, Supervisor

__all__ = ["Services", "add_error_handlers", "router"]

_log = logging.getLogger(__name__)

NO_TRANSLATION = 550
"""Talk's code for "translation is not supported"; any other becomes a 500."""


@frozen(kw_only=True)
class Services:
    """What the routes use; made by the application's lifespan."""

    settings: Settings
    supervisor: Supervisor
    nextcloud: NextcloudLink
    tasks: TaskGroup


router = APIRouter()


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def _error(status: int, text: str) -> JSONResponse:
    return JSONResponse({"error": text}, status_code=status)


# AppAPI.


@router.get("/heartbeat")
async def heartbeat() -> dict[str, str]:
    """Say that the process lives."""
    return {"status": "ok"}


@router.post("/init")
async def init(request: Request) -> dict[str, str]:
    """Answer at once and report 100 % behind it.

    Nextcloud calls `/heartbeat` and `/enabled` before it answers that report.
    """
    services = _services(request)
    services.tasks.start_soon(services.nextcloud.report_ready)
    return {}


@router.put("/enabled")
async def set_enabled(
    request: Request, enabled: Annotated[int, Query(ge=0, le=1)]
) -> dict[str, str]:
    """Switch the app on or off; AppAPI reads nothing but `error`."""
    services = _services(request)
    _log.info("Nextcloud has switched the app %s", "on" if enabled else "off")
    try:
        services.nextcloud.tell_enabled(bool(enabled))
        if enabled:
            services.supervisor.accept()
        else:
            await services.supervisor.close()
    except Exception as exc:
        # A plain 500 would count as success.
        _log.exception("switching the app on or off failed")
        return {"error": f"{type(exc).__name__}: see the app's log"}
    return {"error": ""}


@router.get("/enabled")
async def get_enabled(request: Request) -> dict[str, bool]:
    """Tell whether the app is switched on; unknown counts as on."""
    return {"enabled": _services(request).nextcloud.enabled is not False}


# Talk.


@router.get("/capabilities")
async def capabilities(request: Request) -> dict[str, Any]:
    """Return the app's capabilities, from memory."""
    return {
        "live_transcription": {
            "version": _services(request).settings.app_version,
            "features": ["live_transcription"],
            "live_transcription": {"supported_languages": language_map()},
        }
    }


@router.get("/api/v1/languages")
async def languages() -> dict[str, Any]:
    """Return the languages, keyed by id."""
    return language_map()


@router.post("/api/v1/call/transcribe")
async def transcribe(request: Request, body: Transcribe) -> JSONResponse:
    """Switch captions on or off for one participant."""
    services = _services(request)
    services.nextcloud.prove_enabled()
    if not body.enable:
        services.supervisor.disable(body.room_token, body.nc_session_id)
        return JSONResponse({"message": "captions switched off"})
    if services.nextcloud.switched_off:
        return _error(503, "the app is disabled in Nextcloud")
    try:
        services.supervisor.enable(body.room_token, body.nc_session_id, body.lang_id)
    except CaptionsRefused as exc:
        return _error(503, str(exc))
    return JSONResponse({"message": "captions switched on"})


@router.post("/api/v1/call/set-language")
async def set_language(request: Request, body: SetLanguage) -> JSONResponse:
    """Change a room's language.

    On 404 Talk stores the language anyway, on 400 it does not: so a language that
    is unknown is refused before the room is looked at.
    """
    if not supported(body.lang_id):
        return _error(400, "this language is not supported")
    if not _services(request).supervisor.set_language(body.room_token, body.lang_id):
        return _error(404, "no captions in this room")
    return JSONResponse({"message": "language changed"})


@router.post("/api/v1/call/leave")
async def leave(request: Request, body: Leave) -> dict[str, str]:
    """Leave a room; unknown ones are fine."""
    _services(request).supervisor.leave(body.room_token)
    return {"message": "left"}


@router.post("/api/v1/translation/set-target-language")
async def set_target_language(body: SetTargetLanguage) -> JSONResponse:
    """Refuse translations; going back to the original is always possible."""
    if body.lang_id is None:
        return JSONResponse({"message": "original language"})
    return _error(NO_TRANSLATION, "translation is not supported")


@router.get("/api/v1/translation/languages")
async def translation_languages() -> JSONResponse:
    """Refuse translations."""
    return _error(NO_TRANSLATION, "translation is not supported")


@router.get("/api/v1/status")
async def status(request: Request) -> dict[str, Any]:
    """Tell in plain words how everything is doing; no secrets, no speech."""
    services = _services(request)
    nextcloud = services.nextcloud
    return {
        "version": services.settings.app_version,
        "enabled": nextcloud.enabled,
        "nextcloud": {
            "last_error": nextcloud.last_error,
            "log_lines_dropped": nextcloud.logs.dropped,
        },
        **services.supervisor.status(),
    }


# Errors.


async def _http_error(request: Request, exc: Exception) -> JSONResponse:
    if not isinstance(exc, HTTPException):
        raise AssertionError("registered for HTTPException only")
    return JSONResponse(
        {"error": str(exc.detail)}, status_code=exc.status_code, headers=exc.headers
    )


async def _invalid(request: Request, exc: Exception) -> JSONResponse:
    if not isinstance(exc, RequestValidationError):
        raise AssertionError("registered for RequestValidationError only")
    # Names and reasons only: the values may be session ids.
    found = [
        f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
        for problem in exc.errors()
    ]
    return _error(400, "; ".join(found))


async def _unexpected(request: Request, exc: Exception) -> JSONResponse:
    return _error(500, "internal error, see the app's log")


Handler = Callable[[Request, Exception], Awaitable[JSONResponse]]


def add_error_handlers(app: FastAPI) -> None:
    """Answer every failure with JSON `{"error": ...}`."""
    handlers: dict[type[Exception], Handler] = {
        HTTPException: _http_error,
        RequestValidationError: _invalid,
        Exception: _unexpected,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
