"""Names in paths are camelCase like all others on the wire."""

import json
import re
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "contracts/openapi/memepool.json"
CAMEL_CASE = re.compile(r"[a-z]+(?:[A-Z][a-z]+)*")


def test_path_parameters_are_camel_case() -> None:
    paths = json.loads(DOCUMENT.read_text())["paths"]
    names = {name for path in paths for name in re.findall(r"\{(.+?)\}", path)}
    declared = {
        parameter["name"]
        for item in paths.values()
        for operation in item.values()
        for parameter in operation.get("parameters", [])
        if parameter["in"] == "path"
    }
    assert {"contentId", "roundId", "userId"} <= names
    assert declared == names
    assert not [name for name in names if not CAMEL_CASE.fullmatch(name)]
