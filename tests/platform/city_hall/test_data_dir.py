"""The data dir: refused when it cannot be used, ordered by its locks, with a token that is made once."""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from city_hall.data_dir import DOOR, RESIDENTS, TOKEN, VERSION, VERSION_FILE, DataDir
from city_hall.refusals import StartRefused
from tests.support.waiting import PATIENCE

IMPATIENT = 0.05


@contextmanager
def held_exclusively(path: Path) -> Iterator[None]:
    """Somebody else has the lock, as another process would: through a file opened separately."""
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(file)


class TestOpening:
    def test_makes_a_private_directory_that_knows_its_version(self, tmp_path: Path) -> None:
        DataDir(tmp_path / "a" / "city")

        assert stat.S_IMODE((tmp_path / "a" / "city").stat().st_mode) == 0o700
        assert (tmp_path / "a" / "city" / VERSION_FILE).read_text() == f"{VERSION}\n"

    def test_takes_one_that_was_there_as_it_is(self, tmp_path: Path) -> None:
        DataDir(tmp_path)
        DataDir(tmp_path)

        assert (tmp_path / VERSION_FILE).read_text() == f"{VERSION}\n"

    @pytest.mark.parametrize("written", [str(VERSION + 1), "12.4", ""])
    def test_refuses_one_that_another_version_wrote_and_leaves_it_alone(self, tmp_path: Path, written: str) -> None:
        (tmp_path / VERSION_FILE).write_text(written)

        with pytest.raises(StartRefused, match="another version"):
            DataDir(tmp_path)

        assert (tmp_path / VERSION_FILE).read_text() == written

    def test_refuses_a_path_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "city").write_text("")

        with pytest.raises(StartRefused, match="--data-dir"):
            DataDir(tmp_path / "city")

    def test_refuses_a_directory_that_cannot_be_written(self) -> None:
        with pytest.raises(StartRefused, match="/proc/self/city"):
            DataDir(Path("/proc/self/city"))


class TestLocks:
    async def test_the_door_lets_one_through_at_a_time(self, tmp_path: Path) -> None:
        first, second = DataDir(tmp_path), DataDir(tmp_path)
        async with first.door():
            with pytest.raises(StartRefused, match="locked"):
                async with second.door(IMPATIENT):
                    pytest.fail("two behind the door")

        async with second.door(IMPATIENT):
            pass

    async def test_whoever_waits_at_the_door_comes_in_when_it_is_free(self, tmp_path: Path) -> None:
        first, second = DataDir(tmp_path), DataDir(tmp_path)
        entered = asyncio.Event()

        async def enter() -> None:
            async with second.door(5):
                entered.set()

        async with first.door():
            waiting = asyncio.ensure_future(enter())
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(entered.wait(), IMPATIENT)
        await asyncio.wait_for(waiting, PATIENCE)

        assert entered.is_set()

    async def test_only_the_last_to_leave_is_told_so(self, tmp_path: Path) -> None:
        residents = [DataDir(tmp_path) for _ in range(3)]
        for resident in residents:
            async with resident.door():
                await resident.move_in()

        assert [resident.move_out() for resident in residents] == [False, False, True]

    async def test_one_that_came_and_went_may_come_again(self, tmp_path: Path) -> None:
        data_dir = DataDir(tmp_path)
        for _ in range(2):
            await data_dir.move_in()
            assert data_dir.move_out()

    @pytest.mark.parametrize("name", [DOOR, RESIDENTS])
    async def test_is_locked_while_somebody_holds_either_lock_exclusively(self, tmp_path: Path, name: str) -> None:
        data_dir = DataDir(tmp_path)
        with held_exclusively(tmp_path / name), pytest.raises(StartRefused, match="locked"):
            async with data_dir.door(IMPATIENT):
                await data_dir.move_in(IMPATIENT)

        async with data_dir.door(IMPATIENT):
            await data_dir.move_in(IMPATIENT)
        assert data_dir.move_out()

    async def test_gives_up_no_files_while_it_waits(self, tmp_path: Path) -> None:
        data_dir = DataDir(tmp_path)
        before = len(list(Path("/proc/self/fd").iterdir()))
        with held_exclusively(tmp_path / DOOR):
            for _ in range(5):
                with pytest.raises(StartRefused):
                    async with data_dir.door(0):
                        pytest.fail("two behind the door")

        assert len(list(Path("/proc/self/fd").iterdir())) == before


class TestOperatorToken:
    def test_is_random_private_and_kept(self, tmp_path: Path) -> None:
        token = DataDir(tmp_path).operator_token()

        assert token.startswith("op_")
        assert len(token) > 40
        assert (tmp_path / TOKEN).read_text().strip() == token
        assert stat.S_IMODE((tmp_path / TOKEN).stat().st_mode) == 0o600
        assert DataDir(tmp_path).operator_token() == token

    def test_may_be_given_at_the_first_start(self, tmp_path: Path) -> None:
        assert DataDir(tmp_path).operator_token("op_mine") == "op_mine"
        assert DataDir(tmp_path).operator_token() == "op_mine"

    def test_is_refused_when_another_one_is_kept(self, tmp_path: Path) -> None:
        DataDir(tmp_path).operator_token("op_mine")

        with pytest.raises(StartRefused, match="SMART_CITY_OPERATOR_TOKEN"):
            DataDir(tmp_path).operator_token("op_other")

    def test_an_empty_file_keeps_none(self, tmp_path: Path) -> None:
        (tmp_path / TOKEN).touch()

        assert DataDir(tmp_path).operator_token().startswith("op_")

    def test_leaves_nothing_half_written(self, tmp_path: Path) -> None:
        DataDir(tmp_path).operator_token()

        assert {path.name for path in tmp_path.iterdir()} == {TOKEN, VERSION_FILE}
