"""The learner: PPO, its compiled twin, returns and the KL anchor. Knows nothing of preferences."""
