from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_control.data import Rollout, Segments
from rlhf_control.errors import UserError
from rlhf_control.queries import segments as module
from rlhf_control.queries.segments import Ends, SegmentBank, cut_segments, join
from rlhf_control.runs.progress import say_once
from tests.conftest import random_rollout


@given(st.integers(0, 2**31), st.integers(2, 8), st.integers(8, 40), st.floats(0, 0.3))
def test_segments_never_cross_an_end_and_keep_their_rows(seed: int, length: int, T: int, ends: float) -> None:
    rng = np.random.default_rng(seed)
    rollout = random_rollout(rng, T=T, ends=ends)
    try:
        segments = cut_segments(rollout, length, rng)
    except UserError:
        assert ends > 0
        return
    starts = set()
    for i in range(len(segments)):
        t, n = np.argwhere((rollout.obs == segments[i].obs[0]).all(-1))[0]
        assert not rollout.done[t : t + length - 1, n].any()
        for name, array in rollout.as_segments().arrays().items():
            np.testing.assert_array_equal(segments[i].arrays()[name], array[t : t + length, n])
        starts.add((n, t))
    assert len(starts) == len(segments)
    for n, t in starts:  # end to end, so no two overlap
        assert not any((n, t + k) in starts for k in range(1, length))


def test_every_offset_is_used() -> None:
    rollout = random_rollout(np.random.default_rng(0), T=20, N=1, ends=0)
    first = {float(cut_segments(rollout, 6, np.random.default_rng(i)).obs[0, 0, 0]) for i in range(60)}
    assert first == set(rollout.obs[:6, 0, 0].tolist())


def test_too_short_stretches_are_refused() -> None:
    with pytest.raises(UserError, match="clip-seconds"):
        cut_segments(random_rollout(np.random.default_rng(0), T=5), 6, np.random.default_rng(0))


def test_the_bank_cuts_clips_longer_than_a_rollout() -> None:
    rng = np.random.default_rng(0)
    bank = SegmentBank(length=30, num_envs=3, num_steps=10, clips=6)
    for _ in range(bank.first_full + 1):
        bank.add(random_rollout(rng, T=10, ends=0))
    assert bank.first_full == 8  # nine rollouts of ten steps: three clips, less one for the offset, of each environment
    for i in range(50):
        assert len(bank.recent(np.random.default_rng(i))) >= 6
    assert bank.recent(rng).obs.shape[1:] == (30, 17)
    last = {float(x) for x in join(bank.rollouts[-3:]).obs[..., 0].ravel()}
    assert {float(x) for x in bank.newest(rng).obs[..., 0].ravel()} <= last


@pytest.mark.parametrize(("T", "limit"), [(128, 200), (64, 100), (45, 46), (128, 1000)])
def test_there_are_clips_enough_where_a_time_limit_ends_episodes(T: int, limit: int) -> None:
    bank, rng = SegmentBank(length=45, num_envs=3, num_steps=T, clips=24, time_limit=limit), np.random.default_rng(0)
    least = []
    for i in range(bank.first_full + 30):
        ends = (np.arange(i * T, (i + 1) * T) + 1) % limit == 0
        rollout = random_rollout(rng, T=T, ends=0)
        nothing = np.zeros_like(rollout.terminated)
        columns = vars(replace(rollout, truncated=nothing | ends[:, None], terminated=nothing)) | {
            "next_obs": rollout.obs
        }
        del columns["successors"]
        bank.add(Rollout.of(**columns))
        least.append(min(len(bank.recent(np.random.default_rng(k))) for k in range(5)) if i >= bank.first_full else 99)
    assert min(least) >= 24


def test_clips_longer_than_episodes_are_refused() -> None:
    with pytest.raises(UserError, match=r"never 6 clips of 30 steps in episodes of 20; shorten --clip-seconds"):
        SegmentBank(length=30, num_envs=3, num_steps=10, clips=6, time_limit=20)


def test_too_many_clips_are_no_matter_of_their_length() -> None:
    with pytest.raises(UserError, match=r"asks about 25,000,000 clips of 30 steps at once; lower --labels"):
        SegmentBank(length=30, num_envs=16, num_steps=128, clips=25_000_000, time_limit=1000)


def test_the_pool_is_half_recent_half_older() -> None:
    rng = np.random.default_rng(0)
    bank = SegmentBank(length=5, num_envs=3, num_steps=20, clips=6, capacity=40)
    bank.keep = 1
    seen = []
    for i in range(6):
        rollout = random_rollout(rng, T=20, ends=0)
        bank.add(rollout)
        pool, _ = bank.pool(rng)
        recent = {float(x) for x in join(bank.rollouts).obs[..., 0].ravel()}
        share = np.mean([float(o) in recent for o in pool.obs[:, 0, 0]])
        assert share == (1.0 if i == 0 else 0.5)
        bank.archive(rng)
        seen.append(len(bank.older or []))
    assert max(seen) == 40  # the capacity holds


def ending(rollout: Rollout, every: int, before: int = 0) -> Rollout:
    """The same steps, in which an episode ends after each `every` steps, once `before` are over."""
    t = np.arange(len(rollout.obs)) - before
    ends = np.broadcast_to(((t + 1) % every == 0) & (t >= 0), rollout.reward.T.shape).T
    columns = {**vars(rollout), "terminated": ends, "truncated": np.zeros_like(ends), "next_obs": rollout.next_obs}
    del columns["successors"]
    return Rollout.of(**columns)


def random_bank(rng: np.random.Generator, archived: int) -> SegmentBank:
    """With some older clips of five steps, and recent episodes of three steps."""
    bank = SegmentBank(length=5, num_envs=3, num_steps=20, clips=6, capacity=archived)
    bank.keep = 1
    bank.add(random_rollout(rng, ends=0))
    for _ in range(2):
        bank.archive(rng)
    bank.add(ending(random_rollout(rng, ends=0), 3))
    return bank


def test_older_clips_stand_in_where_no_recent_one_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    say_once.cache_clear()
    bank = random_bank(np.random.default_rng(0), 15)
    assert bank.older is not None and len(bank.older) == 15
    for seed in range(2):
        pool, recent = bank.pool(np.random.default_rng(seed), 12)
        assert recent == 0 and len(pool) == 12 and len({pool[i].digest() for i in range(12)}) == 12
    told = capsys.readouterr().err
    assert told.count("too few recent clips of 5 steps are whole") == told.count("older ones stand in") == 1
    before = bank.older.digest()
    bank.archive(np.random.default_rng(0))  # nothing to put among them
    assert bank.older.digest() == before


def test_as_many_older_clips_stand_in_as_are_wanted() -> None:
    bank = random_bank(np.random.default_rng(0), 15)
    bank.add(ending(random_rollout(np.random.default_rng(1), ends=0), 3, before=10))
    few, recent = bank.pool(np.random.default_rng(2))
    assert len(few) == 2 * recent > 0
    more, same = bank.pool(np.random.default_rng(2), 14)
    assert same == recent and len(more) == 14
    assert more[np.arange(len(few))].digest() == few.digest()  # the same draws, and more of them
    for wanted in range(2 * recent + 1):
        assert bank.pool(np.random.default_rng(2), wanted)[0].digest() == few.digest()


def test_no_clip_is_twice_where_a_round_comes_soon_after_another() -> None:
    """Of the same rollout, cut anew, one clip in two is as it was cut before: the offset has two values."""
    rng = np.random.default_rng(0)
    bank = SegmentBank(length=2, num_envs=3, num_steps=20, clips=6)
    bank.add(random_rollout(rng, T=20, ends=0))
    for _ in range(4):
        bank.archive(rng)
        pool, recent = bank.pool(rng, 40)
        digests = [pool[i].digest() for i in range(len(pool))]
        assert len(set(digests)) == len(digests) > recent >= 27
    assert bank.older is not None
    assert len({bank.older[i].digest() for i in range(len(bank.older))}) == len(bank.older) <= 57  # all there are


@pytest.mark.parametrize("seed", range(40))
def test_no_round_lacks_a_clip_because_some_are_twice(seed: int) -> None:
    """Episodes of six steps, of which each has two clips of five: 18 in the rollout, 36 in it and the one before."""
    rng = np.random.default_rng(seed)
    bank = SegmentBank(length=5, num_envs=3, num_steps=20, clips=6)
    bank.keep = 1
    for i in range(2):
        bank.add(ending(random_rollout(np.random.default_rng(i), ends=0), 6))
        for _ in range(6):
            bank.archive(rng)
    assert bank.older is not None
    for wanted in (1, 10, 20, 24):
        pool, _ = bank.pool(rng, wanted)
        assert len({pool[i].digest() for i in range(len(pool))}) == len(pool) >= wanted


@pytest.mark.parametrize("name", ["obs", "action", "next_obs"])
def test_clips_that_begin_alike_are_told_apart_by_what_follows(name: str) -> None:
    rollout = random_rollout(np.random.default_rng(0), T=4, ends=0)
    clips = cut_segments(rollout, 4, np.random.default_rng(0))
    columns = {**clips.arrays(), "next_obs": clips.next_obs}
    columns[name] = columns[name].copy()
    columns[name][1, -1] += 1
    assert module.among(clips, Segments(**columns)).tolist() == [True, False, *[True] * (len(clips) - 2)]


def test_a_first_round_cuts_as_many_clips_as_there_are() -> None:
    """Episodes of six steps: a random offset seldom gives one of five, their beginnings all do."""
    bank = SegmentBank(length=5, num_envs=3, num_steps=20, clips=6)
    bank.keep = 1
    bank.add(ending(random_rollout(np.random.default_rng(1), ends=0), 6))
    assert min(len(bank.pool(np.random.default_rng(k))[0]) for k in range(20)) < 9
    for k in range(20):
        assert len(bank.pool(np.random.default_rng(k), 9)[0]) >= 9


def test_clips_overlap_where_there_are_too_few_apart() -> None:
    """Of 20 steps of three environments in episodes of six: three whole ones each, and two steps; 9 clips of five
    steps, and 18 where they begin one step apart."""
    rollout = ending(random_rollout(np.random.default_rng(1), ends=0), 6)
    rng = np.random.default_rng(0)
    assert [len(cut_segments(rollout, 5, rng, wanted=n)) for n in (9, 10, 18, 30)] == [9, 18, 18, 18]
    assert len({clip.digest() for clip in map(cut_segments(rollout, 5, rng, wanted=10).__getitem__, range(18))}) == 18


def test_bank_state_round_trip() -> None:
    rng = np.random.default_rng(0)
    bank = SegmentBank(length=5, num_envs=3, num_steps=20, clips=6)
    for _ in range(3):
        bank.add(random_rollout(rng))
        bank.archive(rng)
    other = SegmentBank(length=5, num_envs=3, num_steps=20, clips=6)
    other.load_state(bank.state())
    pools = [b.pool(np.random.default_rng(1))[0] for b in (bank, other)]
    assert pools[0].digest() == pools[1].digest()
    np.testing.assert_array_equal(join(bank.rollouts).reward, join(other.rollouts).reward)


def with_frames(rollout: Rollout) -> Rollout:
    """Each step's picture is its number and environment."""
    T, N = rollout.reward.shape
    return replace(rollout, frames=np.array([[b"%d %d" % (t, n) for n in range(N)] for t in range(T)], "S"))


def test_frames_are_cut_with_their_steps() -> None:
    rng = np.random.default_rng(0)
    rollout = with_frames(random_rollout(rng))
    clips = cut_segments(rollout, 4, rng)
    for i in range(len(clips)):
        first = clips[i]
        assert first.frames is not None
        t, n = map(int, first.frames[0].split())
        assert first.frames.tolist() == [b"%d %d" % (t + k, n) for k in range(4)]
        np.testing.assert_array_equal(first.obs, rollout.obs[t : t + 4, n])


def test_rollouts_with_and_without_frames_or_states_are_joined() -> None:
    """As after resuming a run of an earlier version."""
    rng = np.random.default_rng(0)
    some, bare = with_frames(random_rollout(rng)), replace(random_rollout(rng), state=None)
    assert join([some, some]).frames is not None
    for pair in ([some, bare], [bare, some]):
        assert join(pair).frames is None and join(pair).state is None and join(pair).obs.shape[0] == 40


def test_the_bank_carries_frames_as_long_as_they_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    bank = SegmentBank(length=5, num_envs=3, num_steps=20, clips=6, capacity=40)
    monkeypatch.setattr(module, "FRAME_BYTES", 5 * 4 * 7)  # of seven clips
    for _ in range(4):
        bank.add(with_frames(random_rollout(rng, ends=0)))
        bank.archive(rng)
    assert bank.older is not None and bank.older.frames is not None and len(bank.older) == 7
    other = SegmentBank(length=5, num_envs=3, num_steps=20, clips=6)
    other.load_state(bank.state())
    pools = [b.pool(np.random.default_rng(1))[0] for b in (bank, other)]
    assert pools[0].frames is not None and pools[0].digest() == pools[1].digest()


def test_older_clips_are_fewer_where_observations_are_large(capsys: pytest.CaptureFixture[str]) -> None:
    """Of ten clips' size; said once, and checkpoints stop growing."""
    rng = np.random.default_rng(0)
    size = sum(a[0].nbytes for a in cut_segments(random_rollout(rng, ends=0), 5, rng).arrays().values())
    bank = SegmentBank(length=5, num_envs=3, num_steps=20, clips=6, older_bytes=10 * size)
    say_once.cache_clear()
    for _ in range(4):
        bank.add(random_rollout(rng, ends=0))
        bank.archive(rng)
    assert bank.older is not None and len(bank.older) == 10
    assert capsys.readouterr().err.count("only 10 older clips of 5 steps kept") == 1
    roomy, usual = (SegmentBank(length=5, num_envs=3, num_steps=20, clips=6, **o) for o in ({"older_bytes": 10**9}, {}))
    for seed in range(3):
        for other in (roomy, usual):
            other.add(random_rollout(np.random.default_rng(seed)))
            other.archive(np.random.default_rng(seed))
    assert roomy.older is not None and usual.older is not None and roomy.older.digest() == usual.older.digest()
    assert capsys.readouterr().err == ""


def test_where_no_offset_fits_clips_begin_with_their_episodes() -> None:
    """Episodes of six steps: at five offsets of six no clip is within one."""
    done = np.zeros((60, 1), bool)
    done[5::6] = True
    drawn = random_rollout(np.random.default_rng(0), T=60, N=1, ends=0)
    columns = {name: column for name, column in vars(drawn).items() if name != "successors"}
    columns |= {"next_obs": drawn.obs, "terminated": done, "truncated": np.zeros_like(done)}
    rollout = Rollout.of(**columns)
    clips = cut_segments(rollout, 6, np.random.default_rng(1))
    assert len(clips) in (9, 10)
    np.testing.assert_array_equal(clips.obs[0], rollout.obs[:6, 0])


def test_the_ends_of_episodes_are_kept_as_far_as_they_are_there() -> None:
    """Two environments, episodes of 7 and 4 steps, rollouts of 5: at most 6 steps of each, from its first on, which may
    lie in the rollout before."""
    rng, num_steps = np.random.default_rng(0), 5
    done = np.zeros((20, 2), bool)
    done[6::7, 0] = done[3::4, 1] = True
    whole = replace(random_rollout(rng, T=20, N=2, ends=0.0), truncated=done)
    whole = Rollout.of(**{k: v for k, v in vars(whole).items() if k != "successors"}, next_obs=whole.obs + 1)
    bank = SegmentBank(2, 2, num_steps, clips=1, time_limit=7, ends=Ends(6, 3))
    assert bank.first_full == 2  # 3 episodes of 2 environments: two of each, 14 steps, three rollouts
    columns = [name for name, value in vars(whole).items() if isinstance(value, np.ndarray) and name != "successors"]
    for t in range(0, 20, num_steps):
        part = {name: getattr(whole, name)[t : t + num_steps] for name in columns}
        bank.add(Rollout.of(**part, next_obs=whole.next_obs[t : t + num_steps]))
    expected = {(1, 0, 4), (0, 1, 7), (1, 4, 8), (1, 8, 12), (0, 8, 14), (1, 12, 16), (1, 16, 20)}
    found = {(n, t, t + len(e)) for e in bank.episodes for t, n in np.argwhere((whole.obs == e.obs[0]).all(-1))}
    assert found == expected
    for episode in bank.episodes:
        ((t, n),) = np.argwhere((whole.obs == episode.obs[0]).all(-1))
        np.testing.assert_array_equal(episode.action, whole.executed[t : t + len(episode), n])
    again = SegmentBank(2, 2, num_steps, clips=1, ends=Ends(6, 3))
    again.load_state(bank.state())
    assert [episode.digest() for episode in again.episodes] == [episode.digest() for episode in bank.episodes]
    bank.older_bytes = 1
    bank.add(bank.rollouts[-1])
    assert len(bank.episodes) == 1  # the newest, however large


def test_episodes_that_ended_early_are_cut_up_to_their_ends() -> None:
    """Of the last rollouts, as many steps as a clip has at most; what was merely cut off is none."""
    rng = np.random.default_rng(0)
    done = np.zeros((12, 2), bool)
    done[3, 0] = done[10, 0] = done[5, 1] = True
    rollout = replace(random_rollout(rng, T=12, N=2, ends=0.0), terminated=done)
    rollout = replace(rollout, truncated=np.arange(12)[:, None] == [8, 8])
    columns = {k: v for k, v in vars(rollout).items() if k != "successors"}
    bank = SegmentBank(5, 2, 6, clips=1)
    whole = Rollout.of(**columns, next_obs=rollout.obs + 1)
    names = [name for name, value in columns.items() if isinstance(value, np.ndarray)]
    for t in (0, 6):
        part = {name: columns[name][t : t + 6] for name in names}
        bank.add(Rollout.of(**part, next_obs=whole.next_obs[t : t + 6]))
    assert bank.episodes == []
    found = [(n, t, t + len(e)) for e in bank.early_ends() for t, n in np.argwhere((whole.obs == e.obs[0]).all(-1))]
    assert found == [(0, 0, 4), (1, 1, 6), (0, 9, 11)]
