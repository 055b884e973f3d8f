"""PPO on tokens, kept warm for `dialogue.py` to time: ours, or the same in plain PyTorch around Hugging Face's GPT-2.

A script of its own, because the peer needs an interpreter of its own: it imports nothing of this project but for ours.
Every line on stdin asks for a run of that many seconds; the answer is a line of JSON.

Replies are as long as the shipped policy's are, 2 to 24 tokens and 9.5 on the mean, to prompts of about 6. Ours is that
policy, in 88 dialogues that begin anew where one ends, for 24 steps. The peer has random weights, so lengths are drawn
from LENGTHS; as `generate` does, it goes on until the longest of its 216 replies is there, and what stands behind an
end is masked. Both then have some 2,100 tokens to learn from, pay for the KL from a reference, and take 4 epochs of 4
minibatches. Each model has 3 layers of width 64 with 4 heads, a vocabulary of 1952, an output layer of its own and a
critic. Both may use all cores: the peer by torch's own threads, ours by two halves of a minibatch.

python dialogue_peer.py ours|transformers
"""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch

DIALOGUES, PROMPT, REPLY, VOCABULARY, CONTEXT = 88, 6, 24, 1952, 56
WIDTH, LAYERS, HEADS = 64, 3, 4
LENGTHS = (3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 14, 14, 16, 24)  # of replies, ...
OF_EACH = 9  # ... so many of each
EPOCHS, MINIBATCHES, LR, CLIP, VALUE, BETA, GAMMA, LAMBDA, MAX_NORM = 4, 4, 3e-4, 0.2, 0.1, 0.02, 1.0, 0.95, 0.5
Parts = tuple[Callable[[], Any], Callable[[Any], None], Callable[[Any], int]]  # a rollout, an update on it, its tokens


def ours() -> Parts:
    from dataclasses import replace

    from rlhf_control.config import ReferenceConfig
    from rlhf_control.config.presets import preset
    from rlhf_control.nets.zoo import own_policy
    from rlhf_control.rl.kl_anchor import Anchor
    from rlhf_control.rl.ppo import PPO
    from rlhf_control.rng import stream
    from rlhf_control.simulation.double_buffer import start_double_buffered

    policy = own_policy("dialogue")
    size = DIALOGUES * REPLY // MINIBATCHES
    own = preset("rlhf/Dialogue-v0", "tuned").ppo
    ppo = replace(own, num_envs=DIALOGUES, num_steps=REPLY, minibatch_size=size, epochs=EPOCHS)
    envs = start_double_buffered("rlhf/Dialogue-v0", DIALOGUES, seed=0)
    learner, anchor, rng = PPO(policy, ppo), Anchor(policy, ReferenceConfig("pretrained", BETA)), stream(0, "bench")

    def update(rollout: Any) -> None:
        penalty, _ = anchor.penalty(learner, rollout)
        learner.update(rollout.with_reward(rollout.reward - penalty), rng, 0.0)

    return lambda: envs.collect(learner, REPLY, rng), update, lambda rollout: rollout.reward.size


def transformers() -> Parts:
    """Makes a GPT-2 with a linear critic on its last layer. It generates with its own cache; an update reads each
    sequence once, up to the longest of its minibatch, as TRL's and trlx's did."""
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"vocab_size": VOCABULARY, "n_positions": CONTEXT, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS}
    quiet = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}  # as in PPO on language it has to be
    config = GPT2Config(**sizes, **quiet, bos_token_id=1, eos_token_id=2, pad_token_id=0, tie_word_embeddings=False)
    torch.manual_seed(0)
    model, reference = GPT2LMHeadModel(config), GPT2LMHeadModel(config)
    reference.load_state_dict(model.state_dict())
    critic = torch.nn.Linear(WIDTH, 1)
    optimizer = torch.optim.Adam([*model.parameters(), *critic.parameters()], lr=LR, eps=1e-5, fused=True)

    def read(own: Any, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities of the replies' tokens, and what the last layer says before each."""
        out = own(tokens[:, :-1], attention_mask=torch.ones_like(tokens[:, :-1]), output_hidden_states=True)
        log_p = out.logits[:, PROMPT - 1 :].log_softmax(-1)
        taken = log_p.gather(-1, tokens[:, PROMPT:, None])[..., 0]
        return taken, out.hidden_states[-1][:, PROMPT - 1 :]

    def rollout() -> tuple[torch.Tensor, torch.Tensor]:
        prompts = torch.randint(3, VOCABULARY, (OF_EACH * len(LENGTHS), PROMPT))
        lengths = torch.tensor(LENGTHS * OF_EACH)[torch.randperm(len(prompts))]
        with torch.no_grad():
            tokens = model.generate(
                prompts, attention_mask=torch.ones_like(prompts), do_sample=True, top_k=0,
                max_new_tokens=int(lengths.max()), min_new_tokens=int(lengths.max()),
            )  # fmt: skip
        return tokens, torch.arange(REPLY) < lengths[:, None]

    def update(data: tuple[torch.Tensor, torch.Tensor]) -> None:
        tokens, mask = data
        with torch.no_grad():
            old, hidden = read(model, tokens)
            value = critic(hidden)[..., 0] * mask
            reward = -BETA * (old - read(reference, tokens)[0]) * mask
            advantage, running = torch.zeros_like(value), torch.zeros(len(value))
            for t in reversed(range(REPLY)):
                following = value[:, t + 1] if t + 1 < REPLY else torch.zeros(len(value))
                running = (reward[:, t] + GAMMA * following - value[:, t] + GAMMA * LAMBDA * running) * mask[:, t]
                advantage[:, t] = running
            returns = advantage + value
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(tokens)).chunk(MINIBATCHES):
                there = mask[rows]
                longest = int(there.sum(1).max())
                there = there[:, :longest]
                log_prob, hidden = read(model, tokens[rows, : PROMPT + longest])
                ratio = (log_prob - old[rows, :longest]).exp()[there]
                own = advantage[rows, :longest][there]
                own = (own - own.mean()) / (own.std() + 1e-8)
                loss = -torch.min(ratio * own, ratio.clamp(1 - CLIP, 1 + CLIP) * own).mean()
                loss = loss + VALUE * (critic(hidden)[..., 0] - returns[rows, :longest])[there].square().mean()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_([*model.parameters(), *critic.parameters()], MAX_NORM)
                optimizer.step()

    return rollout, update, lambda data: int(data[1].sum())


PEERS = {"ours": (ours, "rlhf_control"), "transformers": (transformers, "transformers")}


def main() -> None:
    made, package = PEERS[sys.argv[1]]
    out = sys.stdout
    sys.stdout = sys.stderr  # what libraries print is not for us
    torch.set_num_threads(1 if sys.argv[1] == "ours" else len(os.sched_getaffinity(0)))
    rollout, update, tokens_of = made()
    update(rollout())
    print(json.dumps({"version": version(package)}), file=out, flush=True)
    for line in sys.stdin:
        steps, parts, started = 0, {"rollout": 0.0, "update": 0.0}, time.perf_counter()
        while (seconds := time.perf_counter() - started) < float(line) or not steps:
            begun = time.perf_counter()
            data = rollout()
            between = time.perf_counter()
            update(data)
            parts["rollout"] += between - begun
            parts["update"] += time.perf_counter() - between
            steps += tokens_of(data)
        print(json.dumps({"seconds": seconds, "steps": steps, "parts": parts}), file=out, flush=True)


if __name__ == "__main__":
    if not getattr(sys.flags, "safe_path", False):  # since Python 3.11
        sys.path.pop(0)  # this file's folder, whose modules are no packages
    main()
