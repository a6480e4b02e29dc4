"""The guide to the toolkit is one program: it is run, checked, and prints what the guide says."""

from __future__ import annotations

import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.servers import PATIENCE, ROOT, environment

GUIDE = (ROOT / "docs/toolkit.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """What the guide shows, in a file of its own outside the project."""
    path = tmp_path / "notes.py"
    path.write_text('"""Notes."""\n\n' + "\n\n".join(blocks("python")))
    return path


def run(*command: str | Path, directory: Path) -> str:
    """What a command prints that must succeed."""
    done = subprocess.run(
        command,
        cwd=directory,
        env=environment(PYTHONPATH=str(ROOT), MYPYPATH=str(ROOT)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_program_prints_what_the_guide_says(program: Path) -> None:
    [shown] = re.findall(r"it prints\n\n```\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    assert run(sys.executable, "-W", "error", program, directory=program.parent) == shown


def test_it_uses_nothing_of_the_shop(program: Path) -> None:
    script = (
        "import sys, notes; notes.main();"
        "print(*{'.'.join(name.split('.')[:2]) for name in sys.modules if name[:5] == 'shop.'})"
    )
    printed = run(sys.executable, "-c", script, directory=program.parent).splitlines()
    assert set(printed[-1].split()) == {"shop.eventsourcing", "shop.backends"}


def test_the_program_passes_the_linters(program: Path) -> None:
    rules = ("--config", str(ROOT / "pyproject.toml"), "--no-cache", "--ignore", "T201")
    run(sys.executable, "-m", "ruff", "check", *rules, program, directory=ROOT)
    run(sys.executable, "-m", "ruff", "format", "--check", *rules[:3], program, directory=ROOT)
    run(
        *(sys.executable, "-m", "mypy", "--config-file", str(ROOT / "setup.cfg"), program),
        directory=ROOT,
    )


def test_an_installation_has_every_file() -> None:
    settings = ConfigParser()
    settings.read(ROOT / "setup.cfg")
    patterns = settings["options.package_data"]["*"].split(", ")
    packages = [init.parent for init in (ROOT / "shop").rglob("__init__.py")]
    installed = {path for package in packages for path in package.glob("*.py")}
    installed |= {path for package in packages for p in patterns for path in package.glob(p)}
    files = {
        path for path in (ROOT / "shop").rglob("*") if path.is_file() and path.suffix != ".pyc"
    }
    assert files == installed
