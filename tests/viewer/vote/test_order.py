from hypothesis import given
from hypothesis import strategies as st

from rlhf_control.viewer.vote.order import completed, moved, placed, put, ranks_of, without


def test_orders_by_hand() -> None:
    order = put(put(put((), 2, tie=False), 0, tie=False), 1, tie=True)
    assert order == ((2,), (0, 1)) and placed(order) == (2, 0, 1) and ranks_of(order) == (1, 1, 0)
    assert put(order, 0, tie=False) == ((2,), (1,)) and without(order, 2) == ((0, 1),)
    assert put((), 1, tie=True) == ((1,),)  # nothing to tie with
    assert completed(order, 4) == ((2,), (0, 1), (3,)) and completed(order, 5) is None
    assert completed(((0,), (1,)), 2) == ((0,), (1,))


def test_moves_by_hand() -> None:
    order = ((0,), (1,), (2,))
    assert moved(order, 2, 0, tie=False) == ((2,), (0,), (1,))
    assert moved(order, 0, 3, tie=False) == ((1,), (2,), (0,))
    assert moved(order, 0, 1, tie=False) == order  # where it stands
    assert moved(order, 0, 2, tie=True) == ((1,), (2, 0))
    assert moved(order, 0, 0, tie=True) == order  # onto itself
    assert moved(((0, 1), (2,)), 0, 0, tie=False) == ((0,), (1,), (2,))
    assert moved((), 3, 0, tie=False) == ((3,),)


@given(st.data())
def test_whatever_is_moved_no_clip_is_lost_or_doubled(data: st.DataObject) -> None:
    order: tuple[tuple[int, ...], ...] = ()
    for _ in range(data.draw(st.integers(0, 20))):
        clip, tie = data.draw(st.integers(0, 5)), data.draw(st.booleans())
        if data.draw(st.booleans()):
            order = put(order, clip, tie=tie)
        else:
            order = moved(order, clip, data.draw(st.integers(0, len(order))), tie=tie)
        clips = placed(order)
        assert len(set(clips)) == len(clips) and all(order)
    full = completed(order, 6)
    if full is not None:
        ranks = ranks_of(full)
        assert len(ranks) == 6 and sorted(set(ranks)) == list(range(len(full)))
