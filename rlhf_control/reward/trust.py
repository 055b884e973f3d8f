"""How far each annotator is to be trusted, found from the same answers as the reward.

An annotator of trust t sees t times the difference between clips that the reward says there is: 1 is one of the
trusted, 0 answers at random, -1 always says the opposite, and is as good a witness as the first once that is known
(TriTrust-PBRL, arXiv 2601.18751, where gradients find it; here it is the likeliest on answers held out). Turning all
signs and the reward round changes no likelihood; the prior about 1 says that most are honest. Pure functions.

G candidates, Q answers, A annotators.
"""

import numpy as np

from rlhf_control.data import Array

CANDIDATES = np.linspace(-1.0, 1.0, 17)
PRIOR_STD = 0.5  # of a normal prior about 1: to make a liar of somebody takes a dozen answers


def most_likely_trust(log_prob: Array, annotator: Array, question: Array) -> tuple[Array, Array]:
    """Return the trust (A,) of each annotator under which the answers are likeliest, and for every answer (Q,) that of
    its annotator without the answers to the same question, so that no answer vouches for itself.

    log_prob (G, Q): of each answer, were its annotator of each trust in CANDIDATES; annotator (Q,) numbers from 0, -1
    for whoever is beyond doubt (their answers get 1); question (Q,) the same number for answers about the same clips.
    """
    known = annotator >= 0
    prior = -np.square((CANDIDATES - 1) / PRIOR_STD) / 2
    whole = np.tile(prior[:, None], annotator.max(initial=-1) + 1)  # (G, A)
    np.add.at(whole.T, annotator[known], log_prob[:, known].T)
    pairs, place = np.unique(np.stack([annotator, question], 1), axis=0, return_inverse=True)
    own = np.zeros((len(pairs), len(CANDIDATES)))  # of all answers of one annotator to one question
    np.add.at(own, place.ravel(), log_prob.T)
    without = np.where(known, CANDIDATES[(whole[:, annotator] - own[place.ravel()].T).argmax(0)], 1.0)
    return CANDIDATES[whole.argmax(0)], without
