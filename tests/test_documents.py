"""What the documents name is there."""

import re
from pathlib import Path

import pytest

from rlhf_control.config.checks import GROUPS

ROOT = Path(__file__).parent.parent
READ = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "experiments" / "README.md"]
DOCUMENTS = [*READ, *sorted((ROOT / "experiments").glob("*.py"))]
FOLDERS = ("rlhf_control", "envs", "experiments", "tests", "videos")
PATH = re.compile(rf"(?<![\w/.-])((?:{'|'.join(FOLDERS)})/[\w./-]*\w)")


def named(text: str) -> set[str]:
    """Paths that a text names, from the top of the project."""
    return {path for path in PATH.findall(text) if "NAME" not in path}


def test_paths_are_found_in_text() -> None:
    text = "see [x](rlhf_control/rl/ppo.py), `tests/test_cli.py` and runs/envs/x; experiments/NAME.py"
    assert named(text) == {"rlhf_control/rl/ppo.py", "tests/test_cli.py"}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_every_path_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text()
    text = text if document.suffix == ".md" else text.split('"""')[1]  # of a script, what it says of itself
    for path in named(text):
        assert (ROOT / path).exists(), f"{document.name} names {path}"


LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(document: Path) -> set[str]:
    """What the headings of a document can be linked to by, as GitHub makes it of them."""
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.+)$", text, re.M)}


@pytest.mark.parametrize("document", READ, ids=relative)
def test_every_link_leads_somewhere(document: Path) -> None:
    for link in LINK.findall(document.read_text()):
        if not link.startswith(("http://", "https://")):
            path, _, anchor = link.partition("#")
            target = document.parent / path if path else document
            assert target.exists(), f"{link} of {relative(document)}"
            assert not anchor or anchor in anchors(target), f"{link} of {relative(document)}"


# -- names in backticks: `rl/ppo.py`, `likelihoods.py`, `Guard.watch`, `protocol.Backend`, `rlhf_control.rl.ppo`

SOURCES = {
    path.relative_to(ROOT): path.read_text()
    for folder in ("rlhf_control", "envs", "tests", "experiments")
    for ending in ("py", "c")
    for path in sorted((ROOT / folder).rglob(f"*.{ending}"))
}
# Names that also mean something else: libraries, records at hand (`config.path()`), groups of options (`guard.window`)
ELSE = {"gymnasium", "mujoco", "config", *GROUPS}
OWN = {path.stem for path in SOURCES if path.parts[0] in ("rlhf_control", "envs")} - ELSE  # modules, by their last name
ENDINGS = {"py", "c", "xml", "md", "json", "jsonl", "txt", "sqlite", "npz", "pth", "png", "pdf", "zip", "mp4"}
EXAMPLES = {"cart.py", "mine.py", "sb3.py"}  # of files that are somebody else's
CLASSES = {name for text in SOURCES.values() for name in re.findall(r"^class (\w+)", text, re.MULTILINE)}
FILE = re.compile(r"`((?:\w+/)*\w+\.(?:py|c))`")
DOTTED = re.compile(r"`(\w+(?:\.\w+)+)(?:\(\))?`")


def is_file(name: str) -> bool:
    """Whether one of our files has this name, or this end of a path."""
    return any(f"/{path}".endswith(f"/{name}") for path in SOURCES)


def is_ours(name: str) -> bool:
    """Whether a dotted name plainly is about a module or a class of ours, rather than a file or another library."""
    first, last = name.split(".")[0], name.split(".")[-1]
    return first in ("rlhf_control", *CLASSES) or (first in OWN and last not in ENDINGS)


def has(name: str) -> bool:
    """Whether there is such a module, or what comes before the last dot has that name in it."""
    if is_file(f"{name.replace('.', '/')}.py") or is_file(f"{name.replace('.', '/')}/__init__.py"):
        return True
    owner, last = name.rpartition(".")[0], name.rpartition(".")[2]
    word = re.compile(rf"^\s*(?:def |class |self\.)?{last}\b", re.MULTILINE)  # also a field, or an entry of _EXPORTS
    if owner == "rlhf_control":
        return f'"{last}":' in SOURCES[Path("rlhf_control/__init__.py")]
    place = f"{owner.replace('.', '/')}.py"
    texts = [text for path, text in SOURCES.items() if f"/{path}".endswith(f"/{place}")]
    texts += [text for text in SOURCES.values() if re.search(rf"^class {owner.split('.')[-1]}\b", text, re.MULTILINE)]
    return any(word.search(text) for text in texts)


def test_names_are_told_apart() -> None:
    assert is_file("rl/ppo.py") and is_file("ppo.py") and not is_file("po.py") and not is_file("rl/fast.py")
    assert is_ours("Guard.watch") and is_ours("protocol.Backend") and is_ours("rlhf_control.rl.ppo")
    assert not is_ours("torch.load") and not is_ours("labels.sqlite") and not is_ours("report.md")
    assert (
        has("Guard.watch") and has("protocol.Backend") and has("rlhf_control.rl.ppo") and has("rlhf_control.finetune")
    )
    assert has("NetConfig.encoder") and not has("Guard.look") and not has("protocol.Engine")
    assert not has("rlhf_control.rl.fast") and not has("rlhf_control.nothing")


@pytest.mark.parametrize("document", READ, ids=relative)
def test_every_file_and_name_in_backticks_exists(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    files, names = set(FILE.findall(text)) - EXAMPLES, {name for name in DOTTED.findall(text) if is_ours(name)}
    assert files, "the pattern finds something"
    assert [name for name in sorted(files) if not is_file(name)] == []
    assert [name for name in sorted(names) if not has(name)] == []


def test_every_file_and_name_in_backticks_of_the_code_exists() -> None:
    """In docstrings and comments: code that moves leaves them behind."""
    for path, text in SOURCES.items():
        if path.parts[0] in ("rlhf_control", "envs"):
            files = set(FILE.findall(text)) - EXAMPLES
            if path.parts[1] == "interop":  # where a name without a folder may be another library's file
                files = {name for name in files if "/" in name}
            assert [name for name in sorted(files) if not is_file(name)] == [], path
            names = {name for name in DOTTED.findall(text) if is_ours(name)}
            assert [name for name in sorted(names) if not has(name)] == [], path
