"""The numbers of a trial: what the table of the faults shows beside whether everything held."""

from __future__ import annotations

from itertools import pairwise

from tests.faults.following import ways
from tests.faults.record import Broke, Foretold, Got, Joined, Lost, Record


def figures(record: Record) -> dict[str, float]:
    """What was seen, by name."""
    heard = [each for transcript in record.heard.values() for each in transcript]
    joined = [each for each in heard if isinstance(each, Joined)]
    answers = {(frame.asker, frame.message_id, frame.stream) for frame in record.answered}
    safe = record.safe
    return {
        "acknowledged": len([told for told in safe if told.status == "published"]),
        "received": len([each for each in heard if isinstance(each, Got)]),
        "questions": len([told for told in safe if told.status == "queued"]),
        "answers": len({frame.question for frame in record.answered if frame.is_final}),
        "deliveries": record.deliveries,
        "held": len({told.key for told in record.told if told.status == "held"}),
        "refused": len([told for told in record.told if not told.is_safe and told.status != "held"]),
        "provisional": len([each for each in heard if isinstance(each, Foretold)]),
        "duplicates": sum(way.repeated for way in ways(record.heard)) + len(record.answered) - len(answers),
        "links lost": len([each for each in heard if isinstance(each, Lost)]),
        "recovered": len([each for each in joined if each.recovered]),
        "breaks": len([each for each in heard if isinstance(each, Broke)])
        + len([each for each in joined if each.recovered is False]),
        "lost": _lost(record),
        "longest silence": round(_longest_silence(record), 2),
        "longest wait": round(_longest_wait(record), 2),
    }


def _lost(record: Record) -> int:
    """Acknowledged publications that the store lost: what is missing in the log, and was not trimmed."""
    channels = {sent.key: sent.channel for sent in record.sent}
    entries = {entry.message_id for log in record.logs.values() for entry in log}
    oldest = {channel: log[0].position.offset for channel, log in record.logs.items() if log}
    return sum(
        told.message_id not in entries
        for told in record.safe
        if told.position is not None and told.position.offset >= oldest.get(channels[told.key], 0)
    )


def _longest_silence(record: Record) -> float:
    """Seconds between two publications that one reader got."""
    longest = 0.0
    for transcript in record.heard.values():
        times = [each.at for each in transcript if isinstance(each, Got)]
        longest = max([longest, *(after - before for before, after in pairwise(times))])
    return longest


def _longest_wait(record: Record) -> float:
    """Seconds from a message's first sending to its last acknowledgement."""
    began = {sent.key: sent.at for sent in record.sent}
    return max((told.at - began[told.key] for told in record.safe), default=0.0)
