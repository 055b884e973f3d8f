from rlhf_control.rng import stream


def test_streams_repeat_and_differ() -> None:
    draws = {
        tuple(stream(*key).integers(2**60, size=4)) for key in [(0, "a"), (0, "b"), (1, "a"), (0, "a", 1), (0, "a", 2)]
    }
    assert len(draws) == 5
    assert (stream(0, "a", 3).integers(9, size=5) == stream(0, "a", 3).integers(9, size=5)).all()
