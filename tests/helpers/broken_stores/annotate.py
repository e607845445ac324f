"""Stores that each break one rule about the metadata of sessions."""

from __future__ import annotations

from anyio.lowlevel import checkpoint
from msgspec import json

from helpers.broken_stores.registry import breaks
from helpers.plain_catalog import Catalogued


@breaks("annotate merges a mapping into the metadata, in value and in type; None removes a key.")
class StoresNone(Catalogued):
    def merge(self, present, added, overwrite):
        if not overwrite or "absent" not in added:
            return super().merge(present, added, overwrite)
        return {**present, **added}


@breaks("annotate merges a mapping into the metadata, in value and in type; None removes a key.")
class MergesNestedMappings(Catalogued):
    def merge(self, present, added, overwrite):
        merged = super().merge(present, added, overwrite)
        nested = merged.get("nested")
        if isinstance(present.get("nested"), dict) and isinstance(nested, dict):
            merged["nested"] = {**present["nested"], **nested}
        return merged


@breaks("annotate merges a mapping into the metadata, in value and in type; None removes a key.")
class RemovesNestedNone(Catalogued):
    def merge(self, present, added, overwrite):
        merged = super().merge(present, added, overwrite)
        if merged.get("nested") == {"a": None}:
            merged["nested"] = {}
        return merged


@breaks("With overwrite=False, annotate adds keys, and changes and removes none.")
class ReplacesEmptyValues(Catalogued):
    def merge(self, present, added, overwrite):
        if not overwrite:
            present = {key: value for key, value in present.items() if value != ""}
        return super().merge(present, added, overwrite)


@breaks("annotate of an absent session returns None and writes nothing, unless create is True.")
class AlwaysCreates(Catalogued):
    async def annotate(self, session_id, metadata, *, create=False, overwrite=True):
        create = create or (metadata == {"title": "Rome"} and self.was_never_written(session_id))
        return await super().annotate(session_id, metadata, create=create, overwrite=overwrite)

    def was_never_written(self, session_id):
        return self.chat(session_id).revision == 0


@breaks("annotate of an absent session returns None and writes nothing, unless create is True.")
class CreatingIsAChange(Catalogued):
    """So a first turn in progress is refused."""

    def create(self, chat):
        super().create(chat)
        if chat.revision == 0:
            chat.cleared = chat.revision = next(self.numbers)


@breaks("annotate changes neither the revision, the times, the history nor the order of sessions.")
class AnnotatingIsActivity(Catalogued):
    def note_annotation(self, chat):
        if chat.items:
            self.become_active(chat)


@breaks("annotate changes neither the revision, the times, the history nor the order of sessions.")
class AnnotatingIsAChange(Catalogued):
    def note_annotation(self, chat):
        if chat.items:
            chat.revision = next(self.numbers)


@breaks("The metadata of a session stays when its turns are added, popped, replaced or cleared.")
class ClearsMetadata(Catalogued):
    async def clear(self, session_id):
        await super().clear(session_id)
        self.chat(session_id).metadata = None


@breaks("Metadata of a session that cannot be stored unchanged is refused, and nothing changes.")
class MakesNanOfAnnotationsNull(Catalogued):
    def encode_added(self, metadata, session_id):
        try:
            return super().encode_added(metadata, session_id)
        except ValueError:
            if metadata.get("bad") == metadata.get("bad"):
                raise
            return json.encode(metadata)


@breaks("Metadata of a session that cannot be stored unchanged is refused, and nothing changes.")
class MergesTheGoodKeys(Catalogued):
    async def annotate(self, session_id, metadata, *, create=False, overwrite=True):
        try:
            return await super().annotate(session_id, metadata, create=create, overwrite=overwrite)
        except ValueError:
            if isinstance(metadata, dict) and "good" in metadata and isinstance(session_id, str):
                await super().annotate(session_id, {"good": metadata["good"]})
            raise


@breaks("Metadata that several callers merge at the same time is all kept.")
class MergesBeforeItWaits(Catalogued):
    async def before_merge(self):
        await checkpoint()


@breaks("annotate revives no removed session, and with create no turn in progress before that.")
class CreatingForgetsTheTombstone(Catalogued):
    def create(self, chat):
        super().create(chat)
        chat.annotated = True

    def check_cleared(self, chat, turn):
        is_first = getattr(chat, "annotated", False) and not chat.turns and chat.metadata
        if not is_first:
            super().check_cleared(chat, turn)


@breaks("annotate revives no removed session, and with create no turn in progress before that.")
class RemembersErasedMetadata(Catalogued):
    def metadata_of_new(self, chat):
        return chat.metadata
