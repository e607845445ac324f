"""A runnable with memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, Final, Unpack, final

from langchain_core.messages import BaseMessage
from langchain_core.runnables import (
    ConfigurableFieldSpec,
    Runnable,
    RunnableConfig,
    ensure_config,
)
from langchain_core.runnables.base import RunnableLike, coerce_to_runnable
from langchain_core.runnables.utils import get_unique_config_specs
from langchain_core.utils.pydantic import create_model_v2

from tower_memory import MemoryLayer
from tower_memory._arguments import check_function, check_text
from tower_memory._memory.layer import TurnOptions
from tower_memory._service import describe
from tower_memory._store import SessionStore, check_store
from tower_memory.integrations._langchain.blocking import (
    BlockingCall,
    stream_blocking,
    threaded_store,
)
from tower_memory.integrations._langchain.dialect import (
    Invocation,
    LangChainMessages,
    MessageKeys,
)

if TYPE_CHECKING:
    from pydantic import BaseModel


_ANY_NUMBER: Final = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
"""Kinds of parameters that are no keys: ``*args`` and ``**kwargs``."""


def _session_id(session_id: str) -> str:
    """Return the value under ``"session_id"``; the default."""
    return session_id


@final
class RunnableWithMemory(Runnable[Any, Any]):
    """A runnable that gets the history of a session, and whose replies are saved to it.

    It has a `tower_memory.MemoryLayer` inside, and keeps its promises. The guide is the docstring
    of `tower_memory.integrations.langchain`.

    Like the result of ``bind``, it has no run of its own in traces: the config goes to the inner
    runnable, with callbacks, tags, metadata and run name.

    Args:
        runnable: The runnable to wrap, such as a chat model, a chain, an agent or a function. It
            gets the history and the new messages.
        store: The store of the sessions, or a function of values in ``config["configurable"]``
            that returns it, such as one that returns the `tower_memory.ScopedStore` of a tenant.
            The methods that block need a `tower_memory.bridges.ThreadedStore`, also inside a
            `tower_memory.ScopedStore`.
        session_id: Function of values in ``config["configurable"]`` that returns the session id.
            The names of its parameters are the keys of the values; a parameter with a default is
            optional. The default takes the value under ``"session_id"``.
        input_messages_key: Key of the new messages in an input that is a mapping. None finds
            ``"messages"``, ``"input"`` or the only key.
        output_messages_key: Key of the messages in an output that is a mapping. None finds
            ``"messages"``, ``"output"`` or the only key.
        history_messages_key: Key under which the inner runnable gets the history; its input is a
            mapping then. None puts the history in front of the new messages.
        options: Parameters of `tower_memory.MemoryLayer`: *overlap*, *turn_id*, *window*,
            *keep_interrupted*, *grace*, *metadata*, *replaces* and *journal*. The functions among
            them get an `Invocation`.

    Raises:
        TypeError: A parameter is of the wrong type. When called: the input or the output has no
            messages; a method that blocks has no `ThreadedStore`.
        ValueError: A parameter is not accepted. When called: the config lacks a value, or a key of
            the messages is missing or unclear.
        SessionError: When called: as `tower_memory.MemoryLayer` raises it. If the inner runnable
            has answered, the error carries its output in ``response``.
    """

    def __init__(
        self,
        runnable: RunnableLike[Any, Any],
        store: SessionStore[Any] | Callable[..., SessionStore[Any]],
        *,
        session_id: Callable[..., str] = _session_id,
        input_messages_key: str | None = None,
        output_messages_key: str | None = None,
        history_messages_key: str | None = None,
        **options: Unpack[TurnOptions],
    ) -> None:
        keys = MessageKeys(input_messages_key, output_messages_key, history_messages_key)
        for name, key in keys._asdict().items():
            if key is not None:
                check_text(f"{name}_messages_key", key)
        check_function("session_id", session_id, "values in config['configurable']")

        self.bound: Runnable[Any, Any] = coerce_to_runnable(runnable)
        self._keys = keys
        self._store = store
        self._session_id = session_id
        self._options = options
        self._fields = _parameters(session_id)
        self._layer: MemoryLayer | None = None

        if isinstance(store, SessionStore):
            self._layer = self._layer_over(store)
        elif callable(store):
            check_function("store", store, "values in config['configurable']")
            self._fields = {**self._fields, **_parameters(store)}
        else:
            check_store(store)

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """Call the inner runnable with memory, in this thread, and return its output.

        Use `ainvoke` in an event loop.
        """
        request, layer = self._open(input, config)
        store = threaded_store(layer.store, "invoke", "ainvoke(...)")
        with BlockingCall(store, layer, request) as call:
            inner = call.request
            return call.end(call.run(self.bound.invoke, inner.input, inner.config, **kwargs))

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        """Call the inner runnable with memory, and return its output."""

        async def ask(inner: Invocation) -> Any:
            return await self.bound.ainvoke(inner.input, inner.config, **kwargs)

        request, layer = self._open(input, config)
        return await layer(ask)(request)

    def stream(
        self,
        input: Any,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[Any]:
        """Yield the chunks of the inner runnable, in this thread; the turn is saved at the end.

        Use `astream` in an event loop.
        """

        def ask(inner: Invocation) -> Iterator[Any]:
            return self.bound.stream(inner.input, inner.config, **kwargs)

        request, layer = self._open(input, config)
        store = threaded_store(layer.store, "stream", "astream(...)")
        yield from stream_blocking(store, layer, request, ask)

    async def astream(
        self,
        input: Any,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        """Yield the chunks of the inner runnable; the turn is saved at the end."""

        async def ask(inner: Invocation) -> AsyncIterator[Any]:
            return self.bound.astream(inner.input, inner.config, **kwargs)

        request, layer = self._open(input, config)
        async with await layer(ask)(request) as stream:
            async for chunk in stream:
                yield chunk

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """The values that a config may have: those of the inner runnable and of the session."""
        return get_unique_config_specs(
            [*self.bound.config_specs, *map(_spec, self._fields.values())]
        )

    @property
    def OutputType(self) -> Any:  # noqa: N802 - LangChain's name
        """The type of the inner runnable's output."""
        return self.bound.OutputType

    def get_input_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:  # noqa: ARG002
        """Return a model of the input: messages, under their key if there is one."""
        messages = (str | BaseMessage | Sequence[BaseMessage], ...)
        key = self._keys.input
        options: dict[str, Any] = (
            {"field_definitions": {key: messages}} if key else {"root": messages}
        )
        return create_model_v2(f"{self.get_name()}Input", module_name=__name__, **options)

    def get_output_schema(self, config: RunnableConfig | None = None) -> Any:
        """Return the model of the inner runnable's output."""
        return self.bound.get_output_schema(config)

    def _open(self, given: Any, config: RunnableConfig | None) -> tuple[Invocation, MemoryLayer]:
        """Return the request of a call, and the layer of its store."""
        request = Invocation(given, ensure_config(config))
        missing = [
            name
            for name, parameter in self._fields.items()
            if parameter.default is Parameter.empty and name not in request.values
        ]
        if missing:
            example = {"configurable": dict.fromkeys(missing, "...")}
            msg = f"config['configurable'] must have {', '.join(missing)}; pass config={example}"
            raise ValueError(msg)

        if self._layer is not None:
            return request, self._layer
        store: Any = self._store
        return request, self._layer_over(_call(store, request.values))

    def _layer_over(self, store: SessionStore[Any]) -> MemoryLayer:
        return MemoryLayer.over(
            store,
            session_id=lambda call: _call(self._session_id, call.values),
            dialect=LangChainMessages(self._keys),
            **self._options,
        )

    def __repr__(self) -> str:
        store = describe(self._store) if self._layer is None else repr(self._store)
        return f"RunnableWithMemory({self.bound!r}, {store})"


def _parameters(function: Callable[..., Any]) -> dict[str, Parameter]:
    """Return the parameters of *function* by their names, which are keys of a config."""
    found = signature(function).parameters.values()
    return {each.name: each for each in found if each.kind not in _ANY_NUMBER}


def _call(function: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    """Call *function* with those of *values* that its parameters name."""
    return function(**{name: values[name] for name in _parameters(function) if name in values})


def _spec(parameter: Parameter) -> ConfigurableFieldSpec:
    """Return the description of a value in a config."""
    is_required = parameter.default is Parameter.empty
    return ConfigurableFieldSpec(
        id=parameter.name,
        annotation=str,
        name=parameter.name.replace("_", " ").capitalize(),
        default="" if is_required else parameter.default,
        is_shared=True,
    )
