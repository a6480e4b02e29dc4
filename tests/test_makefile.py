"""Making the environment where Python is not as it should be, and removing what was made."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.servers import PATIENCE, ROOT

OLD = f"""#!/bin/sh
[ "$1" = -c ] || exit 99
exec {sys.executable} -c "import sys; sys.version_info = (3, 10, 12); $2"
"""
WITHOUT_VENV = f"""#!/bin/sh
[ "$1" = -m ] || exec {sys.executable} "$@"
mkdir -p "$3/bin" && : > "$3/bin/python"
if [ ! -e "$0.mended" ]; then exit 1; fi
echo '#!/bin/sh' > "$3/bin/pip" && chmod +x "$3/bin/pip"
"""


def make(directory: Path, interpreter: str) -> subprocess.CompletedProcess[str]:
    """Have an environment made by what stands for an interpreter."""
    python = directory / "python3"
    python.write_text(interpreter)
    python.chmod(0o755)
    venv = directory / "venv"
    return subprocess.run(
        ["make", "-C", str(ROOT), f"VENV={venv}", f"PYTHON={python}", f"{venv}/installed"],
        capture_output=True,
        timeout=PATIENCE,
        text=True,
        check=False,
    )


def test_an_old_python_is_refused_in_one_line(tmp_path: Path) -> None:
    done = make(tmp_path, OLD)
    assert done.returncode == 2
    told = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert told == [
        f"{tmp_path}/python3 is Python 3.10, and 3.11 or newer is needed: name one, as in"
        " `make run PYTHON=python3.11`"
    ]
    assert not (tmp_path / "venv").exists()


def test_an_environment_that_failed_half_way_is_made_again(tmp_path: Path) -> None:
    assert make(tmp_path, WITHOUT_VENV).returncode == 2
    again = make(tmp_path, WITHOUT_VENV)
    assert again.returncode == 2
    assert "No such file" not in again.stderr
    (tmp_path / "python3.mended").touch()
    assert make(tmp_path, WITHOUT_VENV).returncode == 0
    assert (tmp_path / "venv" / "installed").exists()


def test_clean_leaves_nothing_but_sources_and_data(tmp_path: Path) -> None:
    shutil.copy2(ROOT / "Makefile", tmp_path)
    kept = {"Makefile", "shop", "shop.db"}
    (tmp_path / "shop.db").touch()
    for made in (".venv/bin", "shop/__pycache__", "__pycache__", ".mypy_cache", ".schemathesis"):
        (tmp_path / made).mkdir(parents=True)
        (tmp_path / made / "file").touch()
    subprocess.run(["make", "-C", tmp_path, "clean"], capture_output=True, check=True)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} == kept
