"""The chat with short times, for the tests of crashes and shutdowns.

The question of a worker that died can be asked again after a second. A shutdown stops answers that
are still written 0.1 seconds after their readers have left.
"""

import pytest
from app import app, resumable

from helpers.internals import set_lease

__all__ = ["app"]

set_lease(pytest.MonkeyPatch(), 1.0)
resumable.exit_seconds = 0.1
