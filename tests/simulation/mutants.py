"""Test the tester: mistakes planted in the rules, in the log and in the host, each of which a seed must find.

`make mutants` prints which. A mutant is a class with one thing wrong; `attack` and `nodes` say in which runs it can
show, so that the search is short; nothing else is arranged.
"""

import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from simulation.engine_mutants import MUTANTS
from simulation.planted import MAX_SEEDS, hunt
from simulation.stories import plans_for
from simulation.whole_mutants import WHOLE_MUTANTS


def main() -> int:
    survivors = 0
    broken: Counter[str] = Counter()
    for mutant in [*MUTANTS, *WHOLE_MUTANTS]:
        found = hunt(mutant, plans=plans_for(mutant))
        survivors += found is None
        if found is None:
            text = f"SURVIVED {MAX_SEEDS} seeds"
        else:
            broken[mutant.promise] += 1
            text = f"seed {found.report.seed:3}  {found.report.failure}"
        print(f"{mutant.name:46} {text[:110]}", flush=True)
    count = len(MUTANTS) + len(WHOLE_MUTANTS)
    print(
        f"{count - survivors} of {count} found, by: {', '.join(f'{name} {n}' for name, n in broken.most_common())}"
    )
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
