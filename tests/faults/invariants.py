"""What has to hold whatever fails: pure functions over a `Record`, which say in sentences where it does not.

They know the promises and nothing of how they are kept; a fault may allow what its store itself can lose.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from city_client import Position
from tests.faults.following import Way, ways
from tests.faults.record import Logged, Record, Told


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What a fault may cost.

    ``loses``: the store itself may have lost its tail; ``trims``: a log may have been trimmed below a reader.
    """

    loses: bool = False
    trims: bool = False


Invariant = Callable[[Record, Allowed], Iterator[str]]


def nothing_is_lost(record: Record, allowed: Allowed) -> Iterator[str]:
    """What was acknowledged reached every reader; where the store lost it, whoever had seen it was told."""
    by_channel = defaultdict(list)
    for way in ways(record.heard):
        by_channel[way.channel].append(way)
    entries = {entry.message_id for log in record.logs.values() for entry in log}
    channels = {sent.key: sent.channel for sent in record.sent}
    for told in record.safe:
        channel = channels[told.key]
        if told.status != "published" or told.position is None:
            continue
        is_there = told.message_id in entries or (allowed.trims and _is_trimmed(record.logs[channel], told))
        if not is_there and not allowed.loses:
            yield f"{told.key} was acknowledged at {told.position} of {channel} and is not in the log"
        for way in by_channel[channel]:
            yield from _reached(way, told, is_there=is_there)


def _is_trimmed(log: list[Logged], told: Told) -> bool:
    return told.position is not None and bool(log) and told.position.offset < log[0].position.offset


def _reached(way: Way, told: Told, *, is_there: bool) -> Iterator[str]:
    assert told.position is not None
    seen = way.got.get(told.message_id)
    if is_there:
        begins = way.start.offset if way.start else 0
        if seen is None and told.position.offset > begins and not way.covers(told.position.offset):
            yield f"{way.reader} never got {told.key} at {told.position} of {way.channel}"
    elif seen is not None and not way.is_broken_after(seen[0]):
        yield f"{way.reader} got {told.key}, the store lost it, and nobody said so"


def nothing_comes_twice(record: Record, allowed: Allowed) -> Iterator[str]:
    """A message stands once in its log and has one id; a connection gets it once."""
    ids = defaultdict(set)
    for told in record.safe:
        ids[told.key].add(told.message_id)
    for channel, log in record.logs.items():
        for key, times in Counter(entry.key for entry in log if entry.key).items():
            if times > 1:
                yield f"{key} stands {times} times in the log of {channel}"
        for entry in log:
            if ids.get(entry.key, {entry.message_id}) != {entry.message_id} and not allowed.loses:
                yield f"{entry.key} was acknowledged as {ids[entry.key]} and is logged as {entry.message_id}"
    for way in ways(record.heard):
        yield from way.repeated_on_a_link
        for key, times in Counter(got.key for _, got in way.got.values() if got.key).items():
            if times > 1 and not way.skips:
                yield f"{way.reader} got {key} of {way.channel} under {times} ids"


def order_is_the_logs(record: Record, allowed: Allowed) -> Iterator[str]:
    """Whoever names a place in a log names the log's own, and what one link sent is logged in the order sent.

    Of what had to be repeated only the sender knows in which order it was."""
    places = {entry.message_id: entry.position for log in record.logs.values() for entry in log}
    for channel, log in record.logs.items():
        for before, after in pairwise(log):
            if after.position.offset != before.position.offset + 1:
                yield f"the log of {channel} goes from {before.position} to {after.position}"
    for told in record.safe:
        if told.position is not None and places.get(told.message_id, told.position) != told.position:
            yield f"{told.key} was acknowledged at {told.position} and stands at {places[told.message_id]}"
    for way in ways(record.heard):
        for message_id, (index, got) in way.got.items():
            is_void = allowed.loses and way.is_broken_after(index)
            if places.get(message_id, got.position) != got.position and not is_void:
                yield f"{way.reader} got {got.key} at {got.position}, it stands at {places[message_id]}"
    yield from _as_sent(record, places)


def _as_sent(record: Record, places: Mapping[str, Position]) -> Iterator[str]:
    told = {
        each.key: each
        for each in record.safe
        if each.attempt == 1 and not each.is_duplicate and each.message_id in places
    }
    last: dict[tuple[str, str, str], tuple[int, str]] = {}
    for sent in record.sent:
        position = told[sent.key].position if sent.key in told else None
        if position is None:
            continue
        line = (sent.by, sent.link, sent.channel)
        offset, key = last.get(line, (-1, ""))
        if position.offset <= offset:
            yield f"{sent.by} sent {sent.key} after {key}, and it is logged before it"
        last[line] = (position.offset, sent.key)


def offsets_have_no_holes(record: Record, allowed: Allowed) -> Iterator[str]:
    """Each publication that a subscription gets is one higher than its position."""
    for way in ways(record.heard):
        yield from way.holes


def recovered_is_true(record: Record, allowed: Allowed) -> Iterator[str]:
    """``recovered: true`` is never a lie, and continuity breaks only where something is gone."""
    entries = {entry.message_id for log in record.logs.values() for entry in log}
    for way in ways(record.heard):
        yield from way.lies
        for index, joined in way.recoveries:
            gone = [
                got.key
                for message_id, (at, got) in way.got.items()
                if way.channel in record.logs
                and at < index
                and message_id not in entries
                and not any(at < skip.index < index for skip in way.skips)
                and not (allowed.trims and got.position.offset <= joined.position.offset)
            ]
            if gone and not way.is_broken_after(index):
                yield f"{way.reader} was recovered at {joined.position} of {way.channel}, and {gone[0]} is gone"
        for skip in way.skips:
            if not (allowed.loses or allowed.trims):
                yield f"{way.reader} was told of a break ({skip.reason}) in {way.channel} after {skip.after}"


def every_question_is_answered_once(record: Record, allowed: Allowed) -> Iterator[str]:
    """Of a question that was queued its asker hears one end, an answer or an error, and never two.

    A store that lost its tail may have lost the question, or that it was answered."""
    finals = defaultdict(set)
    for frame in record.answered:
        if frame.is_final:
            finals[frame.question].add(frame.message_id)
    forgotten = record.forgotten
    for told in record.safe:
        is_owed = told.status == "queued" and told.message_id not in forgotten
        if is_owed and not finals[told.message_id] and not allowed.loses:
            yield f"{told.key} was queued as {told.message_id} and never answered"
    for question, ids in finals.items():
        if len(ids) > 1 and not allowed.loses:
            yield f"{question} was answered {len(ids)} times"


def every_stream_ends_once(record: Record, allowed: Allowed) -> Iterator[str]:
    """Every start of an answer gets one end or error."""
    ends = defaultdict(set)
    for frame in record.answered:
        if frame.stream in {"end", "error"}:
            ends[frame.message_id].add(frame.stream)
    forgotten = record.forgotten
    starts = {frame.message_id: frame.question for frame in record.answered if frame.stream == "start"}
    for message_id, question in starts.items():
        found = len(ends[message_id])
        if found > 1 or (found == 0 and not allowed.loses and question not in forgotten):
            yield f"the stream {message_id} has {found} ends"


def registry_converges(record: Record, allowed: Allowed) -> Iterator[str]:
    """What operators see are those who live."""
    after = record.aftermath
    for user, connected in after.connected.items():
        registered = after.registered.get(user, frozenset())
        if registered != connected:
            yield f"connections:{user} has {len(registered - connected)} too many, lacks {len(connected - registered)}"
    for instance, channels in after.listening.items():
        if instance not in after.instances and channels:
            yield f"subscriptions:{instance} is left of an instance that is gone"
    told = frozenset().union(*(after.listening.get(each, frozenset()) for each in after.instances))
    if told != after.listened:
        yield f"subscriptions: too many {sorted(told - after.listened)}, missing {sorted(after.listened - told)}"


def nothing_is_stuck(record: Record, allowed: Allowed) -> Iterator[str]:
    """Afterwards instances are healthy, inboxes empty, nobody waits, and no defect was met."""
    after = record.aftermath
    for instance, status in after.health.items():
        if status != "healthy":
            yield f"{instance} is {status}"
    for channel, left in after.inboxes.items():
        for what, count in left.items():
            if count:
                yield f"the inbox of {channel} has {count} {what}"
    yield from after.waiting
    yield from after.defects


INVARIANTS: dict[str, Invariant] = {
    "nothing lost": nothing_is_lost,
    "nothing twice": nothing_comes_twice,
    "in order": order_is_the_logs,
    "no holes": offsets_have_no_holes,
    "recovered is true": recovered_is_true,
    "answered once": every_question_is_answered_once,
    "streams end": every_stream_ends_once,
    "registry converges": registry_converges,
    "nothing stuck": nothing_is_stuck,
}


def violations(record: Record, allowed: Allowed) -> dict[str, list[str]]:
    """By invariant, in a stable order, where it does not hold."""
    return {name: list(invariant(record, allowed)) for name, invariant in INVARIANTS.items()}
