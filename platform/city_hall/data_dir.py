"""The data dir: which version wrote it, who uses it now, and the operator's token in it.

Two locks order its users. Everyone alive holds `residents`, shared; who starts or stops holds `door`,
exclusively, so that the last one to leave knows it. What the city stores is Valkey's, in a directory below.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from city_hall.refusals import StartRefused

VERSION = 1
"""Of the layout below the data dir. A newer one is not touched."""
LOCKED_SECONDS = 10.0
DOOR, RESIDENTS, TOKEN, VERSION_FILE = "door.lock", "residents.lock", "operator-token", "version"
_LOOK_EVERY = 0.02


class DataDir:
    """A directory that this platform may use, made when it was not there."""

    def __init__(self, path: Path) -> None:
        """Tries the directory before anything is started on it.

        Raises:
            StartRefused: it cannot be written, or a newer version wrote it.
        """
        self.path = path.absolute()
        self._residence = -1
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
            self._check_version()
        except OSError as error:
            raise StartRefused(
                f"The data dir {path} cannot be used ({error.strerror}): make it a writable directory, "
                "or name another with --data-dir or SMART_CITY_DATA_DIR."
            ) from error

    @asynccontextmanager
    async def door(self, patience: float = LOCKED_SECONDS) -> AsyncIterator[None]:
        """Held exclusively while one starts or stops; waits for whoever is doing that now.

        Raises:
            StartRefused: the data dir was locked for longer than ``patience`` seconds.
        """
        file = await self._locked(DOOR, fcntl.LOCK_EX, patience)
        try:
            yield
        finally:
            os.close(file)

    async def move_in(self, patience: float = LOCKED_SECONDS) -> None:
        """Becomes one of those who use the data dir; called behind the `door`."""
        self._residence = await self._locked(RESIDENTS, fcntl.LOCK_SH, patience)

    def move_out(self) -> bool:
        """Leaves, and says whether nobody else is left; called behind the `door`."""
        try:
            fcntl.flock(self._residence, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            return True
        finally:
            os.close(self._residence)
            self._residence = -1

    def operator_token(self, given: str = "") -> str:
        """The operator's token: written at the first start, ``given`` or a random one, and kept from then on.

        Raises:
            StartRefused: another one than ``given`` is kept.
        """
        path = self.path / TOKEN
        kept = path.read_text().strip() if path.exists() else ""
        if kept and given and not secrets.compare_digest(kept, given):
            raise StartRefused(
                f"SMART_CITY_OPERATOR_TOKEN differs from the token kept in {path}: "
                "unset the variable to use that one, or remove the file to use the variable's."
            )
        if not kept:
            kept = given or f"op_{secrets.token_urlsafe(32)}"
            self._write(TOKEN, kept)
        return kept

    def _check_version(self) -> None:
        path = self.path / VERSION_FILE
        if not path.exists():
            return self._write(VERSION_FILE, str(VERSION))
        written = path.read_text(errors="replace").strip()
        if not written.isdecimal() or int(written) > VERSION:
            raise StartRefused(
                f"The data dir {self.path} was written by another version of Smart City (its layout is "
                f"{written[:20]!r}, this one knows {VERSION}): start the newer version, or name another "
                "directory with --data-dir."
            )
        return None

    def _write(self, name: str, text: str) -> None:
        """Writes a private file so that it is there whole or not at all."""
        new = self.path / f"{name}.new-{os.getpid()}"
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path / name)

    async def _locked(self, name: str, how: int, patience: float) -> int:
        file = os.open(self.path / name, os.O_RDWR | os.O_CREAT, 0o600)
        clock = asyncio.get_running_loop().time
        deadline = clock() + patience
        try:
            while True:
                try:
                    fcntl.flock(file, how | fcntl.LOCK_NB)
                    return file
                except BlockingIOError:
                    if clock() > deadline:
                        raise self._is_locked(name, patience) from None
                await asyncio.sleep(_LOOK_EVERY)
        except BaseException:
            os.close(file)
            raise

    def _is_locked(self, name: str, patience: float) -> StartRefused:
        return StartRefused(
            f"The data dir {self.path} is locked: another process has been starting or stopping there for "
            f"over {patience:.0f} s. See who holds it (fuser {self.path / name}), end that, then start again."
        )
