from rlhf_control.bench.dialogue_peer import DIALOGUES, LENGTHS, OF_EACH, REPLY, ours


def test_ours_replies_and_learns() -> None:
    rollout, update, tokens_of = ours()
    data = rollout()
    assert data.reward.shape == (REPLY, DIALOGUES) and tokens_of(data) == DIALOGUES * REPLY
    assert 0.95 < OF_EACH * sum(LENGTHS) / tokens_of(data) < 1.05 and max(LENGTHS) == REPLY
    update(data)
