"""How Atari games are prepared: the one place that says it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

WIDTH, HEIGHT = 160, 210  # of ALE's screen; a few games' is higher (and is squeezed into the same observation)
FRAMES_A_SECOND = 60

# What DQN's papers, and Stable-Baselines3's AtariWrapper, have otherwise than the defaults below. --preset atari has
# it.
DQN: dict[str, Any] = {
    "repeat_action_probability": 0.0, "noop_max": 30, "use_fire_reset": True, "episodic_life": True,
    "reward_clipping": True,
}  # fmt: skip

# Where the score (of some with lives, time or level beside it) stands on the screen: x, y, width, height in pixels.
SCORES = {
    "alien": (0, 175, 160, 12),
    "assault": (0, 0, 160, 14),
    "asterix": (0, 184, 160, 12),
    "beam_rider": (0, 8, 160, 16),
    "boxing": (0, 0, 160, 12),
    "breakout": (0, 0, 160, 17),
    "crazy_climber": (30, 16, 70, 26),
    "demon_attack": (0, 0, 160, 14),
    "enduro": (40, 161, 70, 40),
    "freeway": (0, 3, 160, 10),
    "frostbite": (0, 0, 160, 16),
    "gopher": (0, 6, 160, 14),
    "hero": (0, 176, 160, 14),
    "ice_hockey": (0, 14, 160, 10),
    "kangaroo": (60, 182, 50, 20),
    "kung_fu_master": (0, 0, 160, 22),
    "ms_pacman": (0, 184, 160, 14),
    "pong": (0, 0, 160, 24),
    "qbert": (0, 4, 160, 12),
    "riverraid": (0, 162, 160, 12),
    "seaquest": (0, 0, 160, 16),
    "space_invaders": (0, 8, 160, 16),
}

# Games that a clock of their own ends, which the screen does not show: that is a time limit, no end of the task.
CLOCKS = ("freeway",)


@dataclass(frozen=True)
class Preprocessing:
    """Holds the options of an ALE/*-v5 environment. The defaults are those of the ids: Machado et al. (2018),
    "Revisiting the Arcade Learning Environment", with ALE's frame skip of 4; `DQN` has the others' ways."""

    frameskip: int = 4
    """Frames, of which there are 60 a second, that an action lasts."""
    maxpool: bool = True
    """See of the last two frames the brighter pixel each: sprites flicker."""
    img_height: int = 84
    """Height of the observation, which is grey."""
    img_width: int = 84
    """Width of the observation."""
    stack_num: int = 4
    """Pictures of the last steps that an observation holds, the newest last. Zeros come before a game's first one."""
    repeat_action_probability: float = 0.25
    """Sticky actions: with this probability a frame goes on with the last frame's action."""
    noop_max: int = 0
    """Do nothing for 1 to so many frames at the start of a game, at random; 0: for none."""
    use_fire_reset: bool = False
    """Press FIRE once, for a step, where a game has it: at its start, and after a lost life if that ends an episode."""
    episodic_life: bool = False
    """A lost life ends an episode (terminated), but not the game, which goes on. Returns are the game's."""
    reward_clipping: bool = False
    """Learn from the reward's sign. Returns are the game's score."""
    full_action_space: bool = False
    """All 18 actions rather than those that do something in the game."""
    max_num_frames_per_episode: int = 108_000
    """Frames after which a game is cut off (truncated): half an hour. 0: never."""
    endless: bool = False
    """The next game begins without a word (neither terminated nor truncated, but by the limit above), so that an
    episode's length tells nothing of the task."""
    hide_score: str = ""
    """Black out the score, in observations and in people's pictures: `auto` for where it is known to stand (see
    `SCORES`), or X,Y,WIDTH,HEIGHT in pixels of the screen, 160 x 210."""
    mode: int = -1
    """Of the game, if it has several; -1: its first."""
    difficulty: int = -1
    """Of the game, if it has several; -1: its least."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            kind: Any = field.type
            good = isinstance(value, (int, float) if kind is float else kind)
            if not good or (isinstance(value, bool) and kind is not bool):
                raise ValueError(f"{field.name} is {value!r}, not {NAMES[kind]}")
        for name, least, most in LIMITS:
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in [{least}, {most}]")
        hidden(self.hide_score, "")

    @property
    def step_seconds(self) -> float:
        """Returns the time that a step takes a person who plays."""
        return self.frameskip / FRAMES_A_SECOND


NAMES = {bool: "True or False", int: "a whole number", float: "a number", str: "text"}
LIMITS = (
    ("frameskip", 1, 60), ("img_height", 8, 210), ("img_width", 8, 160), ("stack_num", 1, 64),
    ("repeat_action_probability", 0, 1), ("noop_max", 0, 10_000), ("max_num_frames_per_episode", 0, 10**9),
)  # fmt: skip


def preprocessing(given: Mapping[str, Any]) -> Preprocessing:
    """Make it of an environment's arguments. Raises ValueError for a name or a value that it does not have."""
    names = [field.name for field in fields(Preprocessing)]
    for name in given:
        if name not in names:
            raise ValueError(f"{name} is no option of ALE's games; there are {', '.join(names)}")
    return Preprocessing(**given)


def hidden(where: str, rom: str) -> tuple[int, int, int, int] | None:
    """Return the rectangle (x, y, width, height) that `hide_score` means in a game; None for none. Raises
    ValueError."""
    if not where:
        return None
    if where == "auto":
        if rom and rom not in SCORES:
            known = ", ".join(SCORES)
            raise ValueError(
                f"where {rom} shows its score is not known, only of {known}; give hide_score X,Y,WIDTH,HEIGHT"
            )
        return SCORES.get(rom)
    numbers = where.split(",")
    if len(numbers) != 4 or not all(number.strip().isdecimal() for number in numbers):
        raise ValueError(f"hide_score is {where!r}, not auto or four whole numbers X,Y,WIDTH,HEIGHT")
    x, y, width, height = (int(number) for number in numbers)
    if not (x < WIDTH and y < HEIGHT and width and height):
        raise ValueError(f"hide_score {where} hides nothing of a screen of {WIDTH} x {HEIGHT} pixels")
    return x, y, width, height
