"""Names in a request that can be known to be wrong before anything is made."""

from rlhf_control.behaviours.own import load_behaviours
from rlhf_control.config import FinetuneConfig, PretrainConfig
from rlhf_control.errors import UserError
from rlhf_control.feedback.oracles import make_oracle
from rlhf_control.interop.policies import find_policy
from rlhf_control.queries.strategies import find_strategy
from rlhf_control.simulation.foreign import check_env_id
from rlhf_control.training.parts import check_score


def refuse_unknown(config: PretrainConfig | FinetuneConfig, where: str) -> None:
    """Raises UserError, beginning with `where`, for an environment, a policy, an oracle, a behaviour or a query
    strategy that there is not. Runs a behaviours file that the config names."""
    try:
        if isinstance(config, PretrainConfig):
            check_env_id(config.env_id)
            return
        if config.behaviours:
            load_behaviours(config.behaviours)
        env_id = config.env_id or find_policy(config.policy, config.env_id).env_id
        check_env_id(env_id)
        find_strategy(config.queries)
        check_score(config, env_id)
        make_oracle(config.oracle, env_id, config.oracle_temperature, config.annotator)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
