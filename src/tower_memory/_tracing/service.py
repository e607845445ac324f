"""The service of a tracing layer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, cast, final

from tower_memory._calls import call_service
from tower_memory._memory.service import Memory
from tower_memory._service import Req, Res, Service, service_chain, stack
from tower_memory._session_services import LoadSession, SaveSession, selected_limit
from tower_memory._stream_proxy import StreamProxy
from tower_memory._stream_source import is_stream
from tower_memory._tracing import names
from tower_memory._tracing.operation import Operation
from tower_memory._tracing.stream import TracedStream
from tower_memory._tracing.telemetry import Telemetry


@final
@dataclass(frozen=True, slots=True, repr=False)
class Traced(Generic[Req, Res]):
    """A service with a span for each call; made by a tracing layer.

    Attributes:
        inner: The service itself.
        layer: The tracing layer, for the text of a stack.
        telemetry: The tracer and the instruments.
        known: The first service inside that this library knows, or None.
    """

    inner: Service[Req, Res]
    layer: object
    telemetry: Telemetry
    known: object

    async def __call__(self, request: Req, /) -> Res:
        if not self.telemetry.is_active():
            return await call_service(self.inner, request)

        operation = self._start(request)
        response = await operation.run(partial(call_service, self.inner, request))
        if not is_stream(response):
            return response
        proxy: Any = StreamProxy(TracedStream(response, operation))
        return cast("Res", proxy)

    def _start(self, request: Req) -> Operation:
        """Start the operation; only the request of a load or a save becomes attributes."""
        match self.known:
            case LoadSession(limit=limit):
                ids = {names.CONVERSATION_ID: request}
                return Operation(self.telemetry, "load", ids=ids, limit=selected_limit(limit))
            case SaveSession():
                return Operation(self.telemetry, "save", turn=request)
            case Memory():
                return Operation(self.telemetry, "turn")
            case _:
                return Operation(self.telemetry, "call")

    def __repr__(self) -> str:
        return stack(self.layer, self.inner)


def known_service(inner: object) -> object:
    """Return the first of *inner* and the services inside it that this library knows, or None."""
    known = (LoadSession, SaveSession, Memory)
    return next((each for each in service_chain(inner) if isinstance(each, known)), None)
