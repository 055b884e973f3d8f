"""Networks: encoders, distributions, the policy, and the policies that ship."""
