"""What a fine-tuning run consists of, made and checked before its first iteration."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_control.behaviours.catalogue import BEHAVIOURS, reward_named
from rlhf_control.behaviours.own import facts, load_behaviours
from rlhf_control.compute.device import device_of
from rlhf_control.config import FinetuneConfig, PPOConfig, PretrainConfig, ReferenceConfig
from rlhf_control.config.presets import is_ale
from rlhf_control.config.training import learns_end_costs
from rlhf_control.data import CORRECTION, SUCCESS, Array, Rollout
from rlhf_control.errors import Halted, UserError, tell, unknown_name
from rlhf_control.feedback.answering import replay
from rlhf_control.feedback.labels import Labels
from rlhf_control.feedback.oracles import Oracle, make_oracle
from rlhf_control.feedback.schema import TAKEN_OVER
from rlhf_control.feedback.store import FeedbackStore
from rlhf_control.interop.policies import find_policy, foreign_options
from rlhf_control.nets.encoders import Encoder
from rlhf_control.nets.policy import Policy, to_device
from rlhf_control.nets.transformer import TokenEncoder
from rlhf_control.nets.zoo import CAME_IN, CLONED, adopt, handed_back
from rlhf_control.queries.asynchronous import Asynchronous
from rlhf_control.queries.demonstrations import check_demonstrations, demonstrated
from rlhf_control.queries.questions import answers_of, gold_of, keep_inputs
from rlhf_control.queries.rounds import clips_needed, episodes_needed, label_rounds
from rlhf_control.queries.segments import Ends, SegmentBank
from rlhf_control.queries.strategies import find_strategy
from rlhf_control.reward.critics_view import CriticsView
from rlhf_control.reward.ends import EndCosts
from rlhf_control.reward.known import make_reward
from rlhf_control.reward.model import RewardModel
from rlhf_control.reward.protocol import Reward
from rlhf_control.rl.cloning import clone
from rlhf_control.rl.kl_anchor import Anchor
from rlhf_control.rl.ppo import PPO
from rlhf_control.rl.protocol import Learner
from rlhf_control.rl.returns import RewardScaler
from rlhf_control.rng import stream
from rlhf_control.runs.loop import Loop
from rlhf_control.runs.run import Run
from rlhf_control.runs.trackers import check_tracker
from rlhf_control.simulation.double_buffer import DoubleBufferedEnvs, start_double_buffered
from rlhf_control.simulation.early_ends import (
    cuts_off_late,
    environment_arguments,
    judged_whole,
    steps_to_stagger,
    tell_of_endless_episodes,
    time_limit,
)
from rlhf_control.simulation.foreign import check_env_id
from rlhf_control.simulation.simulator import check_simulator
from rlhf_control.training.again import make_way
from rlhf_control.training.continuing import make_scaler, same_reward, take_over, training_of, where_from
from rlhf_control.training.guard import Guard
from rlhf_control.training.people import attended, film
from rlhf_control.training.sessions import record_session
from rlhf_control.training.trial import tells_success, try_out

NO_ANCHOR = ReferenceConfig(beta=0.0)  # of what is known: it cannot be hacked


def refuse_many_seeds(config: FinetuneConfig | PretrainConfig) -> None:
    """Raises UserError for options of several runs."""
    if config.seeds:
        raise UserError(f"seeds is '{config.seeds}', but this is one run; see seeds.side_by_side, or the command line")


@dataclass
class Parts:
    """Holds what a fine-tuning run consists of, by the names that checkpoints know the parts by."""

    learner: Learner
    envs: DoubleBufferedEnvs
    bank: SegmentBank
    reward: Reward
    anchor: Anchor
    labels: Labels
    votes: Asynchronous
    guard: Guard
    scaler: RewardScaler | None  # None: the reward is learned from as it is
    value_epochs: int = 0  # of the critic alone, after a fit
    rescale_value: bool = False  # before these
    end_costs: float = 0.0  # so far above a reward of nothing, which follows on an end, is the mean of the learned one

    def stateful(self) -> dict[str, Any]:
        """Returns those whose state belongs into the checkpoints."""
        return {name: part for name, part in vars(self).items() if hasattr(part, "load_state")}

    def paid(self, learned: Array) -> Array:
        """Returns the reward with its zero, which comparisons leave open, where the treatment of early ends has it:
        after one there is nothing for ever."""
        ends = self.reward.ends if isinstance(self.reward, RewardModel) else None
        costs = self.end_costs if ends is None else ends.cost
        return learned + np.float32(costs) if costs else learned

    def scaled(self, rollout: Rollout) -> Rollout:
        """Returns the rollout with its reward in the unit that the critic is to learn it in, once there is a reward."""
        if self.scaler is None or not self.reward.fitted:
            return rollout
        if not self.scaler.moments[0]:  # returns are longer than a rollout: those before the first fit count too
            for earlier in self.bank.rollouts[:-1]:
                self.scaler(earlier.with_reward(self.paid(self.reward.predict(earlier))))
        return self.scaler(rollout)

    def refit_value(self, rollout: Rollout, rng: np.random.Generator, progress: float) -> None:
        """Has the critic learn the reward that was fitted anew, of which this newest rollout has what is paid."""
        if self.rescale_value and self.value_epochs and self.reward.fitted and not self.guard.closed:
            # In an anchor that has just moved here nothing would be taken off the earlier ones; in another it is
            kept = self.bank.rollouts[:-1] if self.anchor.config.policy == "round" else []
            earlier = [r.with_reward(self.paid(self.reward.predict(r))) for r in kept]
            divided = earlier if self.scaler is None else [self.scaler.divided(r) for r in earlier]
            self.learner.rescale_value([*divided, rollout])
        self.learner.fit_value(rollout, self.value_epochs, rng, progress)

    def react_to_alarm(self, run: Run, rng: np.random.Generator, *, wait: bool) -> Halted | None:
        """Does what the config says about an alarm, as `Guard.react`."""
        return self.guard.react(run.path, self.learner, self.anchor, self.bank, rng, wait=wait)

    def result(self, run: Run) -> Policy:
        """Returns the policy that the run would hand back now, as `zoo.handed_back`."""
        return handed_back(self.learner.policy, self.anchor.pretrained.policy, run)

    def hand_back(self, run: Run, config: FinetuneConfig) -> None:
        """Writes what the run was for into its folder: the policy, and the reward that it learned."""
        self.result(run).save(run.path / "policy.npz", config=asdict(config))
        if isinstance(self.reward, RewardModel):
            self.reward.save(run.path / "reward.npz")


def prepare(config: FinetuneConfig, oracle: Oracle | None, run: Run | None) -> tuple[Run, Parts]:
    """Makes the run's folder and its parts before the first iteration. What is wrong with a request is said here,
    before there is a folder."""
    # Of a run that is resumed nothing is loaded because its folder says so
    sha256 = load_behaviours(config.behaviours) if config.behaviours and run is None else None
    kept = run is not None and (run.path / CAME_IN).exists()
    begun = run is not None and any((run.path / "checkpoints").glob("*.npz"))
    pretrained, training = to_start_from(config, run.path / CAME_IN if run is not None and kept else None)
    env_id = config.env_id or pretrained.env_id
    check_env_id(env_id)
    find_strategy(config.queries)
    check_score(config, env_id)
    source = answers_of(config, run) if config.replay else None
    if source is None and oracle is None:
        oracle = make_oracle(config.oracle, env_id, config.oracle_temperature, config.annotator)
    env = environment_arguments(config, env_id, {**pretrained.env, **config.env})
    envs = start_envs_of(config, env_id, env)
    came_in, policy = (adopt(pretrained, envs.spaces, env_id, env) for _ in range(2))
    length, whole = clip_length(config, env_id, env, envs.step_seconds), judged_whole(env_id)
    if config.demonstrations and not begun:
        take_up_demonstrations(config, policy, length)
    same = same_reward(config, training)
    to_device(policy, device_of(config.device))
    free = config.learn_from == "oracle" and not policy.spaces.tokens  # or it would forget how to speak
    anchor = Anchor(policy, NO_ANCHOR if free else config.reference)
    if not same or config.min_log_std is not None:
        policy.loosen(config.shrink, config.min_log_std)
    encoder = reward_sees_through(config, anchor.pretrained.policy, env)
    sizes = envs.spaces.obs_size, envs.spaces.executed_size
    reward = make_reward(config, *sizes, env_id, encoder, length if whole else 0, same=same)
    tell_of_endless_episodes(env_id, env)
    if learns_end_costs(config) and not whole and isinstance(reward, RewardModel):
        reward.ends = EndCosts(config.end_costs, length)
    bank = make_bank(config, length, None if whole else time_limit(env_id, env), envs.step_seconds, whole=whole)
    if run is None and not whole:
        steps = config.ppo.num_envs * config.ppo.num_steps * (bank.first_full + 1)  # before the first questions
        refuse_early = config.termination == "refuse"
        try_out(policy, env, length, config.seed, steps=steps, clips=clips_needed(config), refuse_early=refuse_early)
    rounds, gold = label_rounds(config, bank.first_full), gold_of(config, run)
    if config.annotator.expert and not begun:
        adopt(find_policy(config.annotator.expert, env_id, env=env), envs.spaces, env_id, env)
    if {CORRECTION, TAKEN_OVER} & set(config.feedback):
        check_simulator(env_id, env)

    run = run or new_run(config, "finetune", config.oracle, env_id, **facts(config, sha256), **where_from(config))
    if source is not None:
        oracle = replay(source, run.path / "labels.sqlite")
    if not kept:
        came_in.save(run.path / CAME_IN, learner=training["learner"], config=training["config"])
    if not begun:
        keep_inputs(config, run, policy, gold)
        keep_cloned(config, run, anchor)
    store = FeedbackStore(run.path / "labels.sqlite", create=not begun)  # what has begun had one
    labels = Labels(store, oracle, config.seed, annotators=config.annotators)
    labels.gold = gold
    votes = Asynchronous(config, rounds, labels, bank, reward, policy)
    guard, learner = make_guard(config, reward), make_learner(policy, config)
    votes.asking = guard.asking
    if not begun:
        take_over(learner, config, training["learner"])
    costs = config.end_costs if config.termination == "penalty" and isinstance(reward, RewardModel) else 0.0
    scaler, epochs = make_scaler(config, training), 0 if same else config.value_epochs
    parts = Parts(
        learner, envs, bank, reward, anchor, labels, votes, guard, scaler, epochs, config.rescale_value, costs
    )
    return run, parts


def start_envs_of(config: FinetuneConfig, env_id: str, env: dict[str, Any]) -> DoubleBufferedEnvs:
    """Starts the environments, which end episodes late where the config says so."""
    envs = start_double_buffered(
        env_id, config.ppo.num_envs, seed=env_seed(config.seed), backend=config.backend, env=env,
        frames=config.oracle == "human",
    )  # fmt: skip
    if cuts_off_late(config, env_id, env):
        envs.cut_off(config.unhealthy_seconds)
    if limit := steps_to_stagger(config, env_id, env):
        envs.stagger(limit)
    return envs


def reward_sees_through(
    config: FinetuneConfig, pretrained: Policy, env: Mapping[str, Any]
) -> Encoder | TokenEncoder | CriticsView | None:
    """Returns what the reward sees observations through: of pictures and tokens the policy's encoder, as it came in."""
    if pretrained.encoder.seen:
        return pretrained.encoder.frozen().to_device(pretrained.encoder.device)
    if config.reward.pictures != "policy":
        raise UserError(
            f"--reward.pictures {config.reward.pictures} is for a policy that sees pictures, and this one sees none: "
            "leave it out"
        )
    wanted, marked = config.reward.critics_view, SUCCESS in config.feedback
    kept = config.shrink == 1 and not config.reward.obs_parts and not marked
    if wanted == "on" or (wanted == "auto" and kept and tells_success(pretrained, env)):
        return CriticsView(pretrained)
    return None


def keep_cloned(config: FinetuneConfig, run: Run, anchor: Anchor) -> None:
    """Keeps the policy that learned to act like the demonstrations to begin with, if one did."""
    if config.clone_epochs:
        anchor.pretrained.policy.save(run.path / CLONED)


def make_bank(
    config: FinetuneConfig, length: int, limit: int | None, step_seconds: float, *, whole: bool
) -> SegmentBank:
    """Makes the bank of clips of so many steps, of episodes that end after `limit` of them, if that is known, or of
    `whole` episodes."""
    bank = SegmentBank(
        length, config.ppo.num_envs, config.ppo.num_steps, clips=clips_needed(config), time_limit=limit,
        older_bytes=int(config.query.older_mb * 1e6), ends=ends_of_episodes(config, step_seconds),
    )  # fmt: skip
    return bank.of_whole_episodes() if whole else bank


def clip_length(config: FinetuneConfig, env_id: str, env: dict[str, Any], step_seconds: float) -> int:
    """Returns how many steps a clip has, or at most, where clips are whole episodes."""
    limit = time_limit(env_id, env)
    if judged_whole(env_id) and limit is None:
        raise UserError(f"clips of {env_id} are whole episodes, and nothing ends them; give --env max_episode_steps")
    return limit if judged_whole(env_id) and limit else max(2, round(config.clip_seconds / step_seconds))


def to_start_from(config: FinetuneConfig, kept: Path | None) -> tuple[Policy, dict[str, Any]]:
    """Finds the policy to fine-tune and what is known about its training: in the copy that a run has `kept`, if any."""
    if kept is not None:
        return find_policy(kept, config.env_id), training_of(kept)
    return find_policy(config.policy, config.env_id, **foreign_options(config)), training_of(config.policy)


def learn_end_costs(reward: Reward, labels: Labels, fitted: Mapping[str, float]) -> dict[str, float]:
    """Has a reward that is `fitted` learn what an end costs, where that is asked; returns metrics."""
    if not isinstance(reward, RewardModel) or reward.ends is None:
        return {}
    found = reward.ends.learn(reward, labels.answers(about_ends=True), fitted.get("lapse", reward.config.lapse))
    return {f"reward/{name}": value for name, value in found.items()}


def ends_of_episodes(config: FinetuneConfig, step_seconds: float) -> Ends | None:
    """Returns what of episodes has to be kept, if their success is asked about."""
    if SUCCESS not in config.feedback:
        return None
    return Ends(max(2, round(config.query.episode_seconds / step_seconds)), episodes_needed(config))


def make_guard(config: FinetuneConfig, reward: Reward) -> Guard:
    """Makes the guard that the config asks for; what is known cannot be hacked, and has none."""
    learned = config.learn_from == "votes"
    guard = config.guard if learned else replace(config.guard, chance="off", alarm="off")
    line = isinstance(reward, RewardModel) and reward.config.linear == "on" and SUCCESS not in config.feedback
    return Guard(guard.settled(line=line), looks=config.rounds - 1)


def make_learner(policy: Policy, config: FinetuneConfig | PretrainConfig) -> Learner:
    """Makes what improves the policy. Another learner is a file in `rl` and an entry here."""
    return PPO(to_device(policy, device_of(config.device)), config.ppo)


@contextmanager
def started(config: FinetuneConfig, run: Run, p: Parts) -> Iterator[Loop]:
    """Gives the loop over the iterations, with people beside it if they are to answer."""
    rounds = p.votes.rounds
    waits = rounds if config.asks_people() else ()
    with Loop(run, p.stateful(), config, save_before=waits) as loop:
        record_session(run, loop.first)
        if p.envs.frames and config.labelling == "blocking" and SUCCESS not in config.feedback:  # episodes may be long
            film(loop, p.envs, p.bank.keep, rounds)
        p.labels.store.database.while_locked = loop.stop_if_asked
        with attended(config, loop, p.envs, p.labels, p.reward, p.learner.policy, rounds, p.guard):
            yield loop


def take_up_demonstrations(config: FinetuneConfig, policy: Policy, length: int) -> None:
    """Raises UserError if there will be no clips of them; has the policy act like them if that is asked for."""
    check_demonstrations(config.demonstrations, policy, length)
    if config.clone_epochs:
        shown = demonstrated(config.demonstrations, policy, length, config.seed)
        clone(policy, shown, config.clone_epochs, stream(config.seed, "clone"))


def check_score(config: FinetuneConfig, env_id: str) -> None:
    """Raises UserError if the behaviour to score is unknown or another environment's."""
    if config.score and config.score not in BEHAVIOURS:
        raise unknown_name("behaviour", config.score, BEHAVIOURS)
    if config.score:
        reward_named(config.score, env_id)


def tell_of_far_bounds(policy: Policy) -> None:
    """Says so if the bounds of actions are far from what a fresh policy does: 0, within two standard deviations or so,
    clipped to the bounds."""
    spaces, reach = policy.spaces, 2 * math.exp(policy.config.log_std_init)
    for low, high in zip(spaces.low, spaces.high, strict=True):
        finite = math.isfinite(low) and math.isfinite(high)
        if low > reach or high < -reach or (finite and not reach / 10 < high - low < 10 * reach):
            tell(
                f"{policy.env_id} takes actions from {low:g} to {high:g}, but a fresh policy does 0 +- {reach:.2g}, so "
                "it may not learn; wrap the environment in gymnasium.wrappers.RescaleAction(env, -1, 1)"
            )
            return


def tell_of_flat_pictures(policy: Policy) -> None:
    """Says so if pictures are read as so many numbers, which the policy may have been meant to see."""
    pictures = [part for part in policy.spaces.parts if part.picture]
    if pictures and not policy.encoder.seen:
        numbers = sum(math.prod(part.shape) for part in pictures)
        tell(f"{policy.env_id} shows pictures, which are read as {numbers:,} numbers; --net.encoder cnn would see them")


def tell_of_the_preset(config: PretrainConfig) -> None:
    """Says what Atari's games are usually trained with, where nothing was chosen."""
    if is_ale(config.env_id) and not config.preset and config.ppo == PPOConfig() and not config.env:
        tell(f"{config.env_id} is usually trained with --preset atari, which prepares it and updates otherwise")


def env_seed(seed: int) -> int:
    """Returns a seed far from those of the next run's: environments are seeded with this, this + 1, ..."""
    return int(stream(seed, "envs").integers(2**30))


def new_run(config: FinetuneConfig | PretrainConfig, command: str, what: str, env_id: str, **facts: Any) -> Run:
    """Makes the folder of a run that this command is to train, named after `what` unless the config names one."""
    check_tracker(config.track)
    path = Path(config.out or f"runs/{command}-{what}-{config.seed}")
    make_way(path)
    return Run.create(path, command, config, env_id=env_id, **facts)
