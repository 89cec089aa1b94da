"""The answer to one call's publications: the first word about each, in their order."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from foundations.errors import Internal, TooLarge
from smart_city.post_office.keep import Held
from smart_city.post_office.log import Appended
from smart_city.post_office.operations.batch import Batch

PLACE = Appended("m1", 7, "e1", False)


async def test_items_are_answered_in_their_order_however_they_end() -> None:
    batch = Batch(3)
    batch.tell(2, "guide", replace(PLACE, duplicate=True))
    batch.tell(1, "guide", TooLarge("too much"))
    batch.tell(0, "guide", PLACE)
    published = (await batch.published()).model_dump(exclude_none=True)
    place = {"status": "published", "channel": "guide", "message_id": "m1", "offset": 7, "epoch": "e1"}
    assert published["results"][0] == place
    assert published["results"][1]["error"]["code"] == "too_large"
    assert published["results"][2] == place | {"duplicate": True}
    assert "status" not in published


async def test_what_was_held_stays_so_in_the_answer() -> None:
    batch = Batch(2)
    batch.tell(0, "guide", Held("m1"))
    batch.tell(0, "guide", PLACE)
    batch.tell(1, "guide", PLACE)
    published = await batch.published()
    assert published.is_held
    assert [outcome["status"] for outcome in published.results] == ["held", "published"]


async def test_a_refusal_that_is_no_error_of_ours_fails_the_call() -> None:
    batch = Batch(2)
    batch.tell(0, "guide", RuntimeError("a defect"))
    batch.tell(1, "guide", Internal("later"))
    with pytest.raises(RuntimeError):
        await batch.published()
