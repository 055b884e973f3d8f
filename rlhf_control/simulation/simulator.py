"""One environment put into a stored state and stepped from there: the one place where that is done.

n states, m actions each, D numbers of a state.
"""

from collections.abc import Callable, Mapping
from contextlib import closing
from functools import cached_property
from typing import Any

import gymnasium
import mujoco
import numpy as np

from rlhf_control.compute.gl import choose_gl
from rlhf_control.data import Array, Segments, widened
from rlhf_control.errors import UserError
from rlhf_control.simulation.foreign import make_env
from rlhf_control.simulation.mujoco_states import MujocoReader, is_own, marks_goals, put_back
from rlhf_control.simulation.pictures import rendered
from rlhf_control.simulation.states import CLASSIC, draws_itself, has_mujoco_data, is_game, put_classic, state_reader
from rlhf_control.spaces import Act, Spaces, packing

PROBED = 5  # steps
LOOK_AFTER, VISIBLE = 5, 32  # steps; of 255, a difference in a picture
INSTEAD = ", so there are no corrections; leave them out of --feedback: all other kinds, clips and videos can be had"


def simulated(env_id: str, env: Mapping[str, Any], points: Segments, actions: Array) -> tuple[Segments, Array] | None:
    """Steps the simulator from the states of `points` (n,) by actions (n, m, A), and returns the transitions (n, m) and
    the states (n, m, D) they end in; None where the environment is not all in its state."""
    if points.state is None:
        return None
    try:
        check_simulator(env_id, env)
        simulator = bare_simulator(env_id, env)
    except UserError:
        return None
    n, m = actions.shape[:2]
    next_obs = np.empty((n, m, points.obs.shape[-1]), points.obs.dtype)
    after: list[Array] = []
    with closing(simulator):
        for i, j in np.ndindex(n, m):
            simulator.put(points.state[i])
            next_obs[i, j] = simulator.step(actions[i, j].reshape(simulator.env.action_space.shape))[0]
            after.append(simulator.state())
    states, *ends = widened([np.repeat(points.state[:, None], m, 1), *after])
    obs = np.repeat(points.obs[:, None], m, 1)
    unpaid = np.full((n, m), np.nan, np.float32)
    return Segments(obs, actions, next_obs, unpaid, states), np.stack(ends).reshape(n, m, -1)


class Simulator:
    """Puts one environment into stored states (D,), once it has been reset, and steps it from there. `attributes`: with
    the numbers that it keeps beside its simulator."""

    def __init__(self, env_id: str, env: gymnasium.Env, attributes: bool = True) -> None:
        self.env_id, self.env, self.attributes = env_id, env, attributes
        self.pack = packing(env.observation_space)[1]

    @cached_property
    def _read(self) -> Callable[[], Array] | None:
        return state_reader([self.env])

    @property
    def has_state(self) -> bool:
        return self._read is not None

    def state(self) -> Array:
        """Returns the state (D,) now. Raises UserError if the environment has none."""
        if self._read is None:
            raise UserError(f"{self.env_id} has no state to come back to")
        return self._read()[0]

    def put(self, state: Array) -> None:
        """Brings the environment to a stored state. Raises UserError where that cannot be."""
        if isinstance(self._read, MujocoReader):
            put_back(self.env, state, self._read.origin, attributes=self.attributes)
            return
        size = self.state().size if self.has_state else 0
        if np.shape(state) != (size,):
            raise UserError(
                f"{self.env_id} cannot start from this state: it has {np.size(state)} numbers, and the environment "
                f"{size}"
            )
        if not is_game(self.env):
            put_classic(self.env, state)
            return
        game: Any = self.env.unwrapped
        try:
            game.restore_state(state)
        except ValueError as error:
            raise UserError(f"{self.env_id} cannot start from this state: {error}") from error

    def observed(self) -> Array:
        """Returns the observation (O,) of a state that the environment was put into."""
        bare: Any = self.env.unwrapped
        observe = next((getattr(bare, name) for name in ("_get_obs", "_get_ob") if hasattr(bare, name)), None)
        return self.pack(observe() if observe is not None else np.asarray(bare.state, np.float32))

    def step(self, action: Any) -> tuple[Array, float, bool, bool]:
        """Returns observation (O,), reward, whether the task ended and whether the episode was cut off."""
        seen, reward, terminated, truncated, _ = self.env.step(action)
        return self.pack(seen), float(reward), terminated, truncated

    def close(self) -> None:
        self.env.close()


def attempt_from(
    simulator: Simulator, act: Act, spaces: Spaces, clip: Segments, rng: np.random.Generator | None
) -> tuple[Segments, bool]:
    """Returns what `act` does (L, ...) from the first state of the clip (L, ...), for as many steps, without noise if
    there is no rng; and whether the task did not end meanwhile."""
    if clip.state is None:
        raise UserError(f"a clip of {simulator.env_id} has no simulator states to begin from")
    simulator.put(clip.state[0])
    obs, whole = clip.obs[0], True
    steps: list[dict[str, Array]] = []
    for _ in range(len(clip)):
        state = clip.state[0] if not steps else simulator.state()
        executed = spaces.execute(act(obs[None], rng))[0]
        next_obs, reward, terminated, _ = simulator.step(env_action(simulator.env.action_space, spaces, executed))
        rewarded = np.asarray(reward, np.float32)
        steps.append({"obs": obs, "action": executed, "next_obs": next_obs, "env_reward": rewarded, "state": state})
        whole = whole and not terminated and bool(np.isfinite(next_obs).all())
        obs = next_obs
    columns = {name: [step[name] for step in steps] for name in steps[0]}
    columns["state"] = widened(columns["state"])
    return Segments(**{name: np.stack(column) for name, column in columns.items()}), whole


def env_action(space: gymnasium.Space, spaces: Spaces, executed: Array) -> Any:
    """Returns an action as carried out (A,) in the form in which an environment of this action space takes it."""
    if not spaces.choices:
        return executed.reshape(spaces.action_shape)
    chosen = spaces.chosen(executed[None])[0]
    if isinstance(space, gymnasium.spaces.Discrete):
        return int(chosen[0] + space.start)
    return chosen.reshape(space.shape or ()) + getattr(space, "start", 0)


def bare_simulator(env_id: str, env: Mapping[str, Any], seed: int = 0) -> Simulator:
    """Makes one of a MuJoCo environment, or a game of our own, without its time limit. Raises UserError where there is
    none."""
    made = make_env(env_id, env)
    if not (has_mujoco_data(made) or is_game(made)):
        made.close()
        raise UserError(f"{refusal(env_id)} (it is no MuJoCo environment){INSTEAD}")
    made.reset(seed=seed)  # with its wrappers: MetaWorld's draw the task
    return Simulator(env_id, made.bare())


def refusal(env_id: str) -> str:
    return f"{env_id} cannot be put back to where a clip began"


# -- trying it


def check_simulator(env_id: str, env: Mapping[str, Any]) -> None:
    """Raises UserError for an environment that is not all in its state: one in which the same actions lead elsewhere
    after another one has been brought to the same state."""
    one, two = bare_simulator(env_id, env, seed=1), bare_simulator(env_id, env, seed=2)
    one.env.action_space.seed(0)
    actions = [one.env.action_space.sample() for _ in range(2 * PROBED)]
    for action in actions[:PROBED]:
        one.step(action)
    try:
        two.put(one.state())
        for action in () if is_own(one.env) else actions[PROBED:]:
            (obs, reward, *_), (again, rewarded, *_) = one.step(action), two.step(action)
            if not (np.allclose(again, obs, 1e-2, 2e-3) and np.isclose(rewarded, reward, 1e-2, 0.02)):
                what = f"reward is {rewarded:.4g}, not {reward:.4g}"
                if not np.allclose(again, obs, 1e-2, 2e-3):
                    i = int(np.argmax(np.abs(again - obs)))
                    what = f"observation {i} is {again[i]:.4g}, not {obs[i]:.4g}"
                raise UserError(f"{refusal(env_id)} (something beside the simulator counts: the {what}){INSTEAD}")
    finally:
        one.close()
        two.close()


def seen_whole(env: gymnasium.Env, make: Callable[[], gymnasium.Env]) -> bool:
    """Tells whether a clip can be drawn from its states: whether two copies of the environment (`make` makes them, with
    the render mode rgb_array) draw themselves alike once one has been given the state of the other. Where that cannot
    be tried, yes."""
    if is_game(env) or type(env.unwrapped).__module__.startswith(CLASSIC):
        return True
    if has_mujoco_data(env) and (is_own(env) or marks_goals(env.unwrapped)):
        return True
    if not draws_itself(env) or (has_mujoco_data(env) and choose_gl() == "none"):
        return True
    one, two = make(), make()
    try:
        return _alike(one, two)
    finally:
        one.close()
        two.close()


def _alike(one: gymnasium.Env, two: gymnasium.Env) -> bool:
    one.reset(seed=1)
    one.action_space.seed(0)
    for _ in range(LOOK_AFTER):
        if any(one.step(one.action_space.sample())[2:4]):
            one.reset()
    two.reset(seed=2)
    bare: Any = one.unwrapped
    if has_mujoco_data(one):
        mujoco.mj_forward(bare.model, bare.data)  # a step ends a substep behind
    try:
        Simulator("", two, attributes=False).put(Simulator("", one).state())
    except (UserError, ValueError, IndexError):  # it is of another size
        return False
    try:
        first, second = (rendered(env, "") for env in (one, two))
    except UserError:
        return True
    return first.shape == second.shape and int(np.abs(first.astype(int) - second).max()) < VISIBLE
