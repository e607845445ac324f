"""The reason of a failure, for a log record or for the text of another error."""

from __future__ import annotations

from tower_memory._calls import SyncServiceError
from tower_memory._errors import SessionError


def reason_of(error: BaseException) -> str:
    """Return the text of an error of this library or the system, or the name of another error.

    The text of another error may show content, as pydantic's errors do. The error is chained.
    """
    has_no_content = isinstance(error, (SessionError, OSError)) or _is_raised_here(error)
    return (has_no_content and str(error)) or type(error).__name__


def _is_raised_here(error: BaseException) -> bool:
    """Return True if code of this library raised *error* because of a wrong call."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next

    module = "" if traceback is None else traceback.tb_frame.f_globals.get("__name__", "")
    is_mistake = type(error) in (TypeError, ValueError, RuntimeError, SyncServiceError)
    return is_mistake and module.startswith("tower_memory.")
