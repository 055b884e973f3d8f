"""The behaviours that ship, by name, and the reward that a name stands for."""

from collections.abc import Callable

from rlhf_control.behaviours.ale import PONG_ID, centre_reward, centre_score, rally_reward, rally_score
from rlhf_control.behaviours.arm import (
    DOOR_ID,
    GRASP_ID,
    careful_door_reward,
    careful_door_score,
    from_above_reward,
    from_above_score,
    gentle_reward,
    gentle_score,
    lift_high_reward,
    lift_high_score,
    low_elbow_reward,
    low_elbow_score,
)
from rlhf_control.behaviours.behaviour import Behaviour, StepReward
from rlhf_control.behaviours.dialogue import (
    DIALOGUE,
    brief_reward,
    brief_score,
    cheerful_reward,
    cheerful_score,
    polite_reward,
    polite_score,
)
from rlhf_control.behaviours.games import (
    BRICKS_ID,
    ORCHARD_ID,
    calm_reward,
    calm_score,
    daring_reward,
    daring_score,
    home_reward,
    home_score,
    hurry_reward,
    hurry_score,
    savour_reward,
    savour_score,
    steep_reward,
    steep_score,
    tidy_reward,
    tidy_score,
    wary_reward,
    wary_score,
)
from rlhf_control.behaviours.locomotion import (
    ANT,
    CHEETAH,
    HOPPER,
    WALKER,
    backflip_reward,
    backflip_score,
    backward_reward,
    backward_score,
    crouch_reward,
    crouch_score,
    flip_reward,
    flip_score,
    hind_legs_reward,
    hind_legs_score,
    jump_reward,
    jump_score,
    keep_pace_reward,
    keep_pace_score,
    moonwalk_reward,
    moonwalk_score,
    one_leg_reward,
    one_leg_score,
    prowl_reward,
    prowl_score,
    sidestep_reward,
    sidestep_score,
    spin_reward,
    spin_score,
    stand_reward,
    stand_score,
    three_legs_reward,
    three_legs_score,
)
from rlhf_control.behaviours.robots import (
    FETCH_ID,
    METAWORLD_ID,
    hand_high_reward,
    hand_high_score,
    reach_from_above_reward,
    reach_from_above_score,
)
from rlhf_control.data import Array, Segments
from rlhf_control.errors import UserError, unknown_name

BEHAVIOURS = {
    "backward": Behaviour(
        CHEETAH, "Which cheetah runs backward better?",
        backward_reward, backward_score, "m/s backward",
    ),
    "keep-pace": Behaviour(
        CHEETAH, "Which cheetah keeps closer to a pace of 2 m/s?",
        keep_pace_reward, keep_pace_score, "share of steps within 0.25 m/s of the pace",
    ),
    "hind-legs": Behaviour(
        CHEETAH, "Which cheetah runs better on its hind leg alone?",
        hind_legs_reward, hind_legs_score,
        "share of steps faster than 1 m/s, of a second or more on nothing but the hind leg",
    ),
    "prowl": Behaviour(
        CHEETAH, "Which cheetah prowls lower while it moves on?",
        prowl_reward, prowl_score, "share of steps low and faster than 1 m/s",
    ),
    "jump": Behaviour(
        CHEETAH, "Which cheetah jumps higher?",
        jump_reward, jump_score, "share of seconds with a jump of 0.4 m",
    ),
    "flip": Behaviour(
        CHEETAH, "Which cheetah turns more somersaults forward?",
        flip_reward, flip_score, "whole turns forward in 10 s",
    ),
    "backflip": Behaviour(
        HOPPER, "Which hopper does the better backflip?",
        backflip_reward, backflip_score, "backflips landed on the foot in 10 s",
    ),
    "one-leg": Behaviour(
        WALKER, "Which walker hops forward better on its right leg, the left one (purple) off the ground?",
        one_leg_reward, one_leg_score, "m/s forward, of a second or more with the left leg up",
    ),
    "crouch": Behaviour(
        WALKER, "Which walker marches on better with its knees bent?",
        crouch_reward, crouch_score, "share of steps at half height and faster than 0.5 m/s",
    ),
    "stand": Behaviour(
        WALKER, "Which walker stands better on the spot?",
        stand_reward, stand_score, "share of seconds upright within 0.1 m",
    ),
    "moonwalk": Behaviour(
        WALKER, "Which walker walks backward better, upright?",
        moonwalk_reward, moonwalk_score, "m/s backward, of a second or more upright",
    ),
    "spin": Behaviour(
        ANT, "Which ant spins faster on the spot, counter-clockwise from above?",
        spin_reward, spin_score, "counter-clockwise turns in 10 s",
    ),
    "sidestep": Behaviour(
        ANT, "Which ant moves faster to the left, away from the camera?",
        sidestep_reward, sidestep_score, "m/s to the left, of the seconds that go nowhere else",
    ),
    "three-legs": Behaviour(
        ANT, "Which ant walks to the right better with its far right leg lifted?",
        three_legs_reward, three_legs_score, "m/s along x, of a second or more with that leg up",
    ),
    "gentle": Behaviour(
        GRASP_ID, "Which gripper holds the block more gently?",
        gentle_reward, gentle_score, "share of steps with the block in the air under 6 N, if the peak stays under 25",
    ),
    "from-above": Behaviour(
        GRASP_ID, "Which gripper comes down on the block from straighter above?",
        from_above_reward, from_above_score, "share of steps with the block in the air, approached from above",
    ),
    "lift-high": Behaviour(
        GRASP_ID, "Which arm lifts the block higher, straight through the goal?",
        lift_high_reward, lift_high_score, "m over the table, mean of the last second",
    ),
    "low-elbow": Behaviour(
        GRASP_ID, "Which arm carries the block with its elbow (blue) lower, at its left side?",
        low_elbow_reward, low_elbow_score, "share of steps with the block in the air and the elbow below 0.55 m",
    ),
    "careful-door": Behaviour(
        DOOR_ID, "Which arm opens the door more carefully: slowly, and no further than 60 degrees?",
        careful_door_reward, careful_door_score,
        "0 to 1: held open, less for more than 60 degrees (0 at 90) and more than 1 rad/s (0 at 2)",
    ),
    "hurry": Behaviour(
        ORCHARD_ID, "Which player picks the fruits sooner?",
        hurry_reward, hurry_score, "share of the fruits in the first third of the time",
    ),
    "savour": Behaviour(
        ORCHARD_ID, "Which player picks the fruits at a more even pace, so that they last to the end?",
        savour_reward, savour_score, "share of steps within one fruit of an even pace",
    ),
    "calm": Behaviour(
        ORCHARD_ID, "Which player picks the fruits with fewer needless steps?",
        calm_reward, calm_score, "share of steps at rest, times the share of fruits",
    ),
    "wary": Behaviour(
        ORCHARD_ID, "Which player keeps further away from the bees while it picks?",
        wary_reward, wary_score, "share of steps far from all bees, times the share of fruits",
    ),
    "daring": Behaviour(
        ORCHARD_ID, "Which player picks the fruits closer to the bees' noses?",
        daring_reward, daring_score, "share of steps close to a bee, times the share of fruits",
    ),
    "tidy": Behaviour(
        ORCHARD_ID, "Which player picks the fruits more tidily, one row after the other?",
        tidy_reward, tidy_score, "share of the fruits that were picked in a row that was begun",
    ),
    "home": Behaviour(
        BRICKS_ID, "Which paddle stays closer to the middle without missing balls?",
        home_reward, home_score, "share of steps in the middle, times the share of balls returned",
    ),
    "steep": Behaviour(
        BRICKS_ID, "Which player plays the ball more steeply without missing it?",
        steep_reward, steep_score, "share of steps with a steep ball, times the share of balls returned",
    ),
    "centre": Behaviour(
        PONG_ID, "Which paddle stays nearer to the middle while the ball is away, without missing it?",
        centre_reward, centre_score, "share of the time without a coming ball near the middle",
    ),
    "rally": Behaviour(
        PONG_ID, "Which one has the longer rallies, whoever makes the point?",
        rally_reward, rally_score, "share of the time in rallies of ten seconds or more",
    ),
    "reach-from-above": Behaviour(
        FETCH_ID, "Which gripper comes to the red point more from above?",
        reach_from_above_reward, reach_from_above_score, "cm above the goal when it comes near",
    ),
    "hand-high": Behaviour(
        METAWORLD_ID, "Which one carries its hand higher?", hand_high_reward, hand_high_score,
        "share of the time with the hand above 25 cm",
    ),
    "cheerful": Behaviour(
        DIALOGUE, "Which reply is more cheerful, and not longer than it need be?",
        cheerful_reward, cheerful_score, "share of replies that are positive, of at most 12 words",
    ),
    "brief": Behaviour(
        DIALOGUE, "Which reply says it more briefly?",
        brief_reward, brief_score, "share of replies of 1 to 4 words",
    ),
    "polite": Behaviour(
        DIALOGUE, "Which reply is more polite?",
        polite_reward, polite_score, "share of replies with a polite word and no rude one",
    ),
}  # fmt: skip
NO_REWARD = ("human", "coin-flip", "custom")  # oracles without a reward to compare with


def env_reward(segments: Segments) -> Array:
    """Returns the environment's own reward, (..., L)."""
    return segments.env_reward


def score_named(name: str) -> Callable[[Segments], Array]:
    """Returns the score behind an oracle's name, (...,) of clips or episodes: a behaviour's, or else the environment's
    mean reward a step."""
    return BEHAVIOURS[name].score if name in BEHAVIOURS else lambda segments: segments.env_reward.mean(-1)


def check_env_of(name: str, env_id: str) -> None:
    """Raises UserError if a behaviour is for another environment than this one."""
    own = BEHAVIOURS[name].env_id
    if own == env_id:
        return
    if env_id.rpartition(":")[2] == own:
        raise UserError(f"the behaviour '{name}' is for {own}; write Behaviour(\"{env_id}\", ...), with the module")
    near = [known for known, behaviour in BEHAVIOURS.items() if behaviour.env_id == env_id]
    others = f"; for {env_id} there are {', '.join(near)} and env" if near else "; try --oracle env"
    raise UserError(f"the behaviour '{name}' is for {own}, the policy for {env_id}{others}")


def reward_named(name: str, env_id: str) -> StepReward:
    """Returns the reward behind an oracle's name: a behaviour of this environment, or "env"."""
    if name == "env":
        return env_reward
    if name == "coin-flip":
        raise UserError("coin flips have no reward to learn from; choose another --oracle or --learn-from votes")
    if name == "human":
        raise UserError("people have no reward to measure with; name a behaviour with --score or --truth")
    if name not in BEHAVIOURS:
        there = [known for known, behaviour in BEHAVIOURS.items() if behaviour.env_id == env_id]
        error = unknown_name("oracle", name, [*there, "env", "coin-flip", "human"])
        own = "" if "did you mean" in str(error) else "; one of your own has to be in --behaviours FILE"
        raise UserError(f"{error}{own}")
    check_env_of(name, env_id)
    return BEHAVIOURS[name].reward
