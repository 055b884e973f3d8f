"""What the documents name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "experiments").glob("*.py"))]
FOLDERS = ("rlhf_control", "envs", "experiments", "tests", "videos")
PATH = re.compile(rf"(?<![\w/.-])((?:{'|'.join(FOLDERS)})/[\w./-]*\w)")


def named(text: str) -> set[str]:
    """Paths that a text names, from the top of the project."""
    return {path for path in PATH.findall(text) if "NAME" not in path}


def test_paths_are_found_in_text() -> None:
    text = "see [x](rlhf_control/rl/ppo.py), `tests/test_cli.py` and runs/envs/x; experiments/NAME.py"
    assert named(text) == {"rlhf_control/rl/ppo.py", "tests/test_cli.py"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text()
    text = text if document.suffix == ".md" else text.split('"""')[1]  # of a script, what it says of itself
    for path in named(text):
        assert (ROOT / path).exists(), f"{document.name} names {path}"


def test_every_module_that_contributing_names_exists() -> None:
    for path in re.findall(r"`([a-z_]+/[a-z_/]+\.(?:py|c))`", (ROOT / "CONTRIBUTING.md").read_text()):
        assert any((folder / path).exists() for folder in (ROOT, ROOT / "rlhf_control")), path
