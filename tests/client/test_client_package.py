"""The client as a package: what is packed is all that is needed, and its types hold for who writes TypeScript."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.node import NODE

pytestmark = pytest.mark.needs("typescript")

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "platform/city_hall/console/client"
TSC = ROOT / "node_modules/typescript/bin/tsc"
OPTIONS = {
    "compilerOptions": {
        "strict": True, "noEmit": True, "target": "es2022", "module": "nodenext", "moduleResolution": "nodenext",
        "lib": ["es2023", "dom"], "types": [], "skipLibCheck": False,
    },
    "include": ["consumer.ts"],
}  # fmt: skip


def run(*command: str, cwd: Path) -> str:
    """What the command says; it must succeed."""
    ran = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Somebody's project with the packed client in it."""
    folder = tmp_path_factory.mktemp("client")
    run(str(ROOT / "scripts/client"), str(folder / "built"), cwd=ROOT)
    packed = run(str(ROOT / "scripts/npm"), "pack", "--silent", "--pack-destination", "..", cwd=folder / "built")
    with tarfile.open(folder / packed.split()[-1]) as tar:
        tar.extractall(folder, filter="data")
    project = folder / "project"
    (project / "node_modules").mkdir(parents=True)
    (folder / "package").rename(project / "node_modules/smart-city-client")
    (project / "package.json").write_text('{"type": "module"}')
    yield project


def test_the_package_holds_the_modules_their_types_and_nothing_else(project: Path) -> None:
    modules = {path.name for path in CLIENT.glob("*.js")}
    types = {name.removesuffix(".js") + ".d.ts" for name in modules}
    found = {path.name for path in (project / "node_modules/smart-city-client").rglob("*")}
    assert found == modules | types | {"package.json", "README.md"}


def test_it_can_be_imported_in_node(project: Path) -> None:
    (project / "main.js").write_text(
        "import * as client from 'smart-city-client'; console.log(JSON.stringify(Object.keys(client)));"
    )
    assert {"City", "CityError", "OperationError"} <= set(json.loads(run(NODE, "main.js", cwd=project)))


def test_a_program_in_typescript_is_checked_against_its_types(project: Path) -> None:
    consumer = Path(__file__).parent / "package/consumer.ts"
    (project / "consumer.ts").write_text(consumer.read_text())
    (project / "tsconfig.json").write_text(json.dumps(OPTIONS))
    run(NODE, str(TSC), "--project", ".", cwd=project)
