"""Wheels in their canonical form: the same bytes from the same contents, with a RECORD that is true."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

from eventually import PATIENCE_S
from wheel_folder import make_wheel

ROOT = Path(__file__).parents[2]
WHEN = 1_700_000_000


def bundle(*words: str | Path) -> None:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(WHEN)}
    subprocess.run(
        [sys.executable, ROOT / "ops/dist/bundle.py", *words], check=True, env=environment, timeout=PATIENCE_S
    )


def test_the_order_and_the_times_of_the_files_do_not_show(tmp_path: Path) -> None:
    files = {"dpkt/b.py": "b = 1", "dpkt/a.py": "a = 1"}
    first = make_wheel(tmp_path / "one", "dpkt", "1.0", "py3-none-any", files)
    second = make_wheel(tmp_path / "two", "dpkt", "1.0", "py3-none-any", dict(reversed(files.items())))
    with zipfile.ZipFile(second, "a") as archive:
        archive.getinfo("dpkt/a.py").date_time = time.gmtime(0)[:6]
    bundle(first, second)
    assert first.read_bytes() == second.read_bytes()


def test_record_is_true_of_what_was_added(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "dpkt", "1.0", "py3-none-any", {"dpkt.py": ""})
    (tmp_path / "added").write_text("more")
    bundle("--add", f"{{dist-info}}/licenses/MORE={tmp_path / 'added'}", wheel)
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("dpkt-1.0.dist-info/licenses/MORE") == b"more"
        rows = dict(line.split(",")[:2] for line in archive.read("dpkt-1.0.dist-info/RECORD").decode().splitlines())
        assert set(rows) == set(archive.namelist())
        for name, digest in rows.items():
            if not name.endswith("RECORD"):
                true = base64.urlsafe_b64encode(hashlib.sha256(archive.read(name)).digest()).rstrip(b"=").decode()
                assert digest == f"sha256={true}"
