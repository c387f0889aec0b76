"""Published recipes for simulated people, over any reply pool: each records its full truth, licences and costs.

People whose choices follow from scores are made at once (`Made`); people whom a chat model plays are first a plan, which says
what it costs (`plan.cost(calls)`) before it asks (`plan.make(calls)`).
"""

from palate.simulate.recipes.calls import Calls, Cost
from palate.simulate.recipes.consistency import Consistency
from palate.simulate.recipes.made import Made
from palate.simulate.recipes.pool import ReplyPool, reply_pool
from palate.simulate.recipes.profiles import Profiles, drawn_profiles, profiles_played, read_profiles
from palate.simulate.recipes.roles import Role, RolePlay
from palate.simulate.recipes.scored import STYLES, Scorers, long_short, personal_llm, scorers_of
from palate.simulate.recipes.traits import attributes, attributes_played, opposing, opposing_played

__all__ = [
    "STYLES",
    "Calls",
    "Consistency",
    "Cost",
    "Made",
    "Profiles",
    "ReplyPool",
    "Role",
    "RolePlay",
    "Scorers",
    "attributes",
    "attributes_played",
    "drawn_profiles",
    "long_short",
    "opposing",
    "opposing_played",
    "personal_llm",
    "profiles_played",
    "read_profiles",
    "reply_pool",
    "scorers_of",
]
