"""Dialogues, many side by side, as Gymnasium's vector environment."""

import copy
import json
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from envs.dialogue import corpus
from envs.dialogue.env import (
    CONTEXT,
    CORPUS,
    SHARE,
    Array,
    Dialogue,
    Dialogues,
    blurred,
    checked_actions,
    checked_share,
    prompts_of,
    spaces,
    steps_of,
    tokens_of,
)

COPIES = 48  # of every turn among the demonstrations


class DialogueVectorEnv(VectorEnv[Array, Array, Array]):
    """Steps n dialogues side by side, each as `env.Dialogue` with its seed would go, its later episodes included. Where
    a reply ends, the next prompt begins in the same step (SAME_STEP); the last context is `info["final_obs"][i]`."""

    def __init__(
        self, num_envs: int = 1, *, prompts: str = CORPUS, share: int = SHARE, render_mode: str | None = None,
        max_episode_steps: int | None = None,
    ) -> None:  # fmt: skip
        """Make them; call `reset` before the first step. `max_episode_steps`: truncates replies after so many tokens,
        if that is less than the 24 after which they end."""
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}; it must be at least 1")
        if render_mode is not None:
            raise ValueError("dialogues side by side do not render; `env.texts` gives the text of a context")
        limit = CONTEXT if max_episode_steps in (None, -1) else max_episode_steps
        if not isinstance(limit, int) or limit < 1:
            raise ValueError(f"max_episode_steps must be at least 1, or -1 for no limit, not {limit}")
        self.num_envs, self.render_mode, self.limit = num_envs, render_mode, limit
        self.metadata = {**Dialogue.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}
        self.spec = copy.deepcopy(gymnasium.registry.get("rlhf/Dialogue-v0"))
        self.single_observation_space, self.single_action_space = spaces()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.prompts, self.share = prompts_of(prompts), checked_share(share)
        self.rules = Dialogues(num_envs)
        self._generators: list[np.random.Generator] = []

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin new episodes. An int `seed` seeds the i-th with `seed + i`, a sequence has one seed for each; without,
        the generators run on."""
        seeds = list(seed) if isinstance(seed, Sequence) else [None if seed is None else seed + i for i in self._all]
        if len(seeds) != self.num_envs:
            raise ValueError(f"{len(seeds)} seeds for {self.num_envs} dialogues")
        before: list[np.random.Generator | None] = [*self._generators] or [None] * self.num_envs
        self._generators = [
            known if own is None and known is not None else np_random(None if own is None else own // self.share)[0]
            for own, known in zip(seeds, before, strict=True)
        ]
        for i in self._all:
            self._begin(i)
        return self.rules.context.copy(), {}

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Say tokens (n,). Returns contexts (n, O), rewards (n,) of 0, terminated and truncated (n,) bool, info."""
        if not self._generators:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        terminated = self.rules.say(checked_actions(actions, self.num_envs))
        truncated = self.rules.length - self.rules.begins >= self.limit
        info: dict[str, Any] = {}
        if (ended := terminated | truncated).any():
            final = np.full(self.num_envs, None, object)
            for i in np.flatnonzero(ended).tolist():
                final[i] = self.rules.context[i].copy()
                self._begin(i)
            info = {"final_obs": final, "_final_obs": ended}
        return self.rules.context.copy(), np.zeros(self.num_envs), terminated, truncated, info

    @staticmethod
    def demonstrations(*, held_out: bool) -> tuple[Array, Array]:
        """Return what the corpus says to its prompts, those that are held out or the others: contexts (M, O) and the
        token that follows each (M, 1). The others stand there COPIES times, all but the first with prompts `blurred`.
        Turns that do not fit are left out."""
        known = set(corpus.prompts(held_out=held_out))
        turns = tokens_of(turn for turn in corpus.turns() if turn[0].lower() in known)
        prompts, rng = [begin for begin, _ in turns], np.random.default_rng(0)
        again = [
            (blurred(prompts, i, rng), said) for _ in range(0 if held_out else COPIES - 1)
            for i, (_, said) in enumerate(turns)
        ]  # fmt: skip
        return steps_of(turns + again)

    def snapshot(self) -> dict[str, Any]:
        """Return all that decides what comes next."""
        generators = [json.dumps(generator.bit_generator.state) for generator in self._generators]  # of 128 bits
        return {
            "context": self.rules.context.copy(), "begins": self.rules.begins.copy(), "generators": generators
        }  # fmt: skip

    def restore(self, snapshot: dict[str, Any]) -> Array:
        """Go on from a snapshot, bit for bit, and return the contexts."""
        if snapshot["context"].shape != self.rules.context.shape:
            raise ValueError(f"a snapshot of {len(snapshot['context'])} dialogues for {self.num_envs}")
        self.rules.context, self.rules.begins = snapshot["context"].copy(), snapshot["begins"].copy()
        self.rules.length = (self.rules.context != 0).sum(1)
        self._generators = [np_random(0)[0] for _ in self._all]
        for generator, state in zip(self._generators, snapshot["generators"], strict=True):
            generator.bit_generator.state = json.loads(state)
        return self.rules.context.copy()

    @property
    def _all(self) -> range:
        return range(self.num_envs)

    def _begin(self, i: int) -> None:
        self.rules.begin(i, self.prompts[int(self._generators[i].integers(len(self.prompts)))])
