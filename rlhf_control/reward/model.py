"""The reward model: an ensemble that learns from people's answers about clips.

E ensemble, S clips, Q pairs, B batch, L segment length, O observation, I inputs, M support.
"""

from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlhf_control.config import RewardConfig
from rlhf_control.config.checks import from_dict
from rlhf_control.data import COMPARISON, KINDS, SUCCESS, Answers, Array, Rollout, Segments
from rlhf_control.errors import CorruptFileError, UserError
from rlhf_control.nets.encoders import Encoder
from rlhf_control.nets.policy import check_weights
from rlhf_control.nets.transformer import TokenEncoder
from rlhf_control.reward.answers import ClipInputs, Targets, annotators_in, present
from rlhf_control.reward.critics_view import CriticsView
from rlhf_control.reward.ends import EndCosts
from rlhf_control.reward.ensemble import INPUT_CLIP, initial_layers, mean_over_steps, scores, standardised, zero_layers
from rlhf_control.reward.fit import Fit, fit_ensemble, together
from rlhf_control.reward.inputs import as_read, layer_sizes, parts_of
from rlhf_control.reward.linear import features, weights_from_state
from rlhf_control.reward.seeing import LearnedEncoders, encoders_from_state
from rlhf_control.reward.squares import restandardise
from rlhf_control.reward.unseen import Unseen, novelty_of, usual_distance
from rlhf_control.runs.files import load_state, save_state

MIN_INPUT_STD, MIN_OUTPUT_STD = 1e-3, 1e-2  # what hardly varies in the reference must not be blown up off it
SUPPORT = 512  # steps of the data that stand for all of it in `novelty`
NORMALISERS = ("input_mean", "input_std", "output_mean", "output_std", "support")


class RewardModel:
    """Scores steps. `members` gives every member's opinion in standard deviations of the reference data; `predict`
    their mean. The normalisers, of the inputs and of each member's output, are set by `fit` and frozen between fits.
    """

    def __init__(
        self, obs_size: int, action_size: int, config: RewardConfig, env_id: str = "",
        encoder: Encoder | TokenEncoder | LearnedEncoders | CriticsView | None = None, whole: int = 0,
    ) -> None:  # fmt: skip
        """`encoder`: the critic's view of numbers; or one of pictures or tokens, which the ensemble sees through it as
        the pretrained policy does, for a few answers can hardly teach it to see. It never changes. Unless
        `config.pictures` says otherwise: then networks of its own are learned, and the encoder only says what there is
        to be seen. `whole`: clips are whole episodes, of so many steps at most. Then a clip is worth the sum of its
        steps, as it is to the learner, and the reward's zero is learned: were it moved, longer ones would gain or
        lose."""
        self.obs_size, self.action_size, self.config = obs_size, action_size, config
        self.env_id = env_id  # whose steps it scores; "": not known
        self.usual_distance, self.usual_uncertainty = float("inf"), 0.0  # of steps, and its mean over the reference
        self.weight_decay, self.temperature = config.weight_decay, 1.0
        self.trust: dict[str, float] = {}  # in each annotator, by name, where there are several
        self.ends: EndCosts | None = None  # what answers say that an early end costs, where they are asked
        self.fitted, self.whole = False, whole
        self.device = encoder.device if encoder is not None else torch.device("cpu")
        self._see_through(encoder)

    def _see_through(self, encoder: Encoder | TokenEncoder | LearnedEncoders | CriticsView | None) -> None:
        """Makes networks that say 0, for what this encoder makes of observations (None: their own numbers)."""
        if isinstance(encoder, Encoder) and self.config.pictures != "policy":
            seed = torch.Generator().manual_seed(0)  # until the first fit, which draws its own
            encoder = LearnedEncoders.like(encoder, self.config.pictures, self.config.members, seed)
        if isinstance(encoder, TokenEncoder):  # what was said is the end of what is read next
            self.config = replace(self.config, inputs="next-state")
        config, self.encoder = self.config, encoder if encoder is None else encoder.to_device(self.device)
        if encoder is not None and config.obs_parts:
            raise UserError("reward.obs_parts names numbers of an observation, but here it has pictures; leave it out")
        inputs = self.obs_size if encoder is None else encoder.size
        self.parts = parts_of(config.obs_parts, inputs)
        self.sizes = layer_sizes(inputs, self.action_size, config)
        self.inputs = self.sizes[0] // (2 if config.squares == "on" else 1)
        self.actions = self.action_size if config.inputs == "state-action" else 0  # the last of these
        self.layers = zero_layers(self.sizes, config.members)
        self.linear: Tensor | None = None  # (E, F) weights of a straight line below them
        self.input_mean, self.input_std = torch.zeros(self.inputs), torch.ones(self.inputs)
        self.output_mean, self.output_std = torch.zeros(config.members, 1), torch.ones(config.members, 1)
        self.support = torch.zeros(1, self.inputs)
        left = np.delete(np.arange(inputs), np.concatenate([np.r_[part] for part in self.parts]))
        self.unseen = Unseen(left.tolist()) if len(left) else None

    # -- scoring

    def members(self, steps: Rollout | Segments) -> Array:
        """Returns every member's rewards (E, ...) for steps with leading dimensions (...)."""
        return self._members(self._standardise(self.rows(steps)))

    def predict(self, steps: Rollout | Segments) -> Array:
        """Returns rewards, (...,) float32: mean 0 (but see `whole`), standard deviation about 1 on the last fit's
        reference data, unless only the lowest opinion counts; 0 before the first. A conservative model takes off its
        uncertainty, as far as it is more than on the reference."""
        x = self._standardise(self.rows(steps))
        members = self._members(x)
        reward = members.min(0) if self.config.combine == "worst-case" else members.mean(0)
        if self.config.conservative == 0:
            return reward
        excess = self._uncertainty(x, members, unseen_of(self, steps)) - self.usual_uncertainty
        if self.whole:  # what is surer than usual gains nothing, or more steps would
            excess = np.maximum(excess, 0)
        return reward - np.float32(self.config.conservative) * excess

    def uncertainty(self, steps: Rollout | Segments) -> Array:
        """Returns how uncertain the reward is, (...,) in the units of `predict`: the root of the members' variance plus
        the squared `novelty`. The members alone do not know where they have never been (PPE 2025, figure 1b): beyond
        the input clip they do not change."""
        x = self._standardise(self.rows(steps))
        return self._uncertainty(x, self._members(x), unseen_of(self, steps))

    def novelty(self, steps: Rollout | Segments) -> Array:
        """Returns how far steps are from the last fit's data, (...,): the logarithm of the distance to the nearest of
        SUPPORT of its steps, in units of the usual distance, which 95 % of its other steps do not exceed; 0 up to
        there. What the reward does not see of an observation counts apart, and the farther of both is told."""
        return self._novelty(self._standardise(self.rows(steps)), unseen_of(self, steps))

    def clip_logits(self, clips: Segments) -> Array:
        """Returns logits (E, ...) for clips (..., L): member e prefers clip i to j with probability sigmoid(logit i -
        logit j)."""
        rewards = mean_over_steps(raw_scores(self, self._standardise(self.rows(clips))), weights_of(self, clips))
        return (self.config.logit_scale * rewards / self.temperature).numpy()

    def probability(self, pairs: Segments) -> Array:
        """Returns each member's probability (E, Q) that the first clip of each pair (Q, 2, L, ...) is preferred."""
        logits = self.clip_logits(pairs)
        return np.exp(-np.logaddexp(0, logits[..., 1] - logits[..., 0]))

    def trust_in(self, answers: Answers) -> Array:
        """Returns how far the annotator of each answer (Q,) is trusted, from -1 to 1; 1 for those never met."""
        names = [""] * len(answers) if answers.annotator is None else answers.annotator.tolist()
        return np.array([self.trust.get(name, 1.0) for name in names])

    def rows(self, steps: Rollout | Segments) -> Tensor:
        """Returns raw inputs (..., I). Raises UserError for steps of another environment."""
        obs, action = seen_of(self, steps)
        if self.encoder is not None:
            obs = self.encoder.without_gradients(self.encoder.prepare(obs)).cpu().numpy()
        columns = [obs[..., part] for part in self.parts]
        return torch.from_numpy(np.concatenate([*columns, action], -1, dtype=np.float32))

    def _standardise(self, rows: Tensor) -> Tensor:
        return (rows - self.input_mean) / self.input_std

    def _members(self, x: Tensor) -> Array:
        """(E, ...) for standardised inputs (..., I)."""
        out = raw_scores(self, x).flatten(1)
        return standardised(out, self.output_mean, self.output_std).reshape(-1, *x.shape[:-1]).numpy()

    def _uncertainty(self, x: Tensor, members: Array, unseen: Tensor | None) -> Array:
        return np.sqrt(members.var(0) + np.square(self._novelty(x, unseen)))

    def _novelty(self, x: Tensor, unseen: Tensor | None) -> Array:
        seen = novelty_of(x, self.support, self.usual_distance)
        if self.unseen is not None and unseen is not None:
            seen = seen.maximum(self.unseen.novelty(unseen))
        return seen.numpy()

    # -- learning

    def fit(self, answers: Answers, reference: Segments, rng: np.random.Generator) -> dict[str, float]:
        """Learns from answers of any kinds, and returns losses, accuracies and calibration, seen and held out, and the
        mean uncertainty about the reference.

        `reference` (S, L, ...) is what the policy does and has done lately; inputs and outputs are standardised on it.
        """
        warm = self.config.start == "warm" and self.fitted
        if isinstance(self.encoder, LearnedEncoders):
            fit = learn_to_see(self, self.encoder, answers, rng, warm=warm)
        clip_rows = self.rows(answers.clips)
        reference_rows, shown_rows = present(self.rows(reference), reference), present(clip_rows, answers.clips)
        everything = torch.cat([reference_rows, shown_rows])
        if not isinstance(self.encoder, LearnedEncoders):
            self._standardise_on(everything, keep_function=warm)
            fit = learn(self, self._standardise(clip_rows), answers, rng, warm=warm)
        self.weight_decay, self.temperature, self.linear = fit.weight_decay, fit.temperature, fit.linear
        self.trust = dict(zip(annotators_in(answers)[0], fit.trust, strict=False))

        x = self._standardise(reference_rows)
        out = raw_scores(self, x)
        self.output_mean = torch.zeros_like(out[:, :1]) if self.whole else out.mean(1, keepdim=True)
        self.output_std = out.std(1, keepdim=True).clamp(min=MIN_OUTPUT_STD)
        some = torch.from_numpy(rng.permutation(len(everything))[: 2 * SUPPORT])
        self.support, fresh = self._standardise(everything[some]).tensor_split(2)
        self.usual_distance = usual_distance(fresh, self.support)
        unseen = None
        if self.unseen is not None:
            unseen, shown = (present(self.unseen.rows(seen_of(self, c)[0]), c) for c in (reference, answers.clips))
            self.unseen.fit(torch.cat([unseen, shown]), some)
        members = standardised(out, self.output_mean, self.output_std).numpy()
        self.usual_uncertainty = float(self._uncertainty(x, members, unseen).mean())
        self.fitted = True
        return fit.metrics | {"uncertainty": self.usual_uncertainty}

    def _standardise_on(self, rows: Tensor, *, keep_function: bool) -> None:
        """New input normalisers, from rows (B, I); on request the first layer takes up the change."""
        mean, std = rows.mean(0), rows.std(0).clamp(min=MIN_INPUT_STD)
        if keep_function:
            scale, shift = std / self.input_std, (mean - self.input_mean) / self.input_std
            weight, bias = self.layers[0]
            if self.config.squares == "on":
                restandardise(weight, bias, scale, shift)
            else:
                bias += (shift @ weight)[:, None]
                weight *= scale[:, None]
        self.input_mean, self.input_std = mean, std

    # -- files

    def save(self, path: str | Path) -> None:
        """Writes one sealed .npz with all that `load` needs; no pickle."""
        facts = {"kind": "reward model", "obs_size": self.obs_size, "action_size": self.action_size}
        save_state(path, {**facts, "env_id": self.env_id, "config": asdict(self.config), **self.state()})

    @classmethod
    def load(cls, path: str | Path, env_id: str = "") -> "RewardModel":
        """Reads what `save` wrote. Raises CorruptFileError for a file that is damaged or something else, and UserError
        if the model is for another environment than `env_id`."""
        state = load_state(path)
        if state.get("kind") != "reward model":
            raise CorruptFileError(f"{path} is not a reward model; give a file that RewardModel.save wrote")
        try:
            sizes, config = (state["obs_size"], state["action_size"]), from_dict(RewardConfig, state["config"])
            encoder = encoders_from_state(state["encoder"]) if "encoder" in state else None
            seen = (encoder.size if encoder else sizes[0], sizes[1])
            for i, (n_in, n_out) in enumerate(pairwise(layer_sizes(*seen, config))):  # no more than the file has
                if state["layers"][f"{i}.weight"].shape != (config.members, n_in, n_out):
                    raise ValueError(f"{i}.weight is {state['layers'][f'{i}.weight'].shape}")
            check_weights({**state["layers"], **state["normaliser"], **(encoder.state_dict() if encoder else {})})
            own, whole = str(state.get("env_id", "")), int(state.get("whole", 0))  # older files do not say
            model = cls(*sizes, config, own, encoder, whole)
            model.load_state(state)
        except (KeyError, ValueError, TypeError, AttributeError, IndexError, RuntimeError, OverflowError) as error:
            raise CorruptFileError(f"{path} is not a whole reward model ({error!r}); use another copy") from error
        check_env(model, env_id)
        return model

    def state(self) -> dict[str, Any]:
        tensors = {f"{i}.weight": w for i, (w, _) in enumerate(self.layers)}
        tensors |= {f"{i}.bias": b for i, (_, b) in enumerate(self.layers)}
        return (
            {
                "layers": {name: tensor.numpy().copy() for name, tensor in tensors.items()},
                "normaliser": {name: getattr(self, name).numpy().copy() for name in NORMALISERS},
                "usual": [self.usual_distance, self.usual_uncertainty],
                "weight_decay": self.weight_decay,
                "temperature": self.temperature,
                "fitted": self.fitted,
            }
            | ({"encoder": self.encoder.state()} if self.encoder is not None else {})
            | ({"linear": self.linear.numpy().copy()} if self.linear is not None else {})
            | ({"trust": dict(self.trust)} if self.trust else {})
            | ({"ends": self.ends.state()} if self.ends is not None else {})
            | ({"whole": self.whole} if self.whole else {})
            | ({"unseen": self.unseen.state()} if self.unseen is not None else {})
        )

    def load_state(self, state: dict[str, Any]) -> None:
        """Raises KeyError or ValueError for the state of another model."""
        self.whole = int(state.get("whole", 0))
        if "encoder" in state:
            self._see_through(encoders_from_state(state["encoder"]))
        expected = self.state()
        for group in ("layers", "normaliser"):
            shapes = [{name: array.shape[-1:] if name == "support" else array.shape for name, array in s[group].items()}
                      for s in (expected, state)]  # fmt: skip
            if shapes[0] != shapes[1]:
                raise ValueError(f"the {group} have shapes {shapes[1]} where the model has {shapes[0]}")
        arrays = {name: torch.from_numpy(a.copy()) for name, a in {**state["layers"], **state["normaliser"]}.items()}
        self.layers = [(arrays[f"{i}.weight"], arrays[f"{i}.bias"]) for i in range(len(self.layers))]
        for name in NORMALISERS:
            setattr(self, name, arrays[name])
        self.linear = weights_from_state(state, self.config.members, self.inputs, self.actions)
        self.usual_distance, self.usual_uncertainty = state["usual"]
        self.weight_decay, self.temperature = state["weight_decay"], state["temperature"]
        self.fitted = state["fitted"]
        self.trust = {str(name): float(trust) for name, trust in state.get("trust", {}).items()}
        if self.ends is not None and "ends" in state:  # else they were treated otherwise until now
            self.ends.load_state(state["ends"])
        if self.unseen is not None and "unseen" in state:  # older files have none
            self.unseen.load_state(state["unseen"])


def raw_scores(model: RewardModel, x: Tensor) -> Tensor:
    """Returns every member's (E, ...), in units of the networks' outputs, for standardised inputs (..., I)."""
    out = scores(model.layers, as_read(x, model.config))
    if model.linear is None:
        return out
    line = features_of(model, x) @ model.linear.T / model.config.logit_scale
    return out + line.movedim(-1, 0)


def features_of(model: RewardModel, x: Tensor) -> Tensor:
    """Returns what the line weighs of standardised inputs (..., I), (..., F)."""
    return features(x, model.input_mean, model.input_std, model.actions, INPUT_CLIP)


def seen_of(model: RewardModel, steps: Rollout | Segments) -> tuple[Array, Array]:
    """Returns observations (..., O) as they are, and actions (..., A) float32, with A = 0 if they do not count. Raises
    UserError for steps of another environment."""
    action = steps.executed if isinstance(steps, Rollout) else steps.action
    if (steps.obs.shape[-1], action.shape[-1]) != (model.obs_size, model.action_size):
        raise UserError(
            f"the reward model is for observations of {model.obs_size} and actions of {model.action_size} numbers; "
            f"these have {steps.obs.shape[-1]} and {action.shape[-1]}"
        )
    obs = steps.next_obs if model.config.inputs == "next-state" else steps.obs
    counts = model.config.inputs == "state-action"
    return obs, (action if counts else action[..., :0]).astype(np.float32, copy=False)


def unseen_of(model: RewardModel, steps: Rollout | Segments) -> Tensor | None:
    """Returns what the reward does not see of steps, (..., U); None: nothing."""
    return None if model.unseen is None else model.unseen.rows(seen_of(model, steps)[0])


def weights_of(model: RewardModel, clips: Segments) -> Tensor | None:
    """Returns what each step (..., L) of clips counts for; None: all alike."""
    mask = clips.mask
    if not model.whole:
        return None if mask is None else torch.from_numpy(mask)
    there = np.ones(clips.env_reward.shape, bool) if mask is None else mask
    return torch.from_numpy(there.astype(np.float32) / np.float32(model.whole))


def learn(
    model: RewardModel, x: Tensor, answers: Answers, rng: np.random.Generator, *, warm: bool,
    sight: LearnedEncoders | None = None,
) -> Fit:  # fmt: skip
    """Fits the ensemble, from its weights if it is `warm`, to answers about clips of these inputs (S, L, I)."""
    weights, marked = weights_of(model, answers.clips), (answers.kind == KINDS.index(SUCCESS)).any()
    line = model.config.linear == "on" and model.config.lapse < 1 and sight is None and not marked  # speak of steps
    if not warm:
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        model.layers = initial_layers(model.sizes, model.config.members, generator)
    if line:  # the networks add nothing to it, to begin with
        model.layers[-1] = zero_layers(model.sizes[-2:], model.config.members)[0]
    means = mean_over_steps(features_of(model, x).movedim(-1, 0), weights).T if line else None
    shown = ClipInputs(x if sight is not None else as_read(x, model.config), weights, means)
    return fit_ensemble(model.layers, shown, Targets.of(answers), model.weight_decay, model.config, rng, sight)


def learn_to_see(
    model: RewardModel, sight: LearnedEncoders, answers: Answers, rng: np.random.Generator, *, warm: bool
) -> Fit:
    """Fits the networks that see with the ensemble. What they make of pictures is not standardised."""
    if not warm:
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        sight = LearnedEncoders.like(sight.encoders[0], sight.shared, sight.members, generator)  # type: ignore[arg-type]
        sight.to_device(model.device)
    obs, action = seen_of(model, answers.clips)
    x = together(sight.prepare(obs), torch.from_numpy(action))
    fit = learn(model, x, answers, rng, warm=warm, sight=sight)
    model.encoder = sight.requires_grad_(False)
    (weight, bias), *rest = model.layers
    model.layers = [(weight * sight.mask(action.shape[-1]), bias), *rest]
    return fit


def check_env(model: RewardModel, env_id: str) -> None:
    """Raises UserError for another environment than the model's: equal sizes are not enough (HalfCheetah's and
    Walker2d's are). Passes where either is not known."""
    own, other = (name.rpartition(":")[2] for name in (model.env_id, env_id))  # without the MODULE of MODULE:ID
    if own and other and own != other:
        raise UserError(
            f"the reward model is for {model.env_id}, not for {env_id}; learn one for {env_id}, or, if they observe "
            'and act alike, set its env_id to ""'
        )


def comparisons(pairs: Segments, target: Array) -> Answers:
    """Makes answers of pairs (Q, 2, L, ...) with targets (Q,), 1 where the first is preferred, 0 the second, 1/2 for a
    tie."""
    clips = Segments(**{name: a.reshape(-1, *a.shape[2:]) for name, a in pairs.arrays().items()})
    ranks = np.stack([target < 0.5, target > 0.5], 1).astype(np.int64)
    kind = np.full(len(target), KINDS.index(COMPARISON))
    return Answers(clips, np.arange(len(clips)).reshape(-1, 2), ranks, kind, np.full(len(target), np.nan))
