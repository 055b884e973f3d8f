"""The ids of ALE's games, and the ROMs that they name."""

import difflib
import re

MULTIPLAYER = ("combat", "joust", "maze_craze", "warlords")  # ale-py has no id for these


def is_atari(env_id: str) -> bool:
    """Tell whether an id, with or without `ale_py:` before it, means one of the ALE/*-v5 environments, which are
    ours."""
    return re.fullmatch(r"(ale_py:)?ALE/[^/]*", env_id) is not None


def known_ids() -> list[str]:
    """Return all ids."""
    from ale_py import roms  # here: what plays no Atari does not wait for it

    return [id_of(rom) for rom in roms.get_all_rom_ids() if rom not in MULTIPLAYER]


def id_of(rom: str) -> str:
    return f"ALE/{rom.title().replace('_', '')}-v5"


def rom_of(env_id: str) -> str:
    """Return the ROM's name of an id. Raises ValueError for one that there is not, with those that are near."""
    from ale_py import roms

    found = {id_of(rom): rom for rom in roms.get_all_rom_ids() if rom not in MULTIPLAYER}
    if (bare := env_id.removeprefix("ale_py:")) in found:
        return found[bare]
    raise ValueError(f"unknown environment '{env_id}'{did_you_mean(bare, list(found))}")


def core(name: str) -> str:
    """Return what of an id names the game, whatever its case, version and suffixes."""
    name = re.sub(r"(NoFrameskip|Deterministic|-ram)+", "", name.removeprefix("ALE/"))
    return re.sub(r"-v\d+$|[^a-z0-9]", "", name.lower())


def prepared(env_id: str) -> str:
    """Return the id of ours that an older one of ale-py's (PongNoFrameskip-v4, Pong-ram-v4, Pong-v0) stands for; "" if
    it is none."""
    if not re.fullmatch(r"[A-Z]\w+(-ram)?(NoFrameskip|Deterministic)?-v[04]", env_id):
        return ""
    return {core(name): name for name in known_ids()}.get(core(env_id), "")


def did_you_mean(env_id: str, known: list[str]) -> str:
    """Return a hint at the ids near one that is unknown."""
    by_core = {core(name): name for name in known}
    near = [by_core[name] for name in difflib.get_close_matches(core(env_id), by_core, 3, 0.6)]
    return f"; did you mean {' or '.join(near)}?" if near else f"; there are {len(known)}, such as ALE/Pong-v5"
