from rlhf_control.simulation.atari.env import AtariEnv


def test_a_single_one_is_driven_by_keys_and_follows_from_its_reset() -> None:
    env = AtariEnv("ALE/Pong-v5", render_mode="rgb_array")
    assert env.metadata["render_fps"] == 15
    keys = env.get_keys_to_action()
    assert keys[()] == 0 and env.get_action_meanings()[keys[("right",)]] == "RIGHT"

    def episode(seed: int | None) -> list[bytes]:
        obs = [env.reset(seed=seed)[0]]
        for t in range(30):
            obs.append(env.step(t % 6)[0])
        return [o.tobytes() for o in obs]

    assert episode(3) == episode(3)
    picture = env.render()
    assert picture is not None and picture.shape == (210, 160, 3) and picture.any()
    assert not env.step(0)[4]["game_over"]
    env.close()
