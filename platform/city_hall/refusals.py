"""Why the platform does not start: one exception with a sentence for people, and what is turned into it.

A refusal is about the machine or its configuration, and trying again changes nothing. A defect is none: it
keeps its traceback.
"""

from __future__ import annotations


class StartRefused(Exception):
    """The platform cannot start like this; the text says what is wrong and what to do."""


class StopFailed(Exception):
    """The platform has ended, but not in good order; the text says what did not."""


def refusal_of(error: BaseException) -> StartRefused | None:
    """``error`` as a refusal, if it is one of those that a person has to settle."""
    from foundations.lease import Held
    from foundations.settings import WrongSetting
    from foundations.valkey import NoServer, ServerFailed, ServerHung, UnusableDataDir, WrongStore

    if isinstance(error, StartRefused):
        return error
    if isinstance(error, Held):
        return StartRefused(f"{error}: give this one another name with SMART_CITY_INSTANCE_ID, or end that process.")
    settled_by_people = (
        NoServer, ServerFailed, ServerHung, UnusableDataDir, WrongSetting, WrongStore,
    )  # fmt: skip
    return StartRefused(str(error)) if isinstance(error, settled_by_people) else None
