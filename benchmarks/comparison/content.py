"""The scenarios about stored content: damaged rows, equal turns, and deleted bytes."""

from __future__ import annotations

from benchmarks.comparison.outcomes import Result, reply_to, users
from benchmarks.comparison.probe import Probe
from benchmarks.comparison.scenarios import NO_FILE
from benchmarks.comparison.trials import SESSION, answer, opened, run_trials, stored


def corrupt(probe_class: type[Probe]) -> Result:
    """Cut a stored row in half; then load, and run a turn, with a new probe."""

    async def trial() -> str:
        async with opened(probe_class) as probe:
            for text in ("second", "third"):
                await probe.turn(SESSION, text, answer)
            await probe.close()
            probe.damage(SESSION)
            await probe.open()

            try:
                messages = await probe.stored(SESSION)
                load = f"load returns {len(messages)} of 6 messages"
            except Exception as error:  # noqa: BLE001 - as each library reports it
                load = f"load raises {type(error).__name__}"

            called: list[int] = []

            async def model(texts: list[str]) -> str:
                called.append(len(texts))
                return reply_to(texts[-1])

            try:
                await probe.turn(SESSION, "fourth", model)
                turn = f"turn runs with {called[-1] - 1} of 6 messages"
            except Exception as error:  # noqa: BLE001 - as each library reports it
                turn = f"turn raises {type(error).__name__}"
                turn += " after the model call" if called else " before the model call"
            return f"{load}; {turn}"

    if probe_class.stores == "memory":
        return Result("none", NO_FILE)
    counts = run_trials(trial, 3)
    outcome = next(iter(counts))
    if "load returns" in outcome:
        return Result("no", "skipped silently", counts)
    error = outcome.split(";")[0].removeprefix("load raises ")
    when = "" if "before the model call" in outcome else ", after the model call"
    return Result("partly", f"{error}; the session stops{when}", counts)


def identical(probe_class: type[Probe]) -> Result:
    """Say the same thing twice, to a model that gives the same reply."""

    async def trial() -> str:
        async with opened(probe_class) as probe:
            for _ in range(2):
                await probe.turn(SESSION, "next", answer)
            return f"{users(await stored(probe), 'next')} of 2"

    counts = run_trials(trial, 5)
    if set(counts) == {"2 of 2"}:
        return Result("yes", "both kept", counts)
    return Result("no", "the second turn is dropped", counts)


def erased_bytes(probe_class: type[Probe]) -> Result:
    """Delete a session, and look for its text in all files of the store, which stays open."""
    secrets = [f"zebra-{number:04}-quartz" for number in range(50)]

    async def trial() -> str:
        async with opened(probe_class) as probe:
            for secret in secrets:
                await probe.turn("secret", secret, answer)
            await probe.erase("secret")
            content = b"".join(
                file.read_bytes() for file in probe.folder.iterdir() if file.is_file()
            )
            left = sum(secret.encode() in content for secret in secrets)
            return f"{left} of {len(secrets)} messages readable"

    if probe_class.stores == "memory":
        return Result("none", NO_FILE)
    counts = run_trials(trial, 3)
    cell = next(iter(counts))
    return Result("yes" if cell.startswith("0 ") else "no", cell, counts)
