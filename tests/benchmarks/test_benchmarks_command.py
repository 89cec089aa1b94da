"""`python -m benchmarks` on machines that lack something."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import generator
from benchmarks.__main__ import UNUSABLE, main


def test_without_a_c_compiler_a_sentence_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(generator, "BUILT", tmp_path)
    generator.built.cache_clear()
    try:
        assert main(["--quick", "--cases", "fan_out_paced"]) == UNUSABLE
    finally:
        generator.built.cache_clear()
    told = capsys.readouterr()
    assert "gcc" in told.err
    assert told.out == ""
