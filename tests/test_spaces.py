import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, Tuple
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_control.errors import UserError
from rlhf_control.spaces import Part, Spaces, entry, leaves, numbers_of, packing, texts

LEAVES = st.sampled_from([
    Box(0, 255, (8, 9, 3), np.uint8), Box(-1, 1, (3,), np.float32), Box(-5, 5, (2, 2), np.float64),
    Box(-9, 9, (4,), np.int64), Box(0, 1, (2,), np.bool_), Discrete(3, start=1), MultiBinary(2),
])  # fmt: skip
KEYS = st.sampled_from(["a", "b", "c/d", "0"])
SPACES = st.recursive(
    LEAVES,
    lambda inner: (
        st.dictionaries(KEYS, inner, min_size=1).map(Dict) | st.lists(inner, min_size=1, max_size=3).map(Tuple)
    ),
    max_leaves=5,
)


@settings(max_examples=50, deadline=None)
@given(SPACES, st.integers(0, 100))
def test_what_is_packed_is_unpacked(space: gymnasium.Space, seed: int) -> None:
    space.seed(seed)
    packed_space, pack = packing(space)
    spaces, obs = Spaces.of(packed_space, Discrete(2)), space.sample()
    packed = spaces.flat(pack(obs)[None])
    assert packed.shape == (1, spaces.obs_size) and packed.dtype == spaces.obs_dtype
    assert Spaces.from_state(spaces.state()) == spaces
    found = list(leaves(space))
    assert len(spaces.parts) == len(found)
    for part, (path, leaf) in zip(spaces.parts, found, strict=True):
        expected = entry(obs, path) if isinstance(leaf, Box) else gymnasium.spaces.flatten(leaf, entry(obs, path))
        np.testing.assert_array_equal(part.read(packed)[0], np.asarray(expected).astype(part.dtype))


def test_parts_keep_their_dtypes_side_by_side_as_bytes() -> None:
    space = Dict(camera=Box(0, 255, (8, 8, 3), np.uint8), arm=Box(-1, 1, (3,), np.float32), gear=Discrete(2))
    spaces = Spaces.of(packing(space)[0], Discrete(2))
    assert [(p.name, p.dtype, p.start, p.stop, p.picture) for p in spaces.parts] == [
        ("camera", "uint8", 0, 192, True), ("arm", "float32", 192, 204, False), ("gear", "float32", 204, 212, False),
    ]  # fmt: skip
    assert spaces.obs_dtype == "uint8" and spaces.obs_size == 212


def test_a_policy_of_before_there_were_dtypes_fits() -> None:
    now = Spaces.of(Box(0, 255, (4,), np.uint8), Discrete(2))
    before = Spaces.from_state({"obs_shape": [4], "action_kind": "discrete", "action_shape": [2]})
    assert before != now and before.fits(now) and not before.fits(Spaces.of(Box(0, 1, (5,)), Discrete(2)))


@settings(max_examples=30, deadline=None)
@given(SPACES, st.integers(0, 100))
def test_what_is_flattened_is_packed(space: gymnasium.Space, seed: int) -> None:
    """So is what a policy of before saw: float32 numbers side by side."""
    space.seed(seed)
    packed_space, pack = packing(space)
    spaces, obs = Spaces.of(packed_space, Discrete(2)), space.sample()
    flat = gymnasium.spaces.flatten(space, obs).reshape(1, -1)
    assert flat.shape == (1, spaces.numbers)
    packed = spaces.packed(flat)
    np.testing.assert_array_equal(packed, spaces.flat(pack(obs)[None]))
    np.testing.assert_array_equal(numbers_of(spaces.parts, packed), flat.astype(np.float32))
    before = Spaces.from_state({"obs_shape": [spaces.numbers], "action_kind": "discrete", "action_shape": [2]})
    if not isinstance(space, Box):
        assert before == spaces.before and before.fits(spaces)


def test_spaces_without_a_packed_form_are_refused() -> None:
    with pytest.raises(UserError, match="flatten to a Box"):
        packing(Dict(a=gymnasium.spaces.Sequence(Discrete(2))))

    class Odd(gymnasium.Space):
        """A space that Gymnasium cannot flatten."""

    with pytest.raises(UserError, match="flatten to a Box"):
        packing(Dict(a=Odd(dtype=object)))


class Mission(gymnasium.Space):
    """A space of sentences of an environment's own, which Gymnasium cannot flatten."""

    def __init__(self) -> None:
        super().__init__(dtype=str)


def test_texts_are_left_out() -> None:
    space = Dict(
        image=Box(0, 255, (8, 8, 3), np.uint8), mission=Mission(), more=Tuple([Discrete(3), gymnasium.spaces.Text(9)])
    )
    packed, pack = packing(space)
    spaces = Spaces.of(packed, Discrete(2))
    assert [part.name for part in spaces.parts] == ["image", "more/0"]
    assert texts(space) == ["mission", "more/1"]
    image = np.full((8, 8, 3), 7, np.uint8)
    obs = spaces.flat(pack({"image": image, "mission": "go to the door", "more": (2, "now")})[None])
    np.testing.assert_array_equal(numbers_of(spaces.parts, obs)[0], [*image.ravel(), 0, 0, 1])


def test_nothing_but_text_is_refused() -> None:
    for space in (gymnasium.spaces.Text(5), Dict(mission=Mission())):
        with pytest.raises(UserError, match="give the policy something to see"):
            packing(space)


def test_a_picture_alone_in_a_dict_is_still_one() -> None:
    space, _ = packing(Dict(camera=Box(0, 255, (8, 8, 3), np.uint8)))
    assert [part.picture for part in Spaces.of(space, Discrete(2)).parts] == [True]


@pytest.mark.parametrize(
    "shape, picture",
    [
        ((84, 84), True),
        ((84, 84, 3), True),
        ((4, 84, 84), True),
        ((84,), False),
        ((20, 20), False),
        ((64, 64, 8), False),
    ],
)
def test_floats_that_can_but_be_a_picture(shape: tuple[int, ...], picture: bool) -> None:
    assert Part("", shape, "float32", 0, 1).float_picture is picture
    assert not Part("", shape, "uint8", 0, 1).float_picture
