"""One game of the Arcade Learning Environment (Bellemare et al. 2013): its frames skipped, made small and grey.

H, W of the screen, h, w of the observation.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from rlhf_control.simulation.atari.pictures import Array, Shrinker
from rlhf_control.simulation.atari.preprocessing import CLOCKS, Preprocessing, hidden

GOES_ON, LIFE_LOST, TERMINATED, TRUNCATED = range(4)  # what a step ends; but for the first, `Shot.first` is next
NO_ACTION, FIRE = 0, 1  # ALE's numbers of actions
RAM = 128  # bytes
# What `facts` has behind the RAM as it is and as it was one step before: numbers of the game so far
NUMBERS = ("lives", "frame", "score")
FACTS = 2 * RAM + len(NUMBERS)
SEEDS = 2**31  # that ALE tells apart


@dataclass(frozen=True)
class Shot:
    """Holds what a step of a game leads to."""

    picture: Array  # (h, w) uint8
    score: int  # gained in it
    end: int  # GOES_ON, ...
    first: Array | None  # (h, w): where it ended something, the first picture of what comes next


class AtariGame:
    """Plays one game. All there is of it is in `state`; the random numbers of its later episodes follow from its seed.

    `ale` can be asked for the rest: the RAM is right at any time, but its screen is that of the last step, also after
    `load_state`.
    """

    def __init__(self, rom: str, options: Preprocessing, compiled: bool = True) -> None:
        self.rom, self.options = rom, options
        self.ale = quiet_interface()
        self.ale.setFloat("repeat_action_probability", options.repeat_action_probability)
        self.ale.setInt("max_num_frames_per_episode", options.max_num_frames_per_episode)
        self._load(0)
        legal = self.ale.getLegalActionSet() if options.full_action_space else self.ale.getMinimalActionSet()
        self.actions = [action.value for action in legal]
        height, width = self.ale.getScreenDims()
        self._screens = np.zeros((2, height, width), np.uint8)  # the last two frames, grey
        self._shrink = Shrinker(height, width, options.img_height, options.img_width, compiled)
        self._hidden = hidden(options.hide_score, rom)
        self._palette, self._known = np.zeros((256, 3), np.uint8), np.zeros(256, bool)
        self.seed, self.episode = 0, 0  # the episode's number since it was seeded, from 1
        self.lives, self.score, self._owed = 0, 0, 0
        self._before = np.zeros(RAM, np.uint8)  # the RAM one step before

    def _load(self, seed: int) -> None:
        from ale_py import roms

        self.ale.setInt("random_seed", seed)
        self.ale.loadROM(roms.get_rom_path(self.rom))
        if self.options.mode >= 0:
            self.ale.setMode(self.options.mode)
        if self.options.difficulty >= 0:
            self.ale.setDifficulty(self.options.difficulty)

    def reset(self, seed: int | None = None) -> Array:
        """Begin a game and return its first picture (h, w). A seed, of any size, starts the random numbers anew."""
        if seed is not None:
            self.seed, self.episode = seed, 0
            self._load(int(np.random.SeedSequence(seed).generate_state(1)[0]) % SEEDS)
        return self._begin()

    def _begin(self) -> Array:
        self.episode += 1
        self.ale.reset_game()
        self.score = self._owed = 0
        if self.options.noop_max:
            noops = np.random.default_rng([self.seed, self.episode]).integers(1, self.options.noop_max + 1)
            for _ in range(noops):
                self._owed += self.ale.act(NO_ACTION)
                if self.ale.game_over():
                    self.ale.reset_game()
                    self._owed = 0
        self._see(slice(None))
        if self._fires():
            self._owed += self._frames(FIRE)
        self.lives = self.ale.lives()
        self._before = self.ale.getRAM()  # no step leads here
        return self._picture()

    def step(self, action: int) -> Shot:
        """Take the action of this number among `actions`; where the game is over, the next one begins."""
        self._before = self.ale.getRAM()
        score = self._frames(self.actions[action]) + self._owed
        self._owed = 0
        picture, end = self._picture(), self._end()
        self.score += score
        if end == GOES_ON:
            return Shot(picture, score, end, None)
        first = picture
        if end == LIFE_LOST:
            if self._fires():
                self._owed = self._frames(FIRE)
                first = self._picture()
            if self.ale.game_over():
                end, first = TERMINATED, self._begin()
            self.lives = self.ale.lives()
        else:
            first = self._begin()
        return Shot(picture, score, end, first)

    def _end(self) -> int:
        before, self.lives = self.lives, self.ale.lives()
        if self.ale.game_over(with_truncation=False):
            return TRUNCATED if self.rom in CLOCKS else TERMINATED
        if self.ale.game_truncated():
            return TRUNCATED
        return LIFE_LOST if self.options.episodic_life and self.lives < before else GOES_ON

    def _fires(self) -> bool:
        return self.options.use_fire_reset and FIRE in self.actions

    def _frames(self, action: int) -> int:
        """Lets the frames of a step pass; returns what they score."""
        score, act, skip = 0, self.ale.act, self.options.frameskip
        for left in range(skip, 0, -1):
            score += act(action)
            over = self.ale.game_over()
            if left <= 2:  # the last two are seen
                self._see(left % 2)
            if over:
                if left > 1:
                    self._see(slice(None))
                break
        return score

    def _see(self, which: int | slice) -> None:
        for screen in self._screens[which].reshape(-1, *self._screens.shape[1:]):
            self.ale.getScreenGrayscale(screen)

    def _picture(self) -> Array:
        last = self._screens[1]
        other = self._screens[0] if self.options.maxpool and self.options.frameskip > 1 else last
        if self._hidden is not None:
            self._screens[:, *rows_and_columns(self._hidden)] = 0
        return self._shrink(other, last)

    def facts(self) -> Array:
        """Return the game's RAM, that of one step before, and what `NUMBERS` names, (128 + 128 + 3,) float64."""
        numbers = [self.lives, self.ale.getEpisodeFrameNumber(), self.score]
        return np.concatenate([self.ale.getRAM(), self._before, numbers])

    def screen(self) -> Array:
        """Return the last frame in colour, (H, W, 3) uint8."""
        screen = self.ale.getScreenRGB()
        if self._hidden is not None:
            screen[rows_and_columns(self._hidden)] = 0
        return screen

    def png(self) -> bytes:
        """Return `screen` as a PNG, which with a palette takes a quarter of the time. The same screen gives the same
        bytes."""
        indices = self.ale.getScreen()
        present = np.bincount(indices.ravel(), minlength=256) > 0
        if (present & ~self._known).any():
            self._palette[indices.ravel()] = self.ale.getScreenRGB().reshape(-1, 3)
            self._known |= present
        if self._hidden is not None:
            indices[rows_and_columns(self._hidden)] = 0  # black in ALE's palettes
            self._palette[0], present[0] = 0, True
        image = Image.fromarray(indices)
        image.putpalette((self._palette * present[:, None]).tobytes())
        file = io.BytesIO()
        image.save(file, "PNG", compress_level=1)
        return file.getvalue()

    def state(self) -> dict[str, Any]:
        """Return all there is of the game: `load_state` goes on from it bit for bit, in this game or another one."""
        counters = {name: getattr(self, name) for name in ("seed", "episode", "lives", "score")}
        ale = np.frombuffer(self.ale.cloneState(include_rng=True).serialize(), np.uint8)
        return {"rom": self.rom, "ale": ale, "before": self._before, "owed": self._owed, **counters}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state. Raises ValueError for one of another game."""
        from ale_py import ALEState

        if str(state["rom"]) != self.rom:
            raise ValueError(f"a state of {state['rom']} is none of {self.rom}")
        self.ale.restoreState(ALEState(np.asarray(state["ale"], np.uint8).tobytes()))
        self.seed, self.episode, self.lives, self.score = (int(state[n]) for n in ("seed", "episode", "lives", "score"))
        self._owed, self._before = int(state["owed"]), np.array(state["before"], np.uint8)


def rows_and_columns(rectangle: tuple[int, int, int, int]) -> tuple[slice, slice]:
    x, y, width, height = rectangle
    return slice(y, y + height), slice(x, x + width)


def quiet_interface() -> Any:
    """Return ALE's interface, which says nothing but errors."""
    import ale_py  # here: what plays no Atari does not wait for it

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    return ale_py.ALEInterface()
