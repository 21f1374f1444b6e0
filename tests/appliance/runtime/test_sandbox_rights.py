"""The rights of processes on files."""

from pathlib import Path

import appliance
from appliance.config.schema import Config
from appliance.runtime.sandbox import READ, _rights
from appliance.stats.page import Page


def test_the_feed_may_read_the_whole_package(tmp_path: Path) -> None:
    page = Page.create(tmp_path / "feed.stats", ["state"])
    assert (str(Path(appliance.__file__).parent), READ) in _rights("feed", Config(), tmp_path, page)
